"""Devices with an inside and an outside: what they see, with strict reverse-path filtering."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from services.common.model.rules import Direction
from tests.kernel.steering.seeing import EVERYTHING, TO_80, ping, see, steer
from tests.kernel.steering.site import Fleet
from tests.support.netns import Namespaces

Made: TypeAlias = Callable[[Namespaces, Path], AbstractAsyncContextManager[Fleet]]


@asynccontextmanager
async def on_one_vlan(made: Namespaces, folder: Path) -> AsyncIterator[Fleet]:
    """Both arms on the link of the endpoints' network."""
    fleet = Fleet(made, folder)
    fleet.two_armed("fw", 253, ("a", "a"), ("six", "six"))
    n1 = fleet.node("n1", 11, a="10.1.16.0/20", six="fd01::1000/116")
    n2 = fleet.node("n2", 12, a="10.1.32.0/20", six="fd01::2000/116")
    n1.endpoint("one", a="10.1.16.5", six="fd01::1005")
    n1.endpoint("two", a="10.1.16.6", six="fd01::1006")
    n2.endpoint("three", a="10.1.32.5", six="fd01::2005")
    async with fleet.running():
        yield fleet


@asynccontextmanager
async def outside_on_another_vlan(made: Namespaces, folder: Path) -> AsyncIterator[Fleet]:
    """The endpoints are on the inside's network all the same: on the outside's link the device
    hands to a node what is for them."""
    fleet = Fleet(made, folder, ("a", "b", "six", "six_b"))
    fleet.two_armed("fw", 253, ("a", "b"), ("six", "six_b"), by=11)
    n1 = fleet.node(
        "n1", 11, a="10.1.16.0/20", b="10.2.16.0/20", six="fd01::1000/116", six_b="fd02::1000/116"
    )
    n2 = fleet.node(
        "n2", 12, a="10.1.32.0/20", b="10.2.32.0/20", six="fd01::2000/116", six_b="fd02::2000/116"
    )
    n1.endpoint("one", a="10.1.16.5", six="fd01::1005")
    n1.endpoint("two", a="10.1.16.6", six="fd01::1006")
    n2.endpoint("three", a="10.1.32.5", six="fd01::2005")
    async with fleet.running():
        yield fleet


@asynccontextmanager
async def between_vlans(made: Namespaces, folder: Path) -> AsyncIterator[Fleet]:
    """An endpoint on the inside's network, others on the outside's."""
    fleet = Fleet(made, folder, ("a", "b", "six", "six_b"))
    fleet.two_armed("fw", 253, ("a", "b"), ("six", "six_b"))
    n1 = fleet.node(
        "n1", 11, a="10.1.16.0/20", b="10.2.16.0/20", six="fd01::1000/116", six_b="fd02::1000/116"
    )
    n2 = fleet.node(
        "n2", 12, a="10.1.32.0/20", b="10.2.32.0/20", six="fd01::2000/116", six_b="fd02::2000/116"
    )
    n1.endpoint("one", a="10.1.16.5", six="fd01::1005")
    n1.endpoint("two", b="10.2.16.6", six_b="fd02::1006")
    n2.endpoint("three", b="10.2.32.5", six_b="fd02::2005")
    async with fleet.running():
        yield fleet


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("other", ["two", "three"])
@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("site", [on_one_vlan, outside_on_another_vlan, between_vlans])
async def test_every_packet_of_what_a_rule_leads_and_none_else(
    made: Namespaces, tmp_path: Path, site: Made, direction: Direction, other: str, version: int
) -> None:
    """The rule is that of `one`; `two` is on the same node."""
    async with site(made, tmp_path) as fleet:
        await steer(fleet, "one", direction, *TO_80)
        ends = ("one", other) if direction is Direction.EGRESS else (other, "one")
        await asyncio.to_thread(see, fleet, version, *ends)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("other", ["two", "three"])
@pytest.mark.parametrize("site", [on_one_vlan, between_vlans])
async def test_a_ping_passes_the_device_both_ways(
    made: Namespaces, tmp_path: Path, site: Made, other: str, version: int
) -> None:
    async with site(made, tmp_path) as fleet:
        await steer(fleet, "one", Direction.EGRESS, *EVERYTHING)
        await asyncio.to_thread(ping, fleet, version, "one", other)


@pytest.mark.parametrize("direction", list(Direction))
async def test_it_comes_in_by_one_arm_and_leaves_by_the_other(
    made: Namespaces, tmp_path: Path, direction: Direction
) -> None:
    """The inside is the side of the endpoint whose rule it is."""
    async with on_one_vlan(made, tmp_path) as fleet:
        await steer(fleet, "one", direction, *TO_80)
        ends = ("one", "three") if direction is Direction.EGRESS else ("three", "one")
        (device,) = fleet.devices
        device.seen()
        await asyncio.to_thread(see, fleet, 4, *ends)
        addresses = {"one": "10.1.16.5", "three": "10.1.32.5"}
        assert device.came["e-a"] == {addresses["one"]}
        assert device.came["e-ao"] == {addresses["three"]}
