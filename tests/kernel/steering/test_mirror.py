"""Rules that have copies made: the device sees all of it, and nobody else notices."""

from __future__ import annotations

import asyncio
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
    between,
    inside,
    ports,
    steer,
    via,
)
from tests.kernel.steering.site import TAPS, Device, Fleet, Talk, datagrams
from tests.support.netns import Namespaces
from tests.support.waiting import becomes

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
            talk.finish()
        assert datagrams(one, other, there, port, 20) == 20
        said, heard = Counter[Flow](), Counter[Flow]()

        def all_heard() -> bool:
            for wire in (mine, its):
                gone, came = map(_talk, heard_of(wire))
                said.update(gone)
                heard.update(came)
            return said == heard

        assert becomes(all_heard), (said, heard)
        return said


def _talk(flows: Counter[Flow]) -> Counter[Flow]:
    return Counter({flow: flows[flow] for flow in flows if flow[0] in {6, 17}})


def seen(device: Device) -> Counter[Flow]:
    """What came to it since the last time of what endpoints say."""
    return _talk(device.seen())


def comes_to_see(device: Device, flows: Counter[Flow]) -> bool:
    """Whether all of it, and nothing else, comes to a device: copies may be on their way."""
    found = Counter[Flow]()

    def all_seen() -> bool:
        found.update(seen(device))
        return found == flows

    return becomes(all_seen)


def see(fleet: Fleet, version: int, target: str, *, led: bool = False) -> None:
    firewall, tap = fleet.devices
    for device in fleet.devices:
        device.seen()
    sent(fleet, version, target, DIRECT)
    assert not seen(tap)
    assert not seen(firewall)
    talk = sent(fleet, version, target, STEERED)
    assert talk
    assert comes_to_see(tap, talk)
    assert comes_to_see(firewall, talk if led else Counter())
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


def see_ping(fleet: Fleet, version: int) -> None:
    here, there = address_of(fleet, "one", version), address_of(fleet, "three", version)
    one, tap = inside(fleet, "one"), fleet.devices[1]
    with one.call(lambda: capture("eth0")) as mine:
        tap.seen()
        assert one.pings(there)
        asked, copied = Counter[Flow](), Counter[Flow]()

        def all_copied() -> bool:
            asked.update(between(sum(heard_of(mine), Counter[Flow]()), here, there))
            copied.update(between(tap.seen(), here, there))
            return asked == copied

        assert becomes(all_copied), (asked, copied)
    protocol = 1 if version == 4 else 58
    assert {*copied} == {(protocol, here, there), (protocol, there, here)}


@pytest.mark.parametrize("version", [4, 6])
async def test_a_ping_is_copied_and_its_answer(fleet: Fleet, version: int) -> None:
    rule = CompiledRule(0, Action.ALLOW, any_peer=True, ports=(ECHO[version],), mirror=TAPS)
    await steer(fleet, "one", Direction.EGRESS, rule, ANY_OTHER)
    await asyncio.to_thread(see_ping, fleet, version)


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
