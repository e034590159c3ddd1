"""Tells watchers what changed since they last looked.

Each has a set of names and a mark, not a queue: changes of one thing merge, so that a watcher that
is slow holds no more than the names of all nodes and costs the others nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.common.model.names import NodeName
from services.common.store.topology_view import TopologyDifference


@dataclass(frozen=True, slots=True)
class Untold:
    """What a watcher is to be told."""

    layout: bool
    nodes: frozenset[NodeName]
    """New, changed and gone."""


class Watcher:
    """What one watcher has not been told yet."""

    def __init__(self) -> None:
        self._layout = False
        self._nodes: set[NodeName] = set()
        self._changed = asyncio.Event()

    def note(self, difference: TopologyDifference) -> None:
        self._layout = self._layout or difference.layout
        self._nodes |= difference.nodes | difference.gone
        self._changed.set()

    async def next(self) -> Untold:
        """Waits for a change, and takes all there are."""
        await self._changed.wait()
        self._changed.clear()
        untold = Untold(self._layout, frozenset(self._nodes))
        self._layout = False
        self._nodes.clear()
        return untold


class Watchers:
    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()

    def __len__(self) -> int:
        return len(self._watchers)

    def note(self, difference: TopologyDifference) -> None:
        for watcher in self._watchers:
            watcher.note(difference)

    @contextmanager
    def watch(self) -> Iterator[Watcher]:
        """A watcher that is told everything from now on."""
        watcher = Watcher()
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.remove(watcher)
