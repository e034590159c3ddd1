"""What a stream's task waits for: one task, and no more than a future each time.

`asyncio.Event` keeps a queue of those who wait and asks for the running loop every time, which a
thousand streams that are told something at once pay one after the other.
"""

from __future__ import annotations

import asyncio


class Wake:
    """Set from anywhere in the loop, waited for by one task at a time."""

    __slots__ = ("_is_set", "_loop", "_waiter")

    def __init__(self) -> None:
        """Inside the running loop."""
        self._loop = asyncio.get_running_loop()
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Has who waits go on, or who waits next not wait."""
        self._is_set = True
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def wait(self) -> None:
        """Returns once it was set since the last return."""
        if not self._is_set:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._is_set = False
