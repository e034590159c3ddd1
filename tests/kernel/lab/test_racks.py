"""Racks with routers of their own: which way packets take, and which routes that needs.

The first lab is the one that comes along, the second has both families and two networks in a rack.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from lab import matrix
from lab.capture import Capture
from lab.cluster import Cluster
from lab.matrix import Crossing, Host, Way
from lab.namespaces import inside, missing, run
from lab.probe import Outcome
from lab.processes import environment
from lab.spec import Address, Endpoint, Prefix
from tests.support import probing
from tests.support.lab_command import romana
from tests.support.waiting import PATIENCE

lacking = missing() or ("" if importlib.util.find_spec("services.agent.main") else "the agent")
pytestmark = [
    pytest.mark.skipif(bool(lacking), reason=f"needs {lacking}"),
    pytest.mark.timeout(240),
]

EXAMPLE = Path(__file__).parents[3] / "lab" / "clusters" / "racks.yaml"
BOTH = """
name: racks
networks:
  - {name: pods, cidr: 10.1.0.0/16, mode: routed, gateway: 10.0.0.1, tenants: [a]}
  - {name: vms, cidr: 10.2.0.0/16, mode: routed, gateway: 10.0.0.1, tenants: [b]}
  - {name: six, cidr: "fd00:1::/56", mode: routed, gateway: "fd00::1", tenants: [c]}
  - {name: qa, cidr: 10.30.0.0/24, mode: onlink, gateway: 10.30.0.1, vlan_id: 30, tenants: [d]}
topologies:
  - name: racks
    networks: [pods, vms, six]
    groups:
      - {name: left, assignment: {rack: left}, groups: [{name: one}, {name: two}]}
      - {name: right, assignment: {rack: right}}
  - {name: qa, networks: [qa]}
racks:
  - {name: left, router: [10.0.1.1/24, "fd00:0:0:1::1/64"]}
  - {name: right, router: ["fd00:0:0:2::1/64", 10.0.2.1/24]}
router:
  allow:
    - {from: pods, to: vms}
    - {from: qa, to: pods}
nodes:
  - name: l1
    rack: left
    labels: {rack: left}
    addresses: {pods: 10.0.1.11, vms: 10.0.1.11, six: "fd00:0:0:1::11"}
  - name: l2
    rack: left
    labels: {rack: left}
    addresses: {pods: 10.0.1.12, vms: 10.0.1.13, six: "fd00:0:0:1::12", qa: 10.30.0.12}
  - name: r1
    rack: right
    labels: {rack: right}
    addresses: {pods: 10.0.2.11, vms: 10.0.2.11, six: "fd00:0:0:2::11"}
endpoints:
  - {name: p1, node: l1, tenant: a}
  - {name: p2, node: r1, tenant: a}
  - {name: v1, node: l1, tenant: b}
  - {name: v2, node: l2, tenant: b}
  - {name: v3, node: r1, tenant: b}
  - {name: s1, node: l1, tenant: c}
  - {name: s2, node: l2, tenant: c}
  - {name: s3, node: r1, tenant: c}
  - {name: q1, node: l2, tenant: d}
"""
SETTLE = 60.0
FIRST_HOP_LIMIT = 64
"""net.ipv4.ip_default_ttl, of what an endpoint sends."""


def brought_up(text: str) -> Cluster:
    made = Cluster(
        re.sub(r"(?m)^name: .*$", f"name: test-{uuid.uuid4().hex[:8]}", text, count=1), guarded=True
    )
    asyncio.run(made.up())
    return made


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    made = brought_up(EXAMPLE.read_text())
    yield made
    made.down()


async def settled(cluster: Cluster) -> dict[tuple[str, str], Crossing]:
    """All pings by source and destination, once everybody reaches whom they have to."""
    hosts = await cluster.hosts()
    crossings = await matrix.until_steady(cluster.lab, hosts, cluster.routers, SETTLE)
    assert matrix.unexpected(cluster.lab, crossings) == []
    return {(each.source.name, each.destination.name): each for each in crossings}


def routes(cluster: Cluster, host: str, *words: str) -> list[dict[str, Any]]:
    """A namespace's routes, as iproute2 says them."""
    command = ["ip", "-j", "-d", "route", "show", *words]
    found: list[dict[str, Any]] = json.loads(run(inside(cluster.path(host), command)))
    return found


