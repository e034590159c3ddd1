"""Two things at once: both have ended when one of them failed or was cancelled."""

from __future__ import annotations

import asyncio
import threading

import pytest

from services.agent.kernel.concurrency import in_thread, meanwhile


async def test_both_are_done_at_the_end() -> None:
    async def work() -> int:
        await asyncio.sleep(0.01)
        return 7

    async with meanwhile(work()) as task:
        assert not task.done()
    assert task.result() == 7


async def test_the_other_is_cancelled_and_over_when_the_body_fails() -> None:
    ended = False

    async def work() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended = True

    async def both() -> None:
        async with meanwhile(work()):
            await asyncio.sleep(0)
            raise LookupError

    with pytest.raises(LookupError):
        await both()
    assert ended


async def test_the_error_of_the_body_comes_first() -> None:
    async def both() -> None:
        async with meanwhile(_failing()):
            await asyncio.sleep(0.01)
            raise LookupError

    with pytest.raises(LookupError):
        await both()


async def test_the_error_of_the_other_is_raised_after_the_body() -> None:
    done = False

    async def both() -> None:
        nonlocal done
        async with meanwhile(_failing()):
            await asyncio.sleep(0.01)
            done = True

    with pytest.raises(ArithmeticError):
        await both()
    assert done


async def _failing() -> None:
    raise ArithmeticError


async def test_what_a_thread_has_begun_is_over_when_the_caller_is_cancelled() -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go.wait(10)
        ended.set()

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
