"""What is kept going goes on after a defect, and says so."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from services.agent.kept import Kept

SECONDS = 10.0


async def test_what_failed_is_begun_again_and_shown() -> None:
    turns = 0
    again = asyncio.Event()

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns < 3:
            raise KeyError("alias")
        again.set()
        await asyncio.Event().wait()

    kept = Kept("endpoints", work, draw=lambda: 0.0)
    assert not kept.reasons
    task = asyncio.create_task(kept.run())
    async with asyncio.timeout(SECONDS):
        await again.wait()
    assert kept.reasons == ("endpoints: a defect in the agent: KeyError: 'alias'",)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_what_ends_is_an_error() -> None:
    async def work() -> None:
        return

    with pytest.raises(RuntimeError, match="endpoints has ended"):
        await Kept("endpoints", work).run()
