"""Whose a cancellation is: a task's own, or that of something it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def in_own_task(work: Coroutine[Any, Any, T], name: str) -> T:
    """Awaits work that has an `asyncio.TaskGroup`; if the caller is cancelled, so is the work.

    For a caller that goes on after the group has failed. Up to Python 3.11.2 such a group leaves a
    cancellation on the task that waits for it: the next `asyncio.timeout` there raises
    CancelledError instead of TimeoutError, and the task ends unseen.
    """
    return await asyncio.create_task(work, name=name)


def is_given_up() -> bool:
    """Says whether somebody cancels the current task. Else a CancelledError comes of what the task
    waits for, such as a call on a channel that somebody else has closed."""
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())
