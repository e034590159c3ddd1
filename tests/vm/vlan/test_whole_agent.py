"""Whole agents on a trunk: processes that make their VLAN links by what topology says.

etcd, topology, ipam and policy, a router and two nodes, each on one tagged port of a VLAN-aware
bridge. Node `shared` is on VLANs 20 and 30, node `only-a` on VLAN 20. A capture on the trunk says
which way packets went: every frame comes into the bridge and goes out of it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab import connections, probe
from lab.capture import Capture
from lab.cluster import Cluster
from lab.control import ENVIRONMENT
from lab.fabric import CONTROL, FABRIC, ROUTER
from lab.matrix import Host
from lab.namespaces import add, inside, remove, run
from lab.probe import Outcome
from lab.processes import environment
from lab.spec import TRUNK_INTERFACE, Endpoint
from services.common.errors import WrongState
from tests.kernel.agent.site import until
from tests.support import probing
from tests.support.agent_node import run_plugin
from tests.vm.vlan.needs import PATIENCE, TRUNK

pytestmark = [TRUNK, pytest.mark.timeout(400)]

TEXT = """
name: {name}
trunk: true
networks:
  - name: a
    cidr: 10.20.0.0/24
    vlan_id: 20
    gateway: 10.20.0.1
    mode: onlink
    tenants: [a, x]
  - name: b
    cidr: 10.30.0.0/24
    vlan_id: 30
    gateway: 10.30.0.1
    mode: onlink
    tenants: [b]
topologies:
  - {{name: dc, networks: [a, b], groups: [{{name: rack}}]}}
router:
  allow:
    - {{from: a, to: b, protocol: icmp}}
    - {{from: a, to: b, protocol: tcp, ports: [443]}}
nodes:
  - {{name: shared, addresses: {{a: 10.20.0.251, b: 10.30.0.251}}}}
  - {{name: only-a, addresses: {{a: 10.20.0.250}}}}
endpoints:
  - {{name: a1, node: shared, tenant: a}}
  - {{name: b1, node: shared, tenant: b}}
  - {{name: a2, node: only-a, tenant: a}}
"""
LINKS = {
    "shared": {"vlan20": (20, "10.20.0.251/24"), "vlan30": (30, "10.30.0.251/24")},
    "only-a": {"vlan20": (20, "10.20.0.250/24")},
}
POLICIES = """
tenants:
  - {name: a, isolation: tenant}
policies:
  - name: trunk/open
    tier: admin
    targets: [{endpoints: {tenants: [a]}}]
    ingress:
      - action: allow
        peers: [{endpoints: {tenants: [x]}}]
        ports: [{protocol: tcp, port: 443}]
"""
WAIT = 10.0 * PATIENCE
"""Seconds."""
IN, OUT = "in", "out"


class Way(NamedTuple):
    """How an echo request went: direction and VLAN id of each frame."""

    outcome: Outcome
    fabric: list[tuple[str, int]]
    """On the ports of the bridge."""
    trunks: dict[str, list[tuple[str, int]]]
    """By host that has any, on its end of the cable."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    text = TEXT.format(name=f"whole-{uuid.uuid4().hex[:6]}")
    made = Cluster(
        text, folder=tmp_path_factory.mktemp("lab") / "lab", guarded=True, patience=PATIENCE
    )
    asyncio.run(made.up())
    yield made
    made.down()


async def hosts_of(cluster: Cluster) -> dict[str, Host]:
    return {host.name: host for host in await cluster.hosts()}


def at(cluster: Cluster, host: str, command: str) -> str:
    """What a command in a host's namespace says."""
    return run(inside(cluster.path(host), command.split()))


def links(cluster: Cluster, node: str) -> dict[str, dict[str, Any]]:
    """Interfaces with their addresses, by name."""
    found = json.loads(at(cluster, node, "ip -d -j address show"))
    return {each["ifname"]: each for each in found}


def vlans(cluster: Cluster, node: str) -> dict[str, tuple[int, str]]:
    """VLAN id and addresses of the links on the trunk that are up and the agent's, by name."""
    return {
        name: (
            link["linkinfo"]["info_data"]["id"],
            ",".join(
                f"{each['local']}/{each['prefixlen']}"
                for each in link["addr_info"]
                if each["scope"] == "global"
            ),
        )
        for name, link in links(cluster, node).items()
        if link.get("link") == TRUNK_INTERFACE
        and link.get("ifalias") == "romana vlan"
        and "UP" in link["flags"]
    }


