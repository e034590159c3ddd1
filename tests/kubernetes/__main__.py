"""Brings up a cluster to try things on, as `make kubernetes-test` does.

python -m tests.kubernetes up [--nodes 2] [--reference | --romana]
python -m tests.kubernetes kubectl get nodes -o wide
python -m tests.kubernetes exec node-1 ip route        outside, control, or a node
python -m tests.kubernetes stop|start|kill node-1 kubelet
python -m tests.kubernetes romana address list
python -m tests.kubernetes down
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.kubernetes.cluster import Cluster
from tests.kubernetes.files import kubeconfig
from tests.kubernetes.hosts import CONTROL
from tests.kubernetes.romana import EXTENDER, WIRES, Romana
from tests.kubernetes.shell import Failed

FOLDER = Path(os.environ.get("ROMANA_KUBERNETES_TEST_DIR", "/var/tmp/romana-kubernetes-test"))
"""Kept from run to run: building Kubernetes takes 10 minutes."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up")
    up.add_argument("--nodes", type=int, default=2)
    up.add_argument("--reference", action="store_true", help="with the plug-ins ptp and host-local")
    up.add_argument("--romana", action="store_true", help="with Romana")
    verbs.add_parser("down")
    for verb in ("start", "stop", "kill"):
        one = verbs.add_parser(verb)
        one.add_argument("host")
        one.add_argument("program")
    executing = verbs.add_parser("exec")
    executing.add_argument("host")
    for one in (executing, verbs.add_parser("kubectl"), verbs.add_parser("romana")):
        one.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    try:
        return _perform(args)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1


def _perform(args: argparse.Namespace) -> int:
    if args.verb == "up":
        cluster = Cluster.up(
            FOLDER,
            nodes=args.nodes,
            wires=WIRES if args.romana else None,
            extender=EXTENDER if args.romana else "",
        )
        if args.romana:
            Romana(cluster).up()
        elif args.reference:
            cluster.reference_network()
            cluster.wait_ready()
        return 0
    cluster = Cluster.known(FOLDER)
    romana = Romana(cluster)
    match args.verb:
        case "down":
            cluster.down()
        case "romana":
            print(romana.run(*args.command), end="")
        case "start":
            cluster.start(args.host, args.program)
        case "stop" | "kill":
            signal = "KILL" if args.verb == "kill" else "TERM"
            cluster.stop(args.host, args.program, signal=signal)
        case "exec" | "kubectl":
            words = args.command
            host = CONTROL
            if args.verb == "exec":
                host = args.host
            else:
                config = f"--kubeconfig={kubeconfig(cluster.hosts, '')}"
                words = [f"{FOLDER}/bin/kubectl", config, *words]
            line = cluster.hosts.inside(host, *words)
            os.execvp(line[0], line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
