"""The fabric of a lab, with plain machines only."""

from __future__ import annotations

import asyncio
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from lab import matrix, probe
from lab.capture import Capture
from lab.fabric import CONTROL, ROUTER, Fabric, down
from lab.file import parse
from lab.matrix import Host, Way
from lab.namespaces import hosts_of, inside, missing, name_of, path_of
from lab.probe import Outcome
from lab.spec import CONTROL_ADDRESS, Lab
from services.common.errors import WrongState
from tests.support import probing
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")

TEXT = """
name: {name}
networks:
  - {{name: test, cidr: 10.20.0.0/24, vlan_id: 20, gateway: 10.20.0.1}}
  - {{name: qa, cidr: 10.30.0.0/24, vlan_id: 30, gateway: 10.30.0.1}}
  - {{name: six, cidr: "fd00:60::/64", vlan_id: 60, gateway: "fd00:60::1"}}
  - {{name: seven, cidr: "fd00:70::/64", vlan_id: 70, gateway: "fd00:70::1"}}
router:
  allow:
    - {{from: test, to: qa, protocol: icmp}}
    - {{from: test, to: qa, protocol: tcp, ports: [443]}}
    - {{from: qa, to: test, protocol: udp}}
    - {{from: six, to: seven}}
nodes:
  - {{name: n1, addresses: {{test: 10.20.0.11, qa: 10.30.0.11}}}}
machines:
  - {{name: t1, network: test, address: 10.20.0.21}}
  - {{name: t2, network: test, address: 10.20.0.22}}
  - {{name: q1, network: qa, address: 10.30.0.21}}
  - {{name: s1, network: six, address: "fd00:60::21"}}
  - {{name: s2, network: seven, address: "fd00:70::21"}}
"""


def new_lab() -> Lab:
    return parse(TEXT.format(name=f"test-{uuid.uuid4().hex[:8]}"))


def hosts(lab: Lab) -> dict[str, Host]:
    return {
        machine.name: Host(
            machine.name, path_of(lab.name, machine.name), machine.address, machine.network
        )
        for machine in lab.machines
    }


@pytest.fixture(scope="module")
def shared_lab() -> Iterator[Lab]:
    lab = new_lab()
    Fabric(lab).up()
    yield lab
    down(lab.name)


@pytest.fixture
def lab(shared_lab: Lab) -> Lab:
    return shared_lab


def host_state() -> list[str]:
    """What a lab might have left in the namespace of the machine; other labs are others' affair."""
    commands = ("ip -o link", "ip -o address", "ip route", "ip rule", "nft list ruleset")
    return [subprocess.check_output(command.split(), text=True) for command in commands]


def test_down_leaves_nothing_and_it_comes_up_again() -> None:
    before = host_state()
    lab = new_lab()
    for _ in range(2):
        Fabric(lab).up()
        assert set(hosts_of(lab.name)) == set(Fabric(lab).hosts)
        assert host_state() == before
        down(lab.name)
        assert hosts_of(lab.name) == []
    assert host_state() == before


def test_down_ends_what_runs_inside() -> None:
    lab = new_lab()
    Fabric(lab).up()
    process = subprocess.Popen(inside(path_of(lab.name, "t1"), ["sleep", "600"]))
    try:
        while not subprocess.check_output(["ip", "netns", "pids", name_of(lab.name, "t1")]):
            assert process.poll() is None
        down(lab.name)
        assert process.wait(60) == -9
    finally:
        process.kill()
        process.wait()
        down(lab.name)


def test_down_of_what_is_not_there_does_nothing() -> None:
    assert down("never-was") == []


def test_a_second_lab_of_a_name_is_refused_and_the_first_stays(shared_lab: Lab) -> None:
    with pytest.raises(WrongState, match="already"):
        Fabric(shared_lab).up()
    assert set(hosts_of(shared_lab.name)) == set(Fabric(shared_lab).hosts)