def rules(cluster: Cluster, node: str) -> list[str]:
    """The agent's, by priority; names of tables replaced by those of VLANs."""
    text = at(cluster, node, "ip rule")
    tables = {table: link for link, table in re.findall(r"iif (\S+) lookup (\d+)", text)}
    lines = [line.split() for line in text.splitlines() if "proto 114" in line]
    return sorted(" ".join(tables.get(word, word) for word in words) for words in lines)


def routes(cluster: Cluster, node: str, link: str) -> dict[str, tuple[str, str]]:
    """Gateway and interface of the routes in the table of a VLAN, by destination."""
    found = re.search(rf"iif {link} lookup (\d+)", at(cluster, node, "ip rule"))
    assert found is not None
    listed = json.loads(at(cluster, node, f"ip -j route show table {found[1]}"))
    assert {each["protocol"] for each in listed} == {"114"}
    return {
        each["dst"]: (each.get("gateway", ""), each.get("dev", each.get("type"))) for each in listed
    }


async def way(cluster: Cluster, source: Host, destination: Host) -> Way:
    """Sends one ping, watched everywhere on the trunk."""
    assert await probing.reachable(source.path, cluster.lab.network(source.network).gateway)
    with ExitStack() as stack:
        captures = {
            name: stack.enter_context(Capture(cluster.path(name)))
            for name in (FABRIC, ROUTER, "shared", "only-a")
        }
        echoed = await probing.ping(source.path, destination.address, timeout=WAIT)
        frames = {
            name: [
                (OUT if each.outgoing else IN, each.vlan_id)
                for each in capture.seen()
                if each.echo == echoed.echo
                and each.destination == destination.address
                and (name == FABRIC or each.interface == TRUNK_INTERFACE)
            ]
            for name, capture in captures.items()
        }
    fabric = frames.pop(FABRIC)
    return Way(echoed.outcome, fabric, {name: found for name, found in frames.items() if found})


def romana(cluster: Cluster, host: str, *arguments: str) -> None:
    """Runs the command in a host's namespace; it has to succeed."""
    done = subprocess.run(
        inside(cluster.path(host), [sys.executable, "-m", "services.ctl.main", *arguments]),
        capture_output=True,
        text=True,
        timeout=30 * PATIENCE,
        check=False,
        env={**environment(), **ENVIRONMENT},
    )
    assert done.returncode == 0, done.stderr


async def eventually(condition: Callable[[], bool]) -> None:
    await until(lambda: asyncio.to_thread(condition), WAIT)


def test_agents_make_the_links_that_topology_names(cluster: Cluster) -> None:
    for node in cluster.lab.nodes:
        assert "ROMANA_AGENT__ATTACHMENTS" not in cluster.program(node.name).environment
        assert vlans(cluster, node.name) == LINKS[node.name]


async def test_rules_and_tables_are_as_designed(cluster: Cluster) -> None:
    hosts = await hosts_of(cluster)
    way20, way30 = "0x110000/0x1f0000", "0x1a0000/0x1f0000"
    assert rules(cluster, "shared") == [
        "11410: from 10.20.0.251 lookup main suppress_prefixlength 0 proto 114",
        "11410: from 10.30.0.251 lookup main suppress_prefixlength 0 proto 114",
        "11411: from all fwmark 0x10000/0x1f0000 lookup main suppress_prefixlength 31 proto 114",
        f"11411: from all fwmark {way20} iif vlan20 lookup main suppress_prefixlength 31 proto 114",
        f"11411: from all fwmark {way30} iif vlan30 lookup main suppress_prefixlength 31 proto 114",
        f"11413: from all fwmark {way20} lookup vlan20 proto 114",
        f"11413: from all fwmark {way30} lookup vlan30 proto 114",
        "11415: from all to 10.20.0.0/24 goto 11420 proto 114",
        "11415: from all to 10.30.0.0/24 goto 11420 proto 114",
        "11416: from all iif vlan20 goto 11440 proto 114",
        "11416: from all iif vlan30 goto 11440 proto 114",
        "11420: from all iif vlan20 lookup vlan20 proto 114",
        "11420: from all iif vlan30 lookup vlan30 proto 114",
        "11422: from all iif vlan20 unreachable proto 114",
        "11422: from all iif vlan30 unreachable proto 114",
        "11425: from all fwmark 0x100000/0x100000 goto 11440 proto 114",
        "11430: from 10.20.0.0/24 lookup vlan20 proto 114",
        "11430: from 10.30.0.0/24 lookup vlan30 proto 114",
        "11440: from all nop proto 114",
    ]
    interfaces = links(cluster, "shared")
    for name, own in (("a", "a1"), ("b", "b1")):
        network = cluster.lab.network(name)
        link, gateway = network.interface, str(network.gateway)
        found = routes(cluster, "shared", link)
        _, to_own = found.pop(str(hosts[own].address))
        assert interfaces[to_own]["ifalias"] == f"romana endpoint {own}"
        assert prefix_of(found, ("", "unreachable"), hosts[own])
        if link == "vlan20":
            assert prefix_of(found, ("10.20.0.250", "vlan20"), hosts["a2"])
            assert found.pop("10.20.0.250") == ("", "vlan20")
        assert found == {
            "default": (gateway, link),
            str(network.cidr): ("", link),
            gateway: ("", link),
        }