def behind(cluster: Cluster, host: str, network: str) -> dict[Prefix, str]:
    """Routes to prefixes inside a network, and by way of whom."""
    cidr = cluster.lab.network(network).cidr
    return {
        ip_network(each["dst"]): each["gateway"]
        for each in routes(cluster, host)
        if "gateway" in each and each["dst"] != "default" and ip_address(each["dst"][:-3]) in cidr
    }


def carved(cluster: Cluster) -> dict[str, Prefix]:
    """What topology, the service, says the groups' prefixes of `pods` are, by path."""
    found: dict[str, Prefix] = {}

    def walk(groups: list[dict[str, Any]]) -> None:
        for group in groups:
            if "pods" in group["carved_prefixes"]:
                found[group["path"]] = ip_network(group["carved_prefixes"]["pods"])
            walk(group.get("groups", []))

    for topology in json.loads(romana(cluster, "topology", "show", "-o", "json"))["spec"][
        "topologies"
    ]:
        walk(topology["groups"])
    return found


async def test_a_rack_is_direct_and_others_are_behind_both_routers_and_the_core(
    cluster: Cluster,
) -> None:
    crossings = await settled(cluster)
    assert len(crossings) == 7 * 6
    for pair, way, by in (
        (("e11", "b11"), Way.DIRECT, ()),
        (("e11", "e12"), Way.DIRECT, ()),
        (("e22", "e21"), Way.DIRECT, ()),
        (("e11", "e21"), Way.ROUTER, ("rack-1", "router", "rack-2")),
        (("e31", "e12"), Way.ROUTER, ("rack-3", "router", "rack-1")),
        (("console", "e31"), Way.ROUTER, ("router", "rack-3")),
        (("e31", "console"), Way.DENIED, ("rack-3",)),
    ):
        assert (crossings[pair].way, crossings[pair].routers) == (way, by), pair


async def test_each_router_on_the_way_takes_one_off_the_hop_limit(cluster: Cluster) -> None:
    await settled(cluster)
    e11 = await cluster.host("e11")
    for destination, forwarded in (("e12", 1), ("e31", 4)):
        host = await cluster.host(destination)
        with Capture(cluster.path(host.node)) as capture:
            echoed = await probing.ping(e11.path, host.address, timeout=PATIENCE)
            assert echoed.outcome is Outcome.ANSWERED
            (limit,) = {
                each.hop_limit
                for each in capture.seen()
                if each.echo and each.interface == "rack0" and each.destination == host.address
            }
        assert limit == FIRST_HOP_LIMIT - forwarded, destination


async def test_the_core_router_has_one_route_a_rack_and_that_of_the_rack_one_a_node(
    cluster: Cluster,
) -> None:
    groups = carved(cluster)
    core, rack = behind(cluster, "router", "pods"), behind(cluster, "rack-1", "pods")
    assert core == {
        groups[f"datacenter/{name}"]: str(cluster.lab.transfer(name, 4)[1])
        for name in ("rack-1", "rack-2", "rack-3")
    }
    assert rack == {
        groups["datacenter/rack-1/node-1"]: "10.0.1.11",
        groups["datacenter/rack-1/node-2"]: "10.0.1.12",
    }


