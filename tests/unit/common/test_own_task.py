"""`services.common.own_task`."""

from __future__ import annotations

import asyncio

import pytest

from services.common.own_task import in_own_task


class _Fault(Exception):
    pass


async def _fail() -> None:
    raise _Fault


async def _group_that_fails() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_fail())
        group.create_task(asyncio.Event().wait())


async def test_a_timeout_works_where_a_group_failed() -> None:
    with pytest.raises(ExceptionGroup):
        await in_own_task(_group_that_fails(), "group")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()


async def test_who_is_cancelled_cancels_the_work() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    caller = asyncio.create_task(in_own_task(work(), "work"))
    await started.wait()
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    assert ended.is_set()
