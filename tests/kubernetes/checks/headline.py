"""From the API server's answer until the last of a thousand nodes has a change: only printed.

Three nodes are real. The others are only known, each with an endpoint that the policy selects, and
an agent that is no more than its stream and acknowledges at once. All of this shares one machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Self

import pytest

from tests.kubernetes.checks.conftest import figures
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.hosts import CONTROL
from tests.kubernetes.objects import Pods, namespace, network_policy, pod
from tests.kubernetes.prompt import ApiCalls, Stream
from tests.kubernetes.romana import PORTS, Romana
from tests.kubernetes.shell import until

NODES = 1000
TIMES = 20
PROCESSES = 2
POLICIES = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies"
FRONT = {"matchLabels": {"role": "front"}}
NETWORK = "simulated"
READY_SECONDS = 300.0


class Crowd:
    """Simulated agents in one process."""

    def __init__(self, cluster: Cluster, address: str, first: int, count: int) -> None:
        line = (sys.executable, "-m", "tests.bench.light_agents", address, first, count)
        self._process = subprocess.Popen(
            cluster.hosts.inside(CONTROL, *line),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.is_ready = False
        self._told: list[float] = []
        """When the last of all acknowledged."""
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def since(self, at: float) -> float:
        """How long after that the last of all acknowledged."""
        found: list[float] = []

        def is_told() -> bool:
            found[:] = [last for last in self._told if last > at]
            return bool(found)

        until("all simulated agents to be told", is_told, pause=0.02)
        return found[-1] - at

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == "ready":
                self.is_ready = True
            else:
                self._told.append(float(line))


@pytest.fixture
def simulated(romana: Romana) -> Iterator[int]:
    """Nodes with an endpoint of the tenant `default` each; how many."""
    many = NODES - len(romana.cluster.hosts.nodes)
    known = romana.topology()
    network = {"name": NETWORK, "cidr": "10.64.0.0/16", "block_length": 29, "reuse_delay": "0s"}
    more = {
        "networks": [*known["networks"], network],
        "topologies": [*known["topologies"], {"networks": [NETWORK]}],
    }
    romana.run("topology", "apply", "-", text=json.dumps(more))
    simulate(romana, "up", many)
    yield many
    simulate(romana, "down", many)
    romana.run("topology", "apply", "--yes", "-", text=json.dumps(known))


def simulate(romana: Romana, verb: str, many: int) -> None:
    at = romana.cluster.hosts.address(CONTROL)
    services = [f"{at}:{PORTS[name]}" for name in ("topology", "ipam", "policy")]
    line = (sys.executable, "-m", "tests.kubernetes.simulated_nodes", verb, many, "default")
    romana.cluster.run(CONTROL, *line, NETWORK, *services)


def test_a_change_is_on_a_thousand_nodes_at_once(
    simulated: int, pods: Pods, romana: Romana
) -> None:
    pods.run(
        namespace("shop"), pod("web", node="node-1"), pod("client", space="shop", node="node-2")
    )
    address = pods.address("web")
    rules = network_policy("some", app="", peers=[{"podSelector": FRONT, "namespaceSelector": {}}])
    where = romana.namespace_of("node-2", pods.endpoint("client", "shop"))
    service = f"{romana.cluster.hosts.address(CONTROL)}:{PORTS['policy']}"
    half = simulated // PROCESSES
    with (
        Crowd(romana.cluster, service, 0, half) as one,
        Crowd(romana.cluster, service, half, simulated - half) as other,
        ApiCalls(romana.cluster) as api,
        Stream(where, address) as stream,
    ):
        until(
            "agents to be in sync",
            lambda: one.is_ready and other.is_ready,
            seconds=READY_SECONDS,
        )
        stream.first_answered(0)
        closed, opened = [], []
        for _ in range(TIMES):
            at = api.call("POST", POLICIES, rules)
            kernel = stream.last_answered(at)
            closed.append(max(kernel, one.since(at), other.since(at)))
            at = api.call("DELETE", f"{POLICIES}/some")
            kernel = stream.first_answered(at)
            opened.append(max(kernel, one.since(at), other.since(at)))
    figures.append(
        f"a policy on {simulated + 3} nodes, one of them real, median of {TIMES}: "
        f"{middle(closed)} to close, {middle(opened)} to open (aim: 100 ms)"
    )


def middle(seconds: list[float]) -> str:
    return f"{sorted(seconds)[len(seconds) // 2] * 1000:.0f} ms"
