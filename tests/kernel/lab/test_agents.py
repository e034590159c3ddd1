"""What the node has to do (DESIGN.md, section 7), seen from outside, over a lab with agents."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import icmp, matrix, probe
from lab.capture import Capture
from lab.cluster import Cluster
from lab.icmp import Echo
from lab.matrix import Host, Way
from lab.namespaces import missing, open_socket
from lab.probe import Outcome
from lab.spec import CONTROL_ADDRESS, Address, Endpoint
from tests.support import probing
from tests.support.waiting import PATIENCE

lacking = missing() or ("" if importlib.util.find_spec("services.agent.main") else "the agent")
pytestmark = [
    pytest.mark.skipif(bool(lacking), reason=f"needs {lacking}"),
    pytest.mark.timeout(240),
]

TEXT = """
name: {name}
strict_reverse_path: {strict}
networks:
  - name: a
    cidr: 10.20.0.0/24
    vlan_id: 20
    gateway: 10.20.0.1
    mode: onlink
    tenants: [a]
    reuse_delay: 0s
  - name: b
    cidr: 10.30.0.0/24
    vlan_id: 30
    gateway: 10.30.0.1
    mode: onlink
    tenants: [b]
    reuse_delay: 0s
  - name: c
    cidr: 10.40.0.0/24
    vlan_id: 40
    gateway: 10.40.0.1
    mode: onlink
    tenants: [c]
    reuse_delay: 0s
topologies:
  - {{name: dc, networks: [a, b, c], groups: [{{name: rack}}]}}
router:
  allow:
    - {{from: a, to: b}}
    - {{from: b, to: c, protocol: tcp, ports: [443]}}
nodes:
  - {{name: only-a, addresses: {{a: 10.20.0.250}}}}
  - {{name: shared-1, addresses: {{a: 10.20.0.251, b: 10.30.0.251, c: 10.40.0.251}}}}
  - {{name: shared-2, addresses: {{a: 10.20.0.252, b: 10.30.0.252, c: 10.40.0.252}}}}
endpoints:
  - {{name: a0, node: only-a, tenant: a}}
  - {{name: a1, node: shared-1, tenant: a}}
  - {{name: a2, node: shared-2, tenant: a}}
  - {{name: b1, node: shared-1, tenant: b}}
  - {{name: b2, node: shared-2, tenant: b}}
  - {{name: c1, node: shared-1, tenant: c}}
machines:
  - {{name: plain-a, network: a, address: 10.20.0.240}}
  - {{name: plain-b, network: b, address: 10.30.0.240}}
