"""Server-sent events: which parts of what is shown have changed. Browsers then ask for these.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from services.common.errors import RomanaError
from services.console.api.answers import failed
from services.console.api.caller import SCOPE, Looking
from services.console.follow.live import Live

GATHER_SECONDS: Final = 0.1
"""After something changed, so that one event tells of all that happens together."""
ALIVE_SECONDS: Final = 15.0
"""After which a comment is sent: a connection that broke is noticed by it."""


class EventStream:
    """`GET /api/events`."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def serve(self, request: Request) -> Response:
        """A stream for as long as the browser stays."""
        looking: Looking = request.scope[SCOPE]
        events = self._events()
        try:
            looking.check_reader()
            first = await anext(events)  # refused before it has begun, if there are too many
        except RomanaError as error:
            return failed(error)
        return StreamingResponse(_after(first, events), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        with self._live.listening() as listener:
            yield b"retry: 1000\nevent: ready\ndata: []\n\n"
            while True:
                try:
                    async with asyncio.timeout(ALIVE_SECONDS):
                        topics = await listener.next()
                except TimeoutError:
                    yield b": alive\n\n"
                    continue
                yield b"event: changed\ndata: " + msgspec.json.encode(topics) + b"\n\n"
                await asyncio.sleep(GATHER_SECONDS)


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for each in rest:
        yield each
