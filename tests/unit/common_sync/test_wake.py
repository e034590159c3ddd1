"""What a stream's task waits for."""

from __future__ import annotations

import asyncio

import pytest

from services.common.sync.wake import Wake


async def test_what_was_set_before_is_not_waited_for() -> None:
    wake = Wake()
    wake.set()
    wake.set()
    await wake.wait()
    waiting = asyncio.create_task(wake.wait())
    await asyncio.sleep(0)
    assert not waiting.done()  # both were one
    wake.set()
    await waiting


async def test_who_waits_goes_on_and_nothing_set_meanwhile_is_lost() -> None:
    wake = Wake()
    waiting = asyncio.create_task(wake.wait())
    await asyncio.sleep(0)
    wake.set()
    await waiting
    wake.set()
    await wake.wait()


async def test_who_is_cancelled_leaves_what_was_set_to_the_next() -> None:
    wake = Wake()
    waiting = asyncio.create_task(wake.wait())
    await asyncio.sleep(0)
    wake.set()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await wake.wait()
