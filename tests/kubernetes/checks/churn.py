"""Pods come and go amid crashes, and nothing of them is left."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from tests.kubernetes.checks.conftest import figures
from tests.kubernetes.faults import Kills
from tests.kubernetes.hosts import CONTROL
from tests.kubernetes.objects import Pods, deployment
from tests.kubernetes.romana import CONTROLLERS, Romana
from tests.kubernetes.shell import Failed, until

Traces: TypeAlias = Mapping[str, Sequence[str]]

ROUNDS = 5
MANY = 60
PAUSE = 4.0
SECONDS = 600.0


def test_a_deployment_that_comes_and_goes_amid_crashes_leaves_nothing(
    pods: Pods, romana: Romana
) -> None:
    cluster = romana.cluster
    until("nothing to be left of others", romana.is_bare, seconds=240)
    before = romana.traces()
    many = deployment("many", 0, command=("sleep", "3600"))
    cluster.apply(many)
    on_nodes = [(node, name) for node in cluster.hosts.nodes for name in ("agent", "kubelet")]
    in_control = ("ipam", "policy", "topology", "romana-etcd", "kube-apiserver", *CONTROLLERS)
    seed = random.randrange(1 << 32)
    figures.append(f"a crowd amid crashes: seed {seed}")

    def running() -> int:
        said = cluster.kubectl("get", "deployment", "many", "-o", READY, check=False).stdout
        return int(said) if said.isdecimal() else 0 if said else -1

    def there() -> bool:
        listed = cluster.kubectl("get", "pods", "-l", "app=many", "-o", "name", check=False)
        return bool(listed.returncode or listed.stdout)

    def scale(count: int) -> bool:
        order = ("scale", "deployment/many", f"--replicas={count}")
        return not cluster.kubectl(*order, check=False).returncode

    targets = [*on_nodes, *((CONTROL, name) for name in in_control)]
    with Kills(cluster, targets, pause=PAUSE, seed=seed) as kills:
        for _ in range(ROUNDS):
            until("the order to be taken", lambda: scale(MANY))
            took = until(
                f"{MANY} pods to run", lambda: running() == MANY, seconds=SECONDS, pause=0.5
            )
            until("the order to be taken", lambda: scale(0))
            gone = until(
                "pods to be gone, and counted as gone",
                lambda: not there() and running() != MANY,
                seconds=SECONDS,
                pause=0.5,
            )
            figures.append(f"  {MANY} pods up in {took:.0f} s, gone in {gone:.0f} s")
    figures.append(f"  {kills.count} programs killed")
    pods.delete(many)
    until("all to be given back and forgotten", romana.is_bare, seconds=240)
    with contextlib.suppress(Failed):
        until("the nodes to be as before", lambda: romana.traces() == before, seconds=240)
    assert not list(differences(before, romana.traces()))
    assert romana.run("ipam", "check")


def differences(before: Traces, after: Traces) -> Iterator[str]:
    """What came and what went, by node."""
    for node, had in before.items():
        yield from (f"{node}: + {line}" for line in Counter(after[node]) - Counter(had))
        yield from (f"{node}: - {line}" for line in Counter(had) - Counter(after[node]))


READY = "jsonpath={.status.readyReplicas}"
