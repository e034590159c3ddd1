"""Firewalls of a lab, with policies that lead connections through them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path

import pytest

from lab import firewall, probe
from lab.capture import Capture, Sighting
from lab.cluster import Cluster
from lab.matrix import Host
from lab.namespaces import inside, missing
from lab.probe import Outcome
from lab.spec import Address
from tests.support.lab_command import romana
from tests.support.waiting import PATIENCE

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
    pytest.mark.timeout(300),
]

TEXT = """
name: {name}
networks:
  - {{name: a, cidr: 10.20.0.0/24, vlan_id: 20, gateway: 10.20.0.1, tenants: [shop]}}
  - {{name: b, cidr: 10.30.0.0/24, vlan_id: 30, gateway: 10.30.0.1, tenants: [shop]}}
  - {{name: a6, cidr: "fd20::/120", vlan_id: 21, gateway: "fd20::1", tenants: [shop]}}
topologies:
  - {{name: dc, networks: [a, b, a6], groups: [{{name: rack}}]}}
nodes:
  - {{name: n1, addresses: {{a: 10.20.0.251, b: 10.30.0.251, a6: "fd20::11"}}}}
  - {{name: n2, addresses: {{a: 10.20.0.252, b: 10.30.0.252, a6: "fd20::12"}}}}
endpoints:
  - {{name: front, node: n1, tenant: shop, segment: front, network: a}}
  - {{name: near, node: n1, tenant: shop, segment: back, network: a}}
  - {{name: far, node: n2, tenant: shop, segment: back, network: a}}
  - {{name: near-b, node: n1, tenant: shop, segment: other, network: b}}
  - {{name: far-b, node: n2, tenant: shop, segment: other, network: b}}
  - {{name: front-6, node: n1, tenant: shop, segment: front, network: a6}}
  - {{name: near-6, node: n1, tenant: shop, segment: back, network: a6}}
  - {{name: far-6, node: n2, tenant: shop, segment: back, network: a6}}
firewalls:
  - {{name: fw, addresses: {{a: 10.20.0.250}}}}
  - name: two
    addresses: {{a: 10.20.0.248, a6: "fd20::f8"}}
    outside: {{a: {{address: 10.20.0.249}}, a6: {{address: "fd20::f9"}}}}
  - name: between
    addresses: {{a: 10.20.0.247}}
    outside: {{a: {{address: 10.30.0.247, network: b}}}}
"""
GROUPS = """
name: firewalls
networks: [a]
devices: [{name: fw, addresses: [{network: a, address: 10.20.0.250}]}]
probe: {kind: icmp, interval: 200ms}
---
name: two-armed
networks: [a, a6]
devices:
  - name: two
    addresses:
      - {network: a, address: 10.20.0.248, outside: {address: 10.20.0.249}}
      - {network: a6, address: "fd20::f8", outside: {address: "fd20::f9"}}
probe: {kind: icmp, interval: 200ms}
---
name: between
networks: [a]
devices:
  - name: between
    addresses:
      - {network: a, address: 10.20.0.247, outside: {network: b, address: 10.30.0.247}}
probe: {kind: icmp, interval: 200ms}
"""
POLICIES = """
policies:
  - name: inspect
    tier: admin
    priority: 10
    targets: [{endpoints: {segments: [back]}}]
    ingress:
      - {peers: [{endpoints: {}}], ports: [{protocol: tcp, port: 443}], via: firewalls}
      - {peers: [{endpoints: {}}], ports: [{protocol: tcp, port: 444}], via: two-armed}
  - name: leave
    tier: admin
    priority: 20
    targets: [{endpoints: {segments: [front]}}]
    egress:
      - peers: [{endpoints: {segments: [other]}}]
        ports: [{protocol: tcp, port: 445}]
        via: between