async def test_routers_need_no_other_route_for_new_blocks(cluster: Cluster) -> None:
    routers = [*cluster.routers]
    before = {name: routes(cluster, name) for name in routers}
    added = [
        Endpoint(name=f"new{number}", node=node.name, tenant="shop", segment=f"s{number}")
        for number, node in enumerate(cluster.lab.nodes * 2)
    ]
    try:
        attached = [await cluster.attach(endpoint) for endpoint in added]
        assert len({int(each.address) >> 3 for each in attached}) == len(added), "a block each"
        await settled(cluster)
        assert {name: routes(cluster, name) for name in routers} == before
    finally:
        for endpoint in added:
            await cluster.detach(endpoint.node, endpoint.name)


async def test_nodes_have_routes_to_their_own_rack_alone(cluster: Cluster) -> None:
    await settled(cluster)
    groups = carved(cluster)
    for node, rack, router in (("n11", "rack-1", "10.0.0.1"), ("n31", "rack-3", "10.0.0.1")):
        ways = [each for each in routes(cluster, node, "table", "all") if "gateway" in each]
        ours = [each for each in ways if each.get("protocol") == "114"]
        assert [each["gateway"] for each in ours if each["dst"] == "default"] == [router]
        for each in ours:
            if each["dst"] != "default":
                assert ip_network(each["dst"]).subnet_of(groups[f"datacenter/{rack}"])


async def test_a_node_reaches_endpoints_of_other_racks(cluster: Cluster) -> None:
    await settled(cluster)
    e31 = await cluster.host("e31")
    assert await probing.reachable(cluster.path("n11"), e31.address)
    assert await probing.reachable(e31.path, ip_address("10.0.1.11"))


async def test_what_no_node_has_is_unreachable_at_the_first_router_that_knows(
    cluster: Cluster,
) -> None:
    await settled(cluster)
    groups = carved(cluster)
    e11 = await cluster.host("e11")
    vacant: list[tuple[Address, tuple[str, ...]]] = [
        (groups["datacenter/rack-3/node-2"][0], ("rack-1", "router", "rack-3")),
        (cluster.lab.network("pods").cidr[-2], ("rack-1", "router")),
    ]
    for address, routers in vacant:
        nobody = Host("nobody", e11.path, address, "pods")
        (crossing,) = await matrix.measured([e11], [nobody], cluster.routers)
        assert (crossing.outcome, crossing.routers) == (Outcome.UNREACHABLE, routers)


async def test_the_command_shows_racks(cluster: Cluster, tmp_path: Path) -> None:
    await settled(cluster)
    file = tmp_path / "lab.yaml"
    file.write_text(EXAMPLE.read_text().replace("name: racks", f"name: {cluster.lab.name}", 1))

    def lab(*arguments: str) -> Any:
        command = [sys.executable, "-m", "services.ctl.main", "lab", *arguments, "-o", "json"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=100, check=True, env=environment()
        )
        return json.loads(done.stdout)

    lines = {line["name"]: line for line in lab("status", str(file))}
    assert lines["rack-2"]["kind"] == "rack"
    assert lines["rack-2"]["detail"] == "router 10.0.2.1/24, 10.1.64.0/18 of pods"
    (ping,) = lab("ping", str(file), "e11", "e22")
    assert (ping["way"], ping["routers"]) == ("router", ["rack-1", "router", "rack-2"])


async def test_both_families_several_networks_and_a_vlan_in_a_rack() -> None:
    made = await asyncio.to_thread(brought_up, BOTH)
    try:
        crossings = await settled(made)
        for pair, way, by in (
            (("s1", "s2"), Way.DIRECT, ()),
            (("s1", "s3"), Way.ROUTER, ("left", "router", "right")),
            (("p1", "v1"), Way.ROUTER, ("left",)),  # on one node
            (("p1", "v2"), Way.ROUTER, ("left",)),
            (("p1", "v3"), Way.ROUTER, ("left", "router", "right")),
            (("v1", "p1"), Way.DENIED, ("left",)),
            (("q1", "p1"), Way.ROUTER, ("router", "left")),
            (("v2", "q1"), Way.DENIED, ("left",)),  # on one node
        ):
            assert (crossings[pair].way, crossings[pair].routers) == (way, by), pair
    finally:
        made.down()