def prefix_of(routes: dict[str, tuple[str, str]], way: tuple[str, str], host: Host) -> bool:
    """Takes the routes of that way out; whether one is to a prefix with the host's address."""
    found = [each for each, its in routes.items() if its == way]
    for each in found:
        del routes[each]
    return any(host.address in ipaddress.ip_network(each) for each in found)


async def test_endpoints_on_one_vlan_speak_directly_with_its_tag(cluster: Cluster) -> None:
    hosts = await hosts_of(cluster)
    assert await probing.reachable(hosts["a1"].path, hosts["a2"].address)
    there = await way(cluster, hosts["a1"], hosts["a2"])
    assert there == Way(
        Outcome.ANSWERED,
        [(IN, 20), (OUT, 20)],
        {"shared": [(OUT, 20)], "only-a": [(IN, 20)]},
    )


async def test_endpoints_on_two_vlans_of_one_node_meet_at_the_router(cluster: Cluster) -> None:
    hosts = await hosts_of(cluster)
    assert await probing.reachable(hosts["a1"].path, hosts["b1"].address)
    there = await way(cluster, hosts["a1"], hosts["b1"])
    assert there == Way(
        Outcome.ANSWERED,
        [(IN, 20), (OUT, 20), (IN, 30), (OUT, 30)],
        {"shared": [(OUT, 20), (IN, 30)], ROUTER: [(IN, 20), (OUT, 30)]},
    )
    from_elsewhere = await way(cluster, hosts["a2"], hosts["b1"])
    assert from_elsewhere == Way(
        Outcome.ANSWERED,
        [(IN, 20), (OUT, 20), (IN, 30), (OUT, 30)],
        {"only-a": [(OUT, 20)], ROUTER: [(IN, 20), (OUT, 30)], "shared": [(IN, 30)]},
    )


async def test_the_routers_access_rules_hold_within_a_node(cluster: Cluster) -> None:
    hosts = await hosts_of(cluster)
    a1, b1 = hosts["a1"], hosts["b1"]
    back = await way(cluster, b1, a1)
    assert back == Way(
        Outcome.PROHIBITED,
        [(IN, 30), (OUT, 30)],
        {"shared": [(OUT, 30)], ROUTER: [(IN, 30)]},
    )
    allowed = await probe.tcp(a1.path, b1.path, b1.address, 443, timeout=WAIT)
    denied = await probe.tcp(a1.path, b1.path, b1.address, 80, timeout=WAIT)
    assert (allowed, denied) == (Outcome.ANSWERED, Outcome.UNREACHABLE)


async def test_a_container_comes_by_the_cni_plugin(cluster: Cluster) -> None:
    hosts = await hosts_of(cluster)
    add(cluster.lab.name, ["pod"])
    pod = cluster.path("pod")
    socket = cluster.folder / "agent.only-a" / "cni.sock"

    def plugin(command: str) -> tuple[int, Any]:
        return run_plugin(
            command,
            {"network": "a", "socket": str(socket)},
            container="pod",
            netns=str(pod),
            args="IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=pod",
        )

    try:
        status, result = await asyncio.to_thread(plugin, "ADD")
        assert status == 0, result
        address = ipaddress.ip_interface(result["ips"][0]["address"]).ip
        assert await probing.reachable(hosts["a1"].path, address, within=WAIT)
        there = await way(cluster, Host("pod", pod, address, "a", "only-a"), hosts["b1"])
        assert there.outcome is Outcome.ANSWERED
        assert there.trunks[ROUTER] == [(IN, 20), (OUT, 30)]
        assert await asyncio.to_thread(plugin, "DEL") == (0, None)
        gone = await probing.ping(hosts["a1"].path, address, timeout=WAIT)
        assert gone.outcome is Outcome.UNREACHABLE
    finally:
        remove(cluster.lab.name, ["pod"])


