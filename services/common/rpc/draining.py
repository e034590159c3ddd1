"""Tells the streams of a server that it is about to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Final, TypeVar

from services.common.errors import Unavailable

_T = TypeVar("_T")


DRAINING: Final = "DRAINING"
"""Reason of the error for what was refused, since the server stops."""


def _draining_error() -> Unavailable:
    """What calls get while the server stops."""
    return Unavailable("the server is about to stop; another replica serves", DRAINING)


class Draining:
    """Set once, when the stop begins.

    Single calls are served until all streams have ended: nobody has to be refused while they do.
    Stream handlers either wait for it beside their other events and end their stream as they like,
    or run under `bound`.
    """

    def __init__(self) -> None:
        self.begun = False
        """Whether the stop has begun."""
        self.closed = False
        """Whether single calls are refused, too."""
        self._event = asyncio.Event()

    def check(self) -> None:
        """Raises Unavailable once the stop has begun."""
        if self.begun:
            raise _draining_error()

    def check_call(self) -> None:
        """Raises Unavailable once single calls are refused."""
        if self.closed:
            raise _draining_error()

    def close(self) -> None:
        """Refuses single calls: for the server."""
        self.closed = True

    async def wait(self) -> None:
        await self._event.wait()

    def set(self) -> None:
        """Begins: for the server."""
        self.begun = True
        self._event.set()

    async def bound(self, work: Coroutine[object, object, _T]) -> _T:
        """Runs `work` until the stop begins, then cancels it and raises Unavailable."""
        task = asyncio.ensure_future(work)
        drained = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({task, drained}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise _draining_error()
        finally:
            pending = [waiting for waiting in (task, drained) if not waiting.done()]
            for waiting in pending:
                waiting.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
