from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from services.agent.model import WantedEndpoint
from services.agent.rules.wanted import WantedEndpoints
from services.common.model.names import EndpointName, Segment, Tenant

NAME = EndpointName("pod/shop/web-0/1")


def wanted(*, is_ending: bool = False) -> WantedEndpoint:
    return WantedEndpoint(NAME, Tenant("shop"), Segment(""), {}, is_ending=is_ending)


async def test_who_waits_gets_it_when_it_comes() -> None:
    known = WantedEndpoints()
    first, second = (asyncio.create_task(known.wait(NAME, 60)) for _ in range(2))
    await asyncio.sleep(0)
    known.update({f"wanted/{NAME}": wanted()}, ())
    assert await first == await second == wanted()
    assert await known.wait(NAME, 0) == wanted()


async def test_nobody_waits_for_longer_than_he_said() -> None:
    assert await WantedEndpoints().wait(NAME, 0.001) is None


async def test_who_gives_up_leaves_others_waiting() -> None:
    known = WantedEndpoints()
    first, second = (asyncio.create_task(known.wait(NAME, each)) for each in (0.001, 1e6))
    assert await first is None
    known.update({f"wanted/{NAME}": wanted()}, ())
    async with asyncio.timeout(60):
        assert await second == wanted()


async def test_what_was_taken_back_is_not_known_any_more() -> None:
    known = WantedEndpoints()
    known.update({f"wanted/{NAME}": wanted()}, ())
    known.update({}, [f"endpoint/{NAME}"])
    assert known.get(NAME) is not None
    known.update({}, [f"wanted/{NAME}"])
    assert known.get(NAME) is None


def test_addresses_are_kept_for_what_is_wanted_and_does_not_end() -> None:
    known = WantedEndpoints()
    assert not known.keeps(NAME)
    known.update({f"wanted/{NAME}": wanted()}, ())
    assert known.keeps(NAME)
    known.update({f"wanted/{NAME}": wanted(is_ending=True)}, ())
    assert not known.keeps(NAME)


async def test_those_that_are_gone_are_told_once() -> None:
    known = WantedEndpoints()
    known.update({f"wanted/{NAME}": replace(wanted(), is_gone=True)}, ())
    assert not known.keeps(NAME)
    assert await known.gone() == {NAME}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await known.gone()
