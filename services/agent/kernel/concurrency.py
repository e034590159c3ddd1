"""Doing two things at once, so that both have ended when one of them failed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import TypeVar

_T = TypeVar("_T")


async def in_thread(work: Callable[[], _T], threads: Executor | None = None) -> _T:
    """Does something that blocks, with the loop's own threads or others.

    When it is cancelled, it ends only after the work has: nothing that it makes comes later.
    """
    answer = asyncio.get_running_loop().run_in_executor(threads, work)
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        await asyncio.wait([answer])
        raise


@asynccontextmanager
async def meanwhile(work: Coroutine[object, object, _T]) -> AsyncIterator[asyncio.Task[_T]]:
    """Does something while the body runs, and ends when both have.

    When the body fails, the other is cancelled, and only the body's error is raised.
    """
    task = asyncio.create_task(work)
    try:
        yield task
    except BaseException:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # else asyncio would say that nobody has looked at it
        raise
    await task
