"""Rules that have copies made: the device sees all of it, and nobody else notices."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.model.rules import Action, CompiledRule, Direction, PortMatch, Protocol
from tests.kernel.steering.firewall import Flow, capture, heard_of
from tests.kernel.steering.seeing import (
    ANY_OTHER,
    DIRECT,
    STEERED,
    TCP,
    UDP,
    address_of,
    inside,
    ports,
    steer,
    via,
)
from tests.kernel.steering.site import TAPS, Device, Fleet, Talk, datagrams
from tests.support.netns import Namespaces

PROTOCOLS = ports(TCP, STEERED), ports(UDP, STEERED)
MIRRORED = CompiledRule(0, Action.ALLOW, any_peer=True, ports=PROTOCOLS, mirror=TAPS)
ECHO = {4: PortMatch(Protocol.ICMP, icmp_type=8), 6: PortMatch(Protocol.ICMPV6, icmp_type=128)}


@pytest.fixture
async def fleet(made: Namespaces, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Two nodes, two endpoints on the first and one on the second, a firewall and a tap."""
    fleet = Fleet(made, tmp_path)
    fleet.device("fw", 254, "a", "six")
    fleet.tap("tap", 253, "a", "six")
    n1 = fleet.node("n1", 11, a="10.1.16.0/20", six="fd01::1000/116")
    n2 = fleet.node("n2", 12, a="10.1.32.0/20", six="fd01::2000/116")
    n1.endpoint("one", a="10.1.16.5", six="fd01::1005")
    n1.endpoint("two", a="10.1.16.6", six="fd01::1006")
    n2.endpoint("three", a="10.1.32.5", six="fd01::2005")
    async with fleet.running():
        yield fleet


def sent(fleet: Fleet, version: int, target: str, port: int) -> Counter[Flow]:
    """Speaks by TCP and UDP; what both ends have sent, all of which has come to the other."""
    one, other = inside(fleet, "one"), inside(fleet, target)
    there = address_of(fleet, target, version)
    with one.call(lambda: capture("eth0")) as mine, other.call(lambda: capture("eth0")) as its:
        with Talk(one, other, there, port) as talk:
            assert talk.round_trip()
            assert talk.round_trip()
        assert datagrams(one, other, there, port, 20) == 20
        (gone, came), (back, answers) = map(said, (its, mine))
        assert came == back
        assert gone == answers
        return came + gone


def said(wire: socket.socket) -> tuple[Counter[Flow], Counter[Flow]]:
    """What an endpoint has sent and got, without what neighbours say to each other."""
    sent, came = heard_of(wire)
    return _talk(sent), _talk(came)


def _talk(flows: Counter[Flow]) -> Counter[Flow]:
    return Counter({flow: flows[flow] for flow in flows if flow[0] in {6, 17}})


def seen(device: Device) -> Counter[Flow]:
    """What came to it since the last time of what endpoints say."""
    return _talk(device.seen())


def see(fleet: Fleet, version: int, target: str, *, led: bool = False) -> None:
    firewall, tap = fleet.devices
    for device in fleet.devices:
        device.seen()
    sent(fleet, version, target, DIRECT)
    assert not seen(tap)
    assert not seen(firewall)
    talk = sent(fleet, version, target, STEERED)
    assert talk
    assert seen(tap) == talk
    assert seen(firewall) == (talk if led else Counter())
    assert firewall.invalid() == 0


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", ["two", "three"])
@pytest.mark.parametrize("direction", list(Direction))
async def test_the_device_gets_a_copy_of_every_packet_and_of_none_else(
    fleet: Fleet, version: int, target: str, direction: Direction
) -> None:
    whose = "one" if direction is Direction.EGRESS else target
    await steer(fleet, whose, direction, MIRRORED, ANY_OTHER)
    await asyncio.to_thread(see, fleet, version, target)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", ["two", "three"])
@pytest.mark.parametrize("direction", list(Direction))
async def test_what_goes_through_a_device_is_copied_once(
    fleet: Fleet, version: int, target: str, direction: Direction
) -> None:
    whose = "one" if direction is Direction.EGRESS else target
    await steer(fleet, whose, direction, replace(via(*PROTOCOLS), mirror=TAPS), ANY_OTHER)
    await asyncio.to_thread(see, fleet, version, target, led=True)


@pytest.mark.parametrize("version", [4, 6])
async def test_a_ping_is_copied_and_its_answer(fleet: Fleet, version: int) -> None:
    rule = CompiledRule(0, Action.ALLOW, any_peer=True, ports=(ECHO[version],), mirror=TAPS)
    await steer(fleet, "one", Direction.EGRESS, rule, ANY_OTHER)
    here, there = address_of(fleet, "one", version), address_of(fleet, "three", version)
    tap = fleet.devices[1]
    tap.seen()
    assert await asyncio.to_thread(inside(fleet, "one").pings, there)
    protocol = 1 if version == 4 else 58
    assert tap.seen() == {(protocol, here, there): 1, (protocol, there, here): 1}


async def test_nothing_changes_when_nobody_takes_the_copies(fleet: Fleet) -> None:
    await steer(fleet, "one", Direction.EGRESS, MIRRORED, ANY_OTHER)
    tap = fleet.devices[1]
    tap.kill()
    assert await asyncio.to_thread(sent, fleet, 4, "three", STEERED)
    tap.revive()
    down = tuple(replace(leg, is_up=False) for leg in fleet.taps.legs)
    for agent in fleet.agents.values():
        agent.take(replace(fleet.taps, legs=down))
    await fleet.settle()
    tap.seen()
    assert await asyncio.to_thread(sent, fleet, 4, "three", STEERED)
    assert not tap.seen()
