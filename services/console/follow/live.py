"""Wakes browsers: what has changed since one was told last, however long it did not read.

A listener holds a set of topics, never a queue of events: so one that does not read costs no more
than one that does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from services.common.errors import Unavailable

TOPICS = ("services", "topology", "nodes", "changes", "policies", "map")
"""What a view may depend on; "map/NETWORK" besides, for one network."""


class Listener:
    """One browser."""

    def __init__(self) -> None:
        self._topics: set[str] = set()
        self._woken = asyncio.Event()

    def tell(self, topic: str) -> None:
        """Notes that something changed."""
        self._topics.add(topic)
        self._woken.set()

    async def next(self) -> list[str]:
        """Waits until there is something; returns what changed since the last time."""
        await self._woken.wait()
        self._woken.clear()
        topics, self._topics = sorted(self._topics), set()
        return topics


class Live:
    """All listeners."""

    def __init__(self, most: int) -> None:
        """At most so many at once."""
        self._listeners: set[Listener] = set()
        self._most = most

    def __len__(self) -> int:
        return len(self._listeners)

    def tell(self, topic: str) -> None:
        """Something changed."""
        for listener in self._listeners:
            listener.tell(topic)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Listener]:
        """A listener for as long as the block runs; raises Unavailable if there are too many."""
        if len(self._listeners) >= self._most:
            raise Unavailable(f"{self._most} browsers follow already", "TOO_MANY_STREAMS")
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