async def test_policy_holds_on_this_kernel_and_a_flush_is_repaired(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Before Linux 6.9 no table belongs to its maker, and anybody flushes it."""
    file = tmp_path / "policies.yaml"
    file.write_text(POLICIES)
    await cluster.attach(Endpoint(name="x1", node="only-a", tenant="x"))
    hosts = await hosts_of(cluster)
    sources, destination = [hosts["a2"], hosts["x1"]], hosts["a1"]

    async def connected() -> dict[tuple[str, int], bool]:
        return {
            (source, port): outcome
            for port in (80, 443)
            for (source, _), outcome in (
                await connections.connected(sources, [destination], port)
            ).items()
        }

    everybody = {(source, port): True for source in ("a2", "x1") for port in (80, 443)}
    wanted = everybody | {("x1", 80): False}

    async def holds(expected: dict[tuple[str, int], bool]) -> None:
        async def found() -> bool:
            return await connected() == expected

        await until(found, WAIT)

    await holds(everybody)
    wait = str(int(WAIT))
    apply = ("policy", "apply", str(file), "--wait", wait)
    await asyncio.to_thread(romana, cluster, CONTROL, *apply)
    await holds(wanted)

    def table() -> list[str]:
        return sorted(at(cluster, "shared", "nft -s list table inet romana").splitlines())

    before = table()
    try:
        at(cluster, "shared", "nft flush table inet romana")
    except WrongState:
        pytest.skip("needs a kernel before 6.9, where anybody may flush the table")
    await eventually(lambda: table() == before)
    await holds(wanted)


async def test_a_crash_and_a_restart_of_the_agent_keep_its_links(cluster: Cluster) -> None:
    hosts = await hosts_of(cluster)
    flows = [(hosts["a1"].path, hosts["a2"].address), (hosts["a1"].path, hosts["b1"].address)]
    for flow in flows:
        assert await probing.reachable(*flow)

    def held() -> tuple[object, ...]:
        indexes = {name: link["ifindex"] for name, link in links(cluster, "shared").items()}
        return indexes, rules(cluster, "shared"), vlans(cluster, "shared")

    before = held()
    async with probing.traffic(flows, interval=0.5) as results:
        cluster.kill("shared")
        assert held() == before
        cluster.start("shared")
        await cluster.agent("shared").ready()
    echoes = [each for flow in results.values() for each in flow]
    assert echoes
    assert [each for each in echoes if each.outcome is not Outcome.ANSWERED] == []
    assert held() == before


async def test_uninstall_takes_our_links_and_leaves_one_of_somebody_elses(
    cluster: Cluster,
) -> None:
    theirs = (
        f"ip link add link {TRUNK_INTERFACE} name theirs type vlan id 99",
        "ip link set theirs up",
        "ip address add 192.0.2.1/24 dev theirs",
    )
    for command in theirs:
        at(cluster, "only-a", command)
    await eventually(lambda: "state UP" in at(cluster, "only-a", "ip link show theirs"))
    foreign = at(cluster, "only-a", "ip -d address show theirs")
    program = cluster.program("only-a")
    cluster.processes.stop(program.name, program.host)
    assert vlans(cluster, "only-a") == LINKS["only-a"], "a stopped agent removes nothing"
    state = cluster.folder / "agent.only-a"
    words = ("agent", "uninstall", "--yes", "--state-dir", str(state))
    await asyncio.to_thread(romana, cluster, "only-a", *words)
    assert {*links(cluster, "only-a")} == {"lo", "eth0", TRUNK_INTERFACE, "theirs"}
    assert at(cluster, "only-a", "ip -d address show theirs") == foreign
    assert rules(cluster, "only-a") == []
    assert at(cluster, "only-a", "ip route show table all proto 114") == ""
    assert at(cluster, "only-a", "ip nexthop show") == ""
    assert "romana" not in at(cluster, "only-a", "nft list tables")

    cluster.start("only-a")
    await cluster.agent("only-a").ready()
    assert vlans(cluster, "only-a") == LINKS["only-a"]
    hosts = await hosts_of(cluster)
    assert await probing.reachable(hosts["a2"].path, hosts["a1"].address, within=WAIT)
    assert at(cluster, "only-a", "ip -d address show theirs") == foreign
