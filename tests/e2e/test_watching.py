"""What docs/watching.md says of metrics, against the real ones."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import generate_latest

from services.agent.kernel.drivers import KernelDrivers
from services.agent.metrics import AgentCollector, AgentMetrics, PolicyCollector, PolicyMetrics
from services.agent.model import Myself
from services.agent.routing.reconcile import Reconciler
from services.agent.rules.ending import Ending
from services.agent.rules.enforce import Enforcement
from services.agent.rules.firewall import Firewall
from services.common.model.failsafe import Failsafe
from services.common.model.names import NodeName
from services.common.process.certificate_metrics import CertificateCollector
from services.common.process.metrics import LoopLag, new_registry
from services.common.rpc.metrics import RpcMetrics
from services.console.follow.world import Remote, World
from services.console.metrics import ConsoleCollector
from services.kubernetes.cluster.kinds import WORDS
from services.kubernetes.metrics import ControllerMetrics
from tests.e2e.local_cluster import up

pytestmark = pytest.mark.timeout(300)

WATCHING = Path(__file__).parents[2] / "docs" / "watching.md"
KINDS = "counter|gauge|histogram"


def documented() -> dict[str, str]:
    """Kinds of metrics by name."""
    return dict(re.findall(rf"(?m)^\| `(romana_\w+)` \| ({KINDS}) \|", WATCHING.read_text()))


def exposed(address: str) -> dict[str, str]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=60) as answer:
        return kinds(answer.read().decode())


def of_the_agent(folder: Path) -> dict[str, str]:
    """Those that `services.agent.main` registers, without a node to run on."""
    registry = new_registry("agent")
    AgentMetrics(registry)
    PolicyMetrics(registry)
    reconciler = Reconciler(KernelDrivers(folder), Myself(NodeName("n1"), ()))
    AgentCollector(reconciler, lambda: False, lambda: 0, lambda: False, registry)
    firewall = Firewall()
    enforcement = Enforcement(firewall, Ending(firewall), Failsafe())
    PolicyCollector(enforcement, lambda: False, registry)
    RpcMetrics(registry)
    CertificateCollector({}, registry)
    LoopLag(registry)
    return kinds(generate_latest(registry).decode())


def of_the_controller() -> dict[str, str]:
    """Those that `services.kubernetes.main` registers, without an API server."""
    registry = new_registry("kubernetes")
    ControllerMetrics(registry, WORDS, lambda: False)
    LoopLag(registry)
    return kinds(generate_latest(registry).decode())


async def of_the_console() -> dict[str, str]:
    """Those that `services.console.main` registers, without services."""
    services: Any = SimpleNamespace(stubs=())
    remote = Remote(services, services, services, services)
    world = World(remote, {"topology": (), "ipam": (), "policy": ()})
    registry = new_registry("console")
    ConsoleCollector(world, registry)
    LoopLag(registry)
    return kinds(generate_latest(registry).decode())


def kinds(text: str) -> dict[str, str]:
    found = dict(re.findall(rf"(?m)^# TYPE (romana_\w+) ({KINDS})$", text))
    return {name: kind for name, kind in found.items() if not name.endswith("_created")}


def test_the_documented_metrics_are_those_there_are(tmp_path: Path) -> None:
    with up(tmp_path / "data") as made:
        topology = exposed(made.cluster["topology_metrics"])
        ipam = exposed(made.cluster["ipam_metrics"])
        policy = exposed(made.cluster["policy_metrics"])
    agent = of_the_agent(tmp_path)
    others = {**of_the_controller(), **asyncio.run(of_the_console())}
    assert {**topology, **ipam, **policy, **agent, **others} == documented()
    own = re.compile("romana_(ipam|topology|policy|agent|kubernetes|console)_")
    common = {name for name in documented() if not own.match(name)}
    assert common <= topology.keys() & ipam.keys() & policy.keys()
    assert {name for name in common if "_etcd_" not in name} <= agent.keys()
