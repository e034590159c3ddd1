"""Begins the work on a stream's messages while that on those before goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Generic, TypeVar

from services.common.rpc.draining import Draining

AHEAD: Final = 8
"""Messages that are read before the first of them is answered."""

_Message = TypeVar("_Message")
_Answer = TypeVar("_Answer")


class ReadingAhead(Generic[_Message, _Answer]):
    """One stream. When the server drains, what was read is answered and nothing more is read."""

    def __init__(
        self,
        messages: AsyncIterator[_Message],
        begin: Callable[[_Message], Awaitable[asyncio.Task[_Answer]]],
        draining: Draining,
    ) -> None:
        self._messages = messages
        self._begin = begin
        self._draining = draining
        self._queue: asyncio.Queue[asyncio.Task[_Answer] | Exception | None] = asyncio.Queue(AHEAD)
        self._at_rest = False
        """It waits for a message, and has none in hand."""

    async def answers(self) -> AsyncIterator[_Answer]:
        """In the order of the messages; raises what reading or beginning raised, and Unavailable
        when the server drains."""
        reader = asyncio.create_task(self._read())
        ender = asyncio.create_task(self._end(reader))
        try:
            while (item := await self._queue.get()) is not None:
                if isinstance(item, Exception):
                    raise item
                yield await item
        finally:
            reader.cancel()
            ender.cancel()
            await asyncio.gather(reader, ender, return_exceptions=True)
            while not self._queue.empty():
                left = self._queue.get_nowait()
                if isinstance(left, asyncio.Task):
                    left.cancel()

    async def _read(self) -> None:
        end: Exception | None = None
        try:
            while True:
                self._draining.check()
                self._at_rest = True
                message = await anext(self._messages)
                self._at_rest = False
                await self._queue.put(await self._begin(message))
        except StopAsyncIteration:
            pass
        except Exception as error:  # noqa: BLE001 - raised where the queue is read
            end = error
        await self._queue.put(end)

    async def _end(self, reader: asyncio.Task[None]) -> None:
        await self._draining.wait()
        if self._at_rest and not reader.done():
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            try:
                self._draining.check()
            except Exception as error:  # noqa: BLE001 - as above
                await self._queue.put(error)