def test_one_that_fails_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = new_lab()
    monkeypatch.setattr("lab.acl.rendered", lambda _: "no nft file")
    with pytest.raises(WrongState, match="nft"):
        Fabric(lab).up()
    assert hosts_of(lab.name) == []


async def test_the_matrix_follows_the_access_rules(lab: Lab) -> None:
    everybody = [*hosts(lab).values()]
    routers = {ROUTER: path_of(lab.name, ROUTER)}
    crossings = await matrix.measured(everybody, everybody, routers)
    ways = {(each.source.name, each.destination.name): each.way for each in crossings}
    assert ways == {
        ("t1", "t2"): Way.DIRECT,
        ("t2", "t1"): Way.DIRECT,
        ("t1", "q1"): Way.ROUTER,
        ("t2", "q1"): Way.ROUTER,
        ("q1", "t1"): Way.DENIED,
        ("q1", "t2"): Way.DENIED,
        ("s1", "s2"): Way.ROUTER,
        ("s2", "s1"): Way.DENIED,
    }
    said = {(each.source.name, each.destination.name): each for each in crossings}
    assert said["q1", "t1"].outcome is Outcome.PROHIBITED
    assert said["q1", "t1"].said_by == "10.30.0.1"


async def test_tcp_and_udp_follow_the_access_rules(lab: Lab) -> None:
    t1, q1 = hosts(lab)["t1"], hosts(lab)["q1"]
    there, back = (t1.path, q1.path, q1.address), (q1.path, t1.path, t1.address)
    assert await probe.tcp(*there, 443, timeout=PATIENCE) is Outcome.ANSWERED
    assert await probe.tcp(*there, 80, timeout=PATIENCE) is Outcome.UNREACHABLE
    assert await probing.udp(*back, 53, timeout=PATIENCE) is Outcome.ANSWERED
    assert await probing.udp(*there, 53, timeout=PATIENCE) is Outcome.UNREACHABLE


async def test_the_capture_shows_ports_and_interfaces(lab: Lab) -> None:
    t1, q1 = hosts(lab)["t1"], hosts(lab)["q1"]
    with Capture(path_of(lab.name, ROUTER)) as capture:
        there = (t1.path, q1.path, q1.address)
        await probe.tcp(*there, 443, source_port=20001, timeout=PATIENCE)
        seen = [each for each in capture.seen() if each.ports == (20001, 443)]
    assert [(each.interface, each.outgoing) for each in seen[:2]] == [
        ("vlan20", False),
        ("vlan30", True),
    ]
    assert (seen[0].source, seen[0].destination) == (t1.address, q1.address)


async def test_an_address_that_nobody_has(lab: Lab) -> None:
    t1 = hosts(lab)["t1"]
    free = t1.address + 100
    echoed = await probing.ping(t1.path, free, timeout=0.3)
    assert echoed.outcome is Outcome.SILENT
    assert not await probing.reachable(t1.path, free, within=0.3)


async def test_nodes_reach_control_and_the_vlans_they_are_on(lab: Lab) -> None:
    n1 = path_of(lab.name, "n1")
    assert await probing.reachable(n1, CONTROL_ADDRESS)
    assert await probing.reachable(n1, hosts(lab)["t1"].address)
    assert await probing.reachable(n1, hosts(lab)["q1"].address)
    assert await probing.reachable(path_of(lab.name, CONTROL), lab.management("n1"))


async def test_machines_do_not_see_the_management_network(lab: Lab) -> None:
    echoed = await probing.ping(hosts(lab)["t1"].path, CONTROL_ADDRESS, timeout=0.3)
    assert echoed.outcome is not Outcome.ANSWERED


async def test_traffic_counts_every_echo(lab: Lab) -> None:
    t1, t2 = hosts(lab)["t1"], hosts(lab)["t2"]
    async with probing.traffic([(t1.path, t2.address)], interval=0.005) as results:
        flow = results[t1.path.name, t2.address]
        async with asyncio.timeout(60):
            while len(flow) < 20:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert {each.outcome for each in flow} == {Outcome.ANSWERED}
