"""One task at a time for each name, which goes on to its end when its caller has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

from services.common.model.names import EndpointName

_T = TypeVar("_T")


class PerNameLock:
    """The tasks of endpoints."""

    def __init__(self) -> None:
        self._locks: dict[EndpointName, _Lock] = {}
        self._tasks: set[asyncio.Task[object]] = set()

    async def do(self, name: EndpointName, work: Callable[[], Coroutine[object, object, _T]]) -> _T:
        """Does something with a name, when nothing else is done with it."""

        async def locked() -> _T:
            lock = self._locks.setdefault(name, _Lock())
            lock.users += 1
            try:
                async with lock.lock:
                    return await work()
            finally:
                lock.users -= 1
                if not lock.users:
                    del self._locks[name]

        task = asyncio.create_task(locked(), name=f"endpoint {name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def close(self, seconds: float) -> None:
        """Lets what is being done come to its end, for that long."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits has it too; nobody may


class _Lock:
    """One name's, for as long as somebody uses it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