"""
STEERED, BY_TWO_ARMS, BETWEEN, DIRECT = 443, 444, 445, 80
SOURCE_PORTS = count(20000)
"""Each connection has one of its own: packets of others that come late are not its."""
INSIDE = "vlan20"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("lab")
    made = Cluster(
        TEXT.format(name=f"test-{uuid.uuid4().hex[:8]}"), folder=folder / "lab", guarded=True
    )
    asyncio.run(made.up())
    for number, text in enumerate(GROUPS.split("---")):
        apply(made, "device", folder / f"group-{number}.yaml", text)
    apply(made, "policy", folder / "policies.yaml", POLICIES)
    yield made
    made.down()


def apply(cluster: Cluster, noun: str, file: Path, text: str) -> None:
    file.write_text(text)
    romana(cluster, noun, "apply", str(file))


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 2 * PATIENCE
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, condition
        await asyncio.sleep(0.1)


def realized(cluster: Cluster) -> bool:
    """Whether both nodes have the rules, and see the firewalls."""
    matrix = json.loads(romana(cluster, "policy", "matrix", "-o", "json"))
    if matrix["unrealized_nodes"]:
        return False
    groups = [
        json.loads(romana(cluster, "device", "show", name, "-o", "json"))
        for name in ("firewalls", "two-armed", "between")
    ]
    return all(group["devices"][0].get("nodes_up", 0) == 2 for group in groups)


def invalid(path: Path) -> int:
    listed = subprocess.check_output(
        inside(path, ["nft", "-j", "list", "counters", "table", "inet", firewall.TABLE])
    )
    items = json.loads(listed)["nftables"]
    return sum(item["counter"]["packets"] for item in items if "counter" in item)


def plug(cluster: Cluster, state: str) -> None:
    command = ["ip", "link", "set", "vlan20", state]
    subprocess.run(inside(cluster.path("fw"), command), check=True)


async def seen(
    cluster: Cluster, source: Host, target: Host, port: int
) -> dict[str, list[Sighting]]:
    """What each firewall sees of a connection, which comes about."""
    names = [each.name for each in cluster.lab.firewalls]
    with contextlib.ExitStack() as stack:
        captures = {name: stack.enter_context(Capture(cluster.path(name))) for name in names}
        own, there = next(SOURCE_PORTS), (source.path, target.path, target.address)
        outcome = await probe.tcp(*there, port, source_port=own, timeout=PATIENCE)
        assert outcome is Outcome.ANSWERED
        found = {
            name: [one for one in capture.seen() if one.ports and {*one.ports} == {own, port}]
            for name, capture in captures.items()
        }
    return {name: sightings for name, sightings in found.items() if sightings}


def ways(sightings: Iterable[Sighting]) -> set[tuple[Address, str, bool]]:
    """Who sent it, by which interface, and whether it went out."""
    return {(one.source, one.interface, one.outgoing) for one in sightings}


@pytest.mark.parametrize("target", ["near", "far"])
async def test_a_rule_leads_through_the_firewall_both_ways(cluster: Cluster, target: str) -> None:
    await until(lambda: realized(cluster))
    source, other = await cluster.host("front"), await cluster.host(target)
    assert await seen(cluster, source, other, DIRECT) == {}
    found = await seen(cluster, source, other, STEERED)
    assert [*found] == ["fw"]
    ends = (source.address, other.address)
    assert ways(found["fw"]) == {(end, INSIDE, out) for end in ends for out in (False, True)}
    assert invalid(cluster.path("fw")) == 0


@pytest.mark.parametrize(
    ("firewall_name", "port", "source", "target", "first", "last"),
    [
        ("two", BY_TWO_ARMS, "front", "near", "outside20", "vlan20"),
        ("two", BY_TWO_ARMS, "front", "far", "outside20", "vlan20"),
        ("two", BY_TWO_ARMS, "front-6", "near-6", "outside21", "vlan21"),
        ("two", BY_TWO_ARMS, "front-6", "far-6", "outside21", "vlan21"),
        ("between", BETWEEN, "front", "near-b", "vlan20", "outside20"),
        ("between", BETWEEN, "front", "far-b", "vlan20", "outside20"),
    ],
)
async def test_what_comes_in_by_one_arm_leaves_by_the_other(
    cluster: Cluster, firewall_name: str, port: int, source: str, target: str, first: str, last: str
) -> None:
    """The inside is the side of the endpoint whose rule it is."""
    await until(lambda: realized(cluster))
    one, other = await cluster.host(source), await cluster.host(target)
    found = await seen(cluster, one, other, port)
    assert [*found] == [firewall_name]
    assert ways(found[firewall_name]) == {
        (one.address, first, False),
        (one.address, last, True),
        (other.address, last, False),
        (other.address, first, True),
    }
    assert invalid(cluster.path(firewall_name)) == 0


async def test_between_networks_nothing_else_passes(cluster: Cluster) -> None:
    """The core router would let it through no more than the rest."""
    one, other = await cluster.host("front"), await cluster.host("far-b")
    outcome = await probe.tcp(one.path, other.path, other.address, DIRECT)
    assert outcome is not Outcome.ANSWERED


async def test_its_addresses_are_nobody_elses(cluster: Cluster) -> None:
    listed = json.loads(romana(cluster, "reservation", "list", "-o", "json"))
    reserved = {(one["network"], address) for one in listed for address in one["ranges"]}
    arms = [arm for each in cluster.lab.firewalls for arm in each.arms]
    assert len(arms) == 7
    assert {(arm.network, str(arm.address)) for arm in arms} <= reserved


async def test_without_it_nothing_of_the_rule_passes(cluster: Cluster) -> None:
    source, other = await cluster.host("front"), await cluster.host("far")
    await asyncio.to_thread(plug, cluster, "down")
    try:
        outcome = await probe.tcp(source.path, other.path, other.address, STEERED)
        assert outcome is not Outcome.ANSWERED
        assert await seen(cluster, source, other, DIRECT) == {}
    finally:
        await asyncio.to_thread(plug, cluster, "up")
