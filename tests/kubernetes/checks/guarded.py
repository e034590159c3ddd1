"""What is denied is never let through, from before there is a pod on."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from tests.kubernetes.objects import PORT, Pods, network_policy, pod
from tests.kubernetes.romana import HERE, Romana
from tests.kubernetes.shell import until

ROUNDS = 5
ADDRESS_ON_NODE_1 = "10.60.0.200"


@contextlib.contextmanager
def probing(romana: Romana, node: str, endpoint: str, address: str) -> Iterator[list[str]]:
    """Asks every 20 ms from a pod until the block ends; then has what was answered."""
    answers: list[str] = []
    where = romana.namespace_of(node, endpoint)
    line = (sys.executable, HERE / "probe.py", "until", "tcp", address, str(PORT))
    command = ["nsenter", f"--net={where}", *map(str, line), "--timeout", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield answers
            if process.poll() is not None:
                answers.append(process.communicate()[0])
        finally:
            process.kill()


def test_a_denied_peer_never_reaches_a_pod(pods: Pods, romana: Romana) -> None:
    friend = {"podSelector": {"matchLabels": {"app": "friend"}}}
    pods.run(
        network_policy("closed", app="web", peers=[friend]),
        pod("near", node="node-1"),
        pod("far", node="node-2"),
        pod("friend", node="node-2"),
    )
    peers = {name: pods.endpoint(name) for name in ("near", "far")}
    for _ in range(ROUNDS):
        web = pod("web", node="node-1", addresses=ADDRESS_ON_NODE_1)
        with (
            probing(romana, "node-1", peers["near"], ADDRESS_ON_NODE_1) as near,
            probing(romana, "node-2", peers["far"], ADDRESS_ON_NODE_1) as far,
        ):
            pods.run(web)
            pods.until_asked("friend", ADDRESS_ON_NODE_1, "")
            pods.delete(web)
            until("its link to be gone", lambda: len(romana.links()) == 3)
        assert (near, far) == ([], [])
