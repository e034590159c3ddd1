"""Which nodes' agents are there, on whatever replica their streams are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Set
from typing import Final

from romana.ipam.v1 import sync_routes_pb2 as pb

from services.ipam.deciding.evaluate import Agents

LASTS: Final = 2.0
"""Seconds for which what others said counts."""
PATIENCE: Final = 0.3
"""Seconds that a scheduler waits for other replicas."""


class AgentsThere:
    """Asks other replicas at most once at a time, and keeps for a moment what they said."""

    def __init__(
        self,
        own: Callable[[], Set[str]],
        others: Callable[[], int],
        ask: Callable[[], Awaitable[Collection[pb.GetSyncStatusResponse]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`own`: nodes with a stream here; `others`: how many other replicas there are; `ask`: what
        they say, those that do not answer left out."""
        self._own = own
        self._others = others
        self._ask = ask
        self._clock = clock
        self._elsewhere = Agents(complete=True)
        self._asked_at: float | None = None
        self._asking = asyncio.Lock()

    async def agents(self) -> Agents:
        """Those here as they are now, those elsewhere as they were a moment ago."""
        if not self._others():
            return Agents(self._own(), complete=True)
        if not self._lasts():
            async with self._asking:
                if not self._lasts():  # nobody asked meanwhile
                    await self._refresh()
        return Agents(self._own() | self._elsewhere.connected, self._elsewhere.complete)

    def _lasts(self) -> bool:
        return self._asked_at is not None and self._clock() - self._asked_at < LASTS

    async def _refresh(self) -> None:
        others = self._others()
        answers: Collection[pb.GetSyncStatusResponse] = ()
        try:
            async with asyncio.timeout(PATIENCE):
                answers = await self._ask()
        except TimeoutError:
            pass
        found = frozenset(node for answer in answers for node in _connected(answer))
        self._elsewhere = Agents(found, complete=len(answers) >= others)
        self._asked_at = self._clock()


def _connected(answer: pb.GetSyncStatusResponse) -> Iterator[str]:
    """One of the version before tells of all it knows instead."""
    yield from answer.connected
    yield from (each.node for each in answer.statuses if each.connected)