"""
SETTLE = 60.0
FAULT_ENDPOINTS = 20


@pytest.fixture(scope="module", params=[True, False], ids=["rp_filter=1", "rp_filter=0"])
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    text = TEXT.format(name=f"test-{uuid.uuid4().hex[:8]}", strict=str(request.param).lower())
    made = Cluster(text, folder=tmp_path_factory.mktemp("lab") / "lab", guarded=True)
    asyncio.run(made.up())
    yield made
    made.down()


async def settled(cluster: Cluster) -> dict[str, Host]:
    """Everybody by name, once everybody reaches whom they have to."""
    hosts = await cluster.hosts()
    crossings = await matrix.until_steady(cluster.lab, hosts, cluster.routers, SETTLE)
    assert matrix.unexpected(cluster.lab, crossings) == []
    return {host.name: host for host in hosts}


def send_from(path: Path, source: Address, destination: Address) -> Echo:
    """An echo request with any source, by a hand-made IP header."""
    echo = Echo(4711, 1)
    message = icmp.request(4, echo)
    header = bytes([0x45, 0, 0, 20 + len(message), 0, 1, 0, 0, 64, 1, 0, 0])
    packet = header + source.packed + destination.packed + message
    with open_socket(path, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(packet, (str(destination), 0))
    return echo


async def test_everybody_reaches_whom_they_have_to_and_only_in_the_way_they_have_to(
    cluster: Cluster,
) -> None:
    assert len(await settled(cluster)) == 8


async def test_on_a_shared_node_networks_meet_only_at_the_router(cluster: Cluster) -> None:
    hosts = await settled(cluster)
    for source, destination, way in (
        ("a1", "b1", Way.ROUTER),
        ("b1", "a1", Way.DENIED),
        ("a1", "c1", Way.DENIED),
        ("c1", "b1", Way.DENIED),
    ):
        (crossing,) = await matrix.measured([hosts[source]], [hosts[destination]], cluster.routers)
        assert crossing.way is way, (source, destination)


async def test_access_rules_hold_per_port_between_endpoints_of_one_node(cluster: Cluster) -> None:
    hosts = await settled(cluster)
    b1, c1 = hosts["b1"], hosts["c1"]
    with Capture(cluster.router) as capture:
        there = (b1.path, c1.path, c1.address)
        outcome = await probe.tcp(*there, 443, source_port=20001, timeout=PATIENCE)
        assert outcome is Outcome.ANSWERED
        seen = [each for each in capture.seen() if each.ports and {*each.ports} == {20001, 443}]
    assert [(each.interface, each.outgoing) for each in seen[:4]] == [
        ("vlan30", False),
        ("vlan40", True),
        ("vlan40", False),
        ("vlan30", True),
    ]
    assert await probe.tcp(b1.path, c1.path, c1.address, 80) is not Outcome.ANSWERED
    assert await probe.tcp(c1.path, b1.path, b1.address, 443) is not Outcome.ANSWERED


async def test_a_dedicated_node_has_no_other_way_than_its_gateway(cluster: Cluster) -> None:
    hosts = await settled(cluster)
    a0 = hosts["a0"]
    node = cluster.path("only-a")
    for destination in (hosts["b1"].address, hosts["c1"].address, CONTROL_ADDRESS):
        with Capture(node) as capture:
            await probing.ping(a0.path, destination, timeout=0.5)
            left = {
                each.interface
                for each in capture.seen()
                if each.echo and each.outgoing and each.source == a0.address
            }
        assert left == {"vlan20"}, destination


async def test_a_spoofed_source_does_not_leave_the_node(cluster: Cluster) -> None:
    hosts = await settled(cluster)
    a1 = hosts["a1"]
    sources = (hosts["a2"].address, hosts["b1"].address, a1.address + 100, CONTROL_ADDRESS + 77)
    for source in sources:
        for destination in (hosts["plain-a"].address, hosts["plain-b"].address, CONTROL_ADDRESS):
            with Capture(cluster.path("shared-1")) as capture:
                send_from(a1.path, source, destination)
                await asyncio.sleep(0.2)
                left = [
                    each for each in capture.seen() if each.outgoing and each.echo == Echo(4711, 1)
                ]
            assert left == [], (source, destination)


async def test_an_unused_address_of_a_local_block_is_unreachable(cluster: Cluster) -> None:
    hosts = await settled(cluster)
    used = {host.address for host in hosts.values()}
    a0 = hosts["a0"]
    block = int(a0.address) & ~7
    free = next(
        type(a0.address)(block + offset)
        for offset in range(1, 8)
        if type(a0.address)(block + offset) not in used | {cluster.lab.network("a").gateway}
    )
    echoed = await probing.ping(a0.path, free)
    assert echoed.outcome is Outcome.UNREACHABLE


async def test_a_plain_machine_finds_an_endpoint_that_moved(cluster: Cluster) -> None:
    hosts = await settled(cluster)
    plain = hosts["plain-a"]
    endpoint = Endpoint(name="mover", node="shared-1", tenant="a")
    first = await cluster.attach(endpoint)
    assert await probing.reachable(plain.path, first.address)
    assert await probing.reachable(cluster.path("mover"), plain.address)
    await cluster.agent("shared-1").detach("mover")
    moved = endpoint.model_copy(update={"node": "shared-2"})
    try:
        second = await cluster.attach(moved)
        assert await probing.reachable(plain.path, second.address)
        assert await probing.reachable(cluster.path("mover"), plain.address)
    finally:
        await cluster.detach("shared-2", "mover")


async def test_crashes_lose_no_packet(cluster: Cluster) -> None:
    """kill -9 and restart of agents, ipam and etcd while endpoints exchange traffic."""
    await settled(cluster)
    nodes = ("only-a", "shared-1", "shared-2")
    flows: list[tuple[Path, Address]] = []
    endpoints = [
        Endpoint(name=f"f{number}", node=nodes[number % 3], tenant="a")
        for number in range(FAULT_ENDPOINTS)
    ]
    attached = await asyncio.gather(*map(cluster.attach, endpoints))
    made = [*zip(endpoints, attached, strict=True)]
    try:
        for number, (endpoint, _) in enumerate(made):
            other = made[(number + 1) % len(made)][1]
            flows.append((cluster.path(endpoint.name), other.address))
            assert await probing.reachable(*flows[-1])
        async with probing.traffic(flows) as results:
            for name in (*nodes, "ipam", "etcd", "shared-1", "etcd", "ipam"):
                cluster.kill(name)
                await asyncio.sleep(0.3)
                cluster.start(name)
                await asyncio.sleep(0.3)
            await asyncio.gather(*(cluster.agent(node).ready() for node in nodes))
        echoes = [each for flow in results.values() for each in flow]
        assert len(echoes) > FAULT_ENDPOINTS * 20
        assert [each for each in echoes if each.outcome is not Outcome.ANSWERED] == []
    finally:
        await asyncio.gather(
            *(cluster.detach(endpoint.node, endpoint.name) for endpoint in endpoints)
        )
