"""Steps in order; their undos in reverse when one fails, whatever it had come to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import pytest

from services.agent.endpoints.attach import STEPS
from services.agent.endpoints.steps import Step, take_steps
from services.common.errors import WrongState

SOON = 0.05


class Told(list[str]):
    """What was done, in order."""


def saying(text: str, error: Exception | None = None) -> Callable[[Told], Awaitable[None]]:
    async def do(told: Told) -> None:
        told.append(text)
        await asyncio.sleep(0)
        if error is not None:
            raise error

    return do


def step(
    name: str,
    *,
    fails: Exception | None = None,
    sticks: Exception | None = None,
    ahead: Callable[[Told], Coroutine[object, object, None]] | None = None,
) -> Step[Told]:
    return Step(name, saying(f"+{name}", fails), saying(f"-{name}", sticks), ahead)


async def run(*steps: Step[Told], seconds: float = 60) -> Told:
    told = Told()
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        await take_steps(steps, told, deadline, lambda name: told.append(f"={name}"))
    except (WrongState, LookupError, TimeoutError) as error:
        told.append(type(error).__name__)
    return told


async def test_all_are_done_in_order_and_nothing_is_undone() -> None:
    assert await run(step("a"), step("b")) == ["+a", "=a", "+b", "=b"]


@pytest.mark.parametrize("error", [WrongState("no", "NO"), LookupError("a defect")])
async def test_what_was_begun_is_undone_the_last_first(error: Exception) -> None:
    told = await run(step("a"), step("b", fails=error), step("c"))
    assert told == ["+a", "=a", "+b", "-b", "-a", type(error).__name__]


async def test_what_can_be_is_done_ahead_and_then_is_undone_too() -> None:
    met = asyncio.Event()

    async def ahead(told: Told) -> None:
        told.append("ahead of b")
        met.set()

    async def wait(told: Told) -> None:
        await met.wait()
        raise WrongState("no", "NO")

    first = Step("a", wait, saying("-a"))
    assert await run(first, step("b", ahead=ahead)) == ["ahead of b", "-b", "-a", "WrongState"]


async def test_a_failure_ahead_is_a_failure() -> None:
    async def ahead(told: Told) -> None:
        raise WrongState("no", "NO")

    told = await run(step("a"), step("b", ahead=ahead), step("c"))
    assert told == ["+a", "=a", "-b", "-a", "WrongState"]


async def test_a_step_that_is_cut_off_is_undone_and_undoing_is_not_cut_off() -> None:
    async def for_ever(told: Told) -> None:
        await asyncio.Event().wait()

    async def slowly(told: Told) -> None:
        await asyncio.sleep(SOON)
        told.append("-b")

    told = await run(step("a"), Step("b", for_ever, slowly), seconds=SOON)
    assert told == ["+a", "=a", "-b", "-a", "TimeoutError"]


async def test_an_undo_that_fails_ends_the_undoing() -> None:
    no = WrongState("no", "NO")
    told = await run(step("a"), step("b", sticks=no), step("c", fails=LookupError()))
    assert told == ["+a", "=a", "+b", "=b", "+c", "-c", "-b", "LookupError"]


def test_an_attach_has_five_steps() -> None:
    assert [each.reached for each in STEPS] == [
        "begun",
        "allocated",
        "linked",
        "placed",
        "attached",
    ]
