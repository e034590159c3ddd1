"""Firewalls of a lab, with policies that lead connections through them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import firewall, probe
from lab.capture import Capture, Sighting
from lab.cluster import Cluster
from lab.matrix import Host
from lab.namespaces import inside, missing
from lab.probe import Outcome
from tests.support.lab_command import romana

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
    pytest.mark.timeout(300),
]

TEXT = """
name: {name}
networks:
  - {{name: a, cidr: 10.20.0.0/24, vlan_id: 20, gateway: 10.20.0.1, tenants: [shop]}}
topologies:
  - {{name: dc, networks: [a], groups: [{{name: rack}}]}}
nodes:
  - {{name: n1, addresses: {{a: 10.20.0.251}}}}
  - {{name: n2, addresses: {{a: 10.20.0.252}}}}
endpoints:
  - {{name: front, node: n1, tenant: shop}}
  - {{name: near, node: n1, tenant: shop, segment: back}}
  - {{name: far, node: n2, tenant: shop, segment: back}}
firewalls:
  - {{name: fw, addresses: {{a: 10.20.0.250}}}}
"""
GROUP = """
name: firewalls
networks: [a]
devices: [{name: fw, addresses: [{network: a, address: 10.20.0.250}]}]
probe: {kind: icmp, interval: 200ms}
"""
POLICY = """
policies:
  - name: inspect
    tier: admin
    priority: 10
    targets: [{endpoints: {segments: [back]}}]
    ingress:
      - {peers: [{endpoints: {}}], ports: [{protocol: tcp, port: 443}], via: firewalls}
"""
STEERED, DIRECT = 443, 80
PATIENCE = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("lab")
    made = Cluster(
        TEXT.format(name=f"test-{uuid.uuid4().hex[:8]}"), folder=folder / "lab", guarded=True
    )
    asyncio.run(made.up())
    for noun, text in (("device", GROUP), ("policy", POLICY)):
        file = folder / f"{noun}.yaml"
        file.write_text(text)
        romana(made, noun, "apply", str(file))
    yield made
    made.down()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, condition
        await asyncio.sleep(0.1)


def realized(cluster: Cluster) -> bool:
    matrix = json.loads(romana(cluster, "policy", "matrix", "-o", "json"))
    group = json.loads(romana(cluster, "device", "show", "firewalls", "-o", "json"))
    seen = group["devices"][0].get("nodes_up", 0)
    return not matrix["unrealized_nodes"] and seen == 2


def invalid(path: Path) -> int:
    listed = subprocess.check_output(
        inside(path, ["nft", "-j", "list", "counters", "table", "inet", firewall.TABLE])
    )
    items = json.loads(listed)["nftables"]
    return sum(item["counter"]["packets"] for item in items if "counter" in item)


def plug(cluster: Cluster, state: str) -> None:
    command = ["ip", "link", "set", "vlan20", state]
    subprocess.run(inside(cluster.path("fw"), command), check=True)


async def seen(cluster: Cluster, source: Host, target: Host, port: int) -> list[Sighting]:
    """What the firewall sees of a connection, which comes about."""
    with Capture(cluster.path("fw")) as capture:
        outcome = await probe.tcp(source.path, target.path, target.address, port)
        assert outcome is Outcome.ANSWERED
        return [one for one in capture.seen() if one.ports and port in one.ports]


@pytest.mark.parametrize("target", ["near", "far"])
async def test_a_rule_leads_through_the_firewall_both_ways(cluster: Cluster, target: str) -> None:
    await until(lambda: realized(cluster))
    source, other = await cluster.host("front"), await cluster.host(target)
    assert await seen(cluster, source, other, DIRECT) == []
    found = await seen(cluster, source, other, STEERED)
    ways = {(one.source, one.outgoing) for one in found}
    assert ways == {(end.address, out) for end in (source, other) for out in (False, True)}
    assert invalid(cluster.path("fw")) == 0


async def test_its_address_is_nobody_elses(cluster: Cluster) -> None:
    assert "10.20.0.250" in romana(cluster, "reservation", "list", "-o", "json")


async def test_without_it_nothing_of_the_rule_passes(cluster: Cluster) -> None:
    source, other = await cluster.host("front"), await cluster.host("far")
    await asyncio.to_thread(plug, cluster, "down")
    try:
        outcome = await probe.tcp(source.path, other.path, other.address, STEERED)
        assert outcome is not Outcome.ANSWERED
        assert await seen(cluster, source, other, DIRECT) == []
    finally:
        await asyncio.to_thread(plug, cluster, "up")
