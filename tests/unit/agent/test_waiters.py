from __future__ import annotations

import asyncio

from services.agent.waiters import Waiters


async def _waiting(waiters: Waiters, *generations: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(waiters.wait(generation)) for generation in generations]
    await asyncio.sleep(0)
    return tasks


async def test_those_whose_generation_is_settled_go_on_and_the_others_wait() -> None:
    waiters = Waiters()
    early, late, any_time = await _waiting(waiters, 1, 3, 0)
    waiters.settle(2)
    await asyncio.gather(early, any_time)
    assert not late.done()
    waiters.settle(3)
    await late


async def test_what_was_settled_before_is_waited_for_again() -> None:
    waiters = Waiters()
    waiters.settle(5)
    (task,) = await _waiting(waiters, 0)
    assert not task.done()
    waiters.settle(5)
    await task


async def test_one_that_gives_up_holds_up_nobody() -> None:
    waiters = Waiters()
    gone, other = await _waiting(waiters, 1, 1)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    waiters.settle(1)
    await other
