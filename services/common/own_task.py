"""For a caller that goes on after an `asyncio.TaskGroup` has failed.

Up to Python 3.11.2 a group that fails leaves a cancellation on the task that waits for it: the next
`asyncio.timeout` there raises CancelledError instead of TimeoutError, and the task ends unseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def in_own_task(work: Coroutine[Any, Any, T], name: str) -> T:
    """Awaits work that has a group; if the caller is cancelled, so is the work."""
    return await asyncio.create_task(work, name=name)
