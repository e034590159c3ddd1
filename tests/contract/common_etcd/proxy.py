"""A TCP proxy that can go silent: connections stay open and nothing passes."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

_LATER = 0.2
"""Seconds between what was held back first and the rest."""


class Proxy:
    """Forwards a loopback port to `endpoint`."""

    def __init__(self, endpoint: str) -> None:
        host, _, port = endpoint.rpartition(":")
        self._to = (host, int(port))
        self._to_server = asyncio.Event()
        self._from_server = asyncio.Event()
        self.speak()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.bytes_to_server = 0

    @property
    def endpoint(self) -> str:
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def silence(self) -> None:
        self._to_server.clear()
        self._from_server.clear()

    def hold_back(self) -> None:
        """Answers pass, requests do not."""
        self._to_server.clear()

    def hold_back_answers(self) -> None:
        """Requests pass, answers do not."""
        self._from_server.clear()

    def speak(self) -> None:
        """What was held back arrives now; what was sent after it, such as its end, a bit later."""
        self._to_server.set()
        self._from_server.set()

    def redirect(self, endpoint: str) -> None:
        """For connections to come; ends those there are."""
        host, _, port = endpoint.rpartition(":")
        self._to = (host, int(port))
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._to)
        except OSError:
            writer.close()
            return
        self._writers.append(far_writer)
        for source, sink, out in ((reader, far_writer, True), (far_reader, writer, False)):
            task = asyncio.create_task(self._pump(source, sink, out=out))
            self._tasks.add(task)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, out: bool
    ) -> None:
        passing = self._to_server if out else self._from_server
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                held = not passing.is_set()
                await passing.wait()
                self.bytes_to_server += len(data) if out else 0
                sink.write(data)
                await sink.drain()
                if held:
                    await asyncio.sleep(_LATER)
        sink.close()
