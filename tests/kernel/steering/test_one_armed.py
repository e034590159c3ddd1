"""One-armed devices on a VLAN: what they see, with strict reverse-path filtering."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.model.rules import Direction
from tests.kernel.steering.seeing import EVERYTHING, TO_80, ping, see, steer
from tests.kernel.steering.site import Fleet
from tests.support.netns import Namespaces


@pytest.fixture
async def fleet(made: Namespaces, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Two nodes, two endpoints on the first and one on the second, and a firewall."""
    fleet = Fleet(made, tmp_path)
    fleet.device("fw", 254, "a", "six")
    n1 = fleet.node("n1", 11, a="10.1.16.0/20", six="fd01::1000/116")
    n2 = fleet.node("n2", 12, a="10.1.32.0/20", six="fd01::2000/116")
    n1.endpoint("one", a="10.1.16.5", six="fd01::1005")
    n1.endpoint("two", a="10.1.16.6", six="fd01::1006")
    n2.endpoint("three", a="10.1.32.5", six="fd01::2005")
    async with fleet.running():
        yield fleet


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", ["two", "three"])
@pytest.mark.parametrize("direction", list(Direction))
async def test_every_packet_of_what_a_rule_leads_and_none_else(
    fleet: Fleet, version: int, target: str, direction: Direction
) -> None:
    whose = "one" if direction is Direction.EGRESS else target
    await steer(fleet, whose, direction, *TO_80)
    await asyncio.to_thread(see, fleet, version, "one", target)


@pytest.mark.parametrize("place", ["near", "far"])
@pytest.mark.parametrize("direction", list(Direction))
async def test_between_vlans_one_side_needs_devices(
    made: Namespaces, tmp_path: Path, direction: Direction, place: str
) -> None:
    """The device is on the VLAN of the endpoint whose rule it is, and on no other; the endpoints
    may be on one node."""
    fleet = Fleet(made, tmp_path, ("a", "b"))
    fleet.device("fw", 254, "a")
    near = fleet.node("n1", 11, a="10.1.16.0/20", b="10.2.32.0/20")
    far = fleet.node("n2", 12, a="10.1.32.0/20", b="10.2.16.0/20")
    near.endpoint("one", a="10.1.16.5")
    (near if place == "near" else far).endpoint("two", b="10.2.48.5")
    async with fleet.running():
        await steer(fleet, "one", direction, *TO_80)
        ends = ("one", "two") if direction is Direction.EGRESS else ("two", "one")
        await asyncio.to_thread(see, fleet, 4, *ends)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("target", ["two", "three"])
async def test_a_ping_passes_the_device_both_ways(fleet: Fleet, version: int, target: str) -> None:
    await steer(fleet, "one", Direction.EGRESS, *EVERYTHING)
    await asyncio.to_thread(ping, fleet, version, "one", target)
