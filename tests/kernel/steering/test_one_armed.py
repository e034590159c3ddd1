"""One-armed devices on a VLAN: what they see, with strict reverse-path filtering."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.model.devices import DeviceGroupName
from services.common.model.rules import Action, CompiledRule, Direction, PortMatch, Protocol
from tests.kernel.policy.rules import rules
from tests.kernel.steering.firewall import capture, outgoing
from tests.kernel.steering.site import GROUP, Fleet, Talk, datagrams
from tests.support.netns import Namespace, Namespaces

TCP, UDP = Protocol.TCP, Protocol.UDP
STEERED, DIRECT = 80, 81


def via(*ports: PortMatch, group: DeviceGroupName = GROUP) -> CompiledRule:
    return CompiledRule(0, Action.ALLOW, any_peer=True, ports=ports, via=group)


def ports(protocol: Protocol, number: int) -> PortMatch:
    return PortMatch(protocol, number, number)


ANY_OTHER = CompiledRule(1, Action.ALLOW, any_peer=True)
TO_80 = (via(ports(TCP, STEERED), ports(UDP, STEERED)), ANY_OTHER)
EVERYTHING = (via(),)

ADDRESSES = {
    4: {"one": "10.1.16.5", "two": "10.1.16.6", "three": "10.1.32.5"},
    6: {"one": "fd01::1005", "two": "fd01::1006", "three": "fd01::2005"},
}


@pytest.fixture
async def fleet(made: Namespaces, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Two nodes, two endpoints on the first and one on the second, and a firewall."""
    fleet = Fleet(made, tmp_path)
    fleet.device("fw", 254, "a", "six")
    n1 = fleet.node("n1", 11, a="10.1.16.0/20", six="fd01::1000/116")
    n2 = fleet.node("n2", 12, a="10.1.32.0/20", six="fd01::2000/116")
    for name, node in (("one", n1), ("two", n1), ("three", n2)):
        node.endpoint(name, a=ADDRESSES[4][name], six=ADDRESSES[6][name])
    async with fleet.running():
        yield fleet


def inside(fleet: Fleet, name: str) -> Namespace:
    return next(a.insides[name] for a in fleet.agents.values() if name in a.insides)


async def steer(fleet: Fleet, name: str, direction: Direction, *entries: CompiledRule) -> None:
    agent = next(a for a in fleet.agents.values() if name in a.insides)
    agent.give(name, rules("via", *entries, direction=direction))
    await fleet.settle()


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", ["two", "three"])
@pytest.mark.parametrize("direction", list(Direction))
async def test_every_packet_of_what_a_rule_leads_and_none_else(
    fleet: Fleet, version: int, target: str, direction: Direction
) -> None:
    whose = "one" if direction is Direction.EGRESS else target
    await steer(fleet, whose, direction, *TO_80)
    await asyncio.to_thread(_see, fleet, version, target)


def _see(fleet: Fleet, version: int, target: str) -> None:
    one, other = inside(fleet, "one"), inside(fleet, target)
    here, there = ADDRESSES[version]["one"], ADDRESSES[version][target]
    (device,) = fleet.devices
    device.seen()
    with Talk(one, other, there, DIRECT) as talk:
        assert talk.round_trip()
    assert not device.seen()
    with one.call(lambda: capture("eth0")) as mine, other.call(lambda: capture("eth0")) as its:
        with Talk(one, other, there, STEERED) as talk:
            assert talk.round_trip()
            assert talk.round_trip()
        seen = device.seen()
        assert seen[here, there] == outgoing(mine)[here, there]
        assert seen[there, here] == outgoing(its)[there, here]
    assert datagrams(one, other, there, STEERED, 20) == 20
    seen = device.seen()
    assert (seen[17, here, there], seen[17, there, here]) == (20, 20)
    assert datagrams(one, other, there, DIRECT, 20) == 20
    assert not [flow for flow in device.seen() if flow[0] == 17]
    assert device.invalid() == 0


@pytest.mark.parametrize("direction", list(Direction))
async def test_between_vlans_one_side_needs_devices(
    made: Namespaces, tmp_path: Path, direction: Direction
) -> None:
    """The device is on the VLAN of the endpoint whose rule it is, and on no other."""
    fleet = Fleet(made, tmp_path, ("a", "b"))
    fleet.device("fw", 254, "a")
    near = fleet.node("n1", 11, a="10.1.16.0/20", b="10.2.32.0/20")
    far = fleet.node("n2", 12, a="10.1.32.0/20", b="10.2.16.0/20")
    near.endpoint("one", a="10.1.16.5")
    far.endpoint("two", b="10.2.16.5")
    async with fleet.running():
        await steer(fleet, "one", direction, *TO_80)
        await asyncio.to_thread(_between, fleet, *_way(direction))


def _way(direction: Direction) -> tuple[str, str]:
    return ("one", "two") if direction is Direction.EGRESS else ("two", "one")


def _between(fleet: Fleet, source: str, target: str) -> None:
    addresses = {"one": "10.1.16.5", "two": "10.2.16.5"}
    here, there = addresses[source], addresses[target]
    begin, end = inside(fleet, source), inside(fleet, target)
    (device,) = fleet.devices
    assert datagrams(begin, end, there, DIRECT, 5) == 5
    assert not device.seen()
    with begin.call(lambda: capture("eth0")) as mine, end.call(lambda: capture("eth0")) as its:
        with Talk(begin, end, there, STEERED) as talk:
            assert talk.round_trip()
        seen = device.seen()
        assert seen[6, here, there] == outgoing(mine)[6, here, there]
        assert seen[6, there, here] == outgoing(its)[6, there, here]
    assert device.invalid() == 0


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", ["two", "three"])
async def test_a_ping_passes_the_device_both_ways(fleet: Fleet, version: int, target: str) -> None:
    await steer(fleet, "one", Direction.EGRESS, *EVERYTHING)
    here, there = ADDRESSES[version]["one"], ADDRESSES[version][target]
    (device,) = fleet.devices
    one = inside(fleet, "one")
    assert await asyncio.to_thread(one.pings, there)  # the device gets to know its neighbours
    device.seen()
    assert await asyncio.to_thread(one.pings, there)
    seen = device.seen()
    protocol = 1 if version == 4 else 58
    assert seen[protocol, here, there] == seen[protocol, there, here] == 1
    assert device.invalid() == 0
