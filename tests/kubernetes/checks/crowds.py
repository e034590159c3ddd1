"""A thousand pods for networks that are nine tenths full: none is bound without an address."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.kubernetes import files
from tests.kubernetes.checks.conftest import figures
from tests.kubernetes.hosts import CONTROL
from tests.kubernetes.objects import Pods, deployment
from tests.kubernetes.romana import EXTENDER, Romana
from tests.kubernetes.shell import until

NETWORKS = ("blue", "green")
SIZE = 250
"""Addresses of each: neither the first and last, the gateway's, nor the nodes'."""
MANY = 1000
FEW = 150
"""Without the extender: what is bound without an address costs its node more than what waits."""
LEFT = 25
SECONDS = 900.0
ROW = "{range .items[*]}{.status.phase} {.spec.nodeName}{'\\n'}{end}"


@pytest.fixture
def filled(romana: Romana) -> Iterator[None]:
    """Fills the networks with what is no pod's."""
    nodes = itertools.cycle(romana.cluster.hosts.nodes)
    specs = [
        {
            "name": f"filler-{network}-{number}",
            "node": next(nodes),
            "tenant": "default",
            "addresses": [{"network": network}],
        }
        for network in NETWORKS
        for number in range(SIZE - LEFT)
    ]
    answer = romana.call("ipam", "AllocateAddresses", specs=specs)
    assert not any(one.get("status", {}).get("code") for one in answer["results"])
    yield
    names = [{"name": spec["name"]} for spec in specs]
    romana.call("ipam", "ReleaseAddresses", specs=names)


def phases(pods: Pods) -> Counter[str]:
    """How many pods run, wait for kube-scheduler, or are bound and do not run."""
    said = pods.cluster.kubectl("get", "pods", "-o", f"jsonpath={ROW}").stdout
    found: Counter[str] = Counter()
    for line in said.splitlines():
        phase, _, node = line.partition(" ")
        found["running" if phase == "Running" else "stuck" if node else "waiting"] += 1
    return found


def crowd(pods: Pods, many: int) -> None:
    """Has them made."""
    for network in NETWORKS:
        command = ("sleep", "3600")
        count = many // len(NETWORKS)
        pods.cluster.apply(deployment(f"crowd-{network}", count, command=command, network=network))
    until("pods", lambda: phases(pods).total() == many, seconds=SECONDS, pause=2)


def disperse(pods: Pods) -> None:
    """Has them end, those that do not run first."""
    pods.cluster.kubectl("delete", "deployments", "--all", "--wait=true", "--cascade=foreground")


@pytest.mark.usefixtures("filled")
def test_with_the_extender_every_pod_that_is_bound_has_an_address(pods: Pods) -> None:
    crowd(pods, MANY)
    room = LEFT * len(NETWORKS)
    want = Counter({"running": room, "waiting": MANY - room})
    until("all that fit to run", lambda: phases(pods) == want, seconds=SECONDS, pause=2)
    figures.append(f"{MANY} pods for {room} addresses: 0 bound without one")
    disperse(pods)


@pytest.mark.usefixtures("filled")
def test_without_it_they_are_bound_to_nothing(pods: Pods, romana: Romana) -> None:
    """What the extender is for, in figures."""
    hosts = romana.cluster.hosts
    files.write_scheduler(hosts, None)
    romana.cluster.restart(CONTROL, "kube-scheduler")
    try:
        crowd(pods, FEW)
        room = LEFT * len(NETWORKS)
        until(
            "all that fit to run", lambda: phases(pods)["running"] == room, seconds=SECONDS, pause=2
        )
        want = Counter({"running": room, "stuck": FEW - room})
        until("the others to be bound", lambda: phases(pods) == want, seconds=SECONDS, pause=2)
        figures.append(f"without the extender: {FEW - room} of {FEW} bound without one")
        disperse(pods)
    finally:
        files.write_scheduler(hosts, {"urlPrefix": EXTENDER})
        romana.cluster.restart(CONTROL, "kube-scheduler")
