"""Follows blocks for a client: all of them, then what changes, merged while the client is busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from services.common.errors import Unavailable
from services.common.rpc.draining import Draining
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.index import Place
from services.ipam.store.replica import Replica

CHUNK: Final = 1000
"""Blocks in one message."""


@dataclass(frozen=True, slots=True)
class BlockChanges:
    updated: Sequence[Block]
    removed: Sequence[str]
    in_sync: bool
    revision: int


class BlockFeed:
    """One client's view. What changed while it was busy is kept as a set of blocks, no more."""

    def __init__(
        self,
        replica: Replica,
        is_wanted: Callable[[Block], bool],
        draining: Draining,
        *,
        chunk: int = CHUNK,
    ) -> None:
        """`chunk`: blocks that are told at once, at most."""
        self._chunk = chunk
        self._replica = replica
        self._is_wanted = is_wanted
        self._draining = draining
        self._sent: dict[Place, str] = {}
        self._changed: dict[Place, None] = {}
        self._void = False
        self._wake = asyncio.Event()

    async def follow(self) -> AsyncIterator[BlockChanges]:
        """Yields changes; raises Unavailable when memory is read anew or the server stops."""
        stop = self._replica.listen(self._on_change)
        drained = asyncio.create_task(self._draining.wait())
        drained.add_done_callback(lambda _: self._wake.set())
        try:
            ledger = await self._replica.committed()
            places: Iterable[Place] = list(ledger.index.blocks)
            in_sync = False
            while True:
                async for changes in self._tell(list(places), in_sync=in_sync):
                    yield changes
                in_sync = True
                await self._wake.wait()
                self._wake.clear()
                self._check()
                await self._replica.committed()
                self._check()
                places, self._changed = self._changed, {}
        finally:
            stop()
            drained.cancel()

    async def _tell(self, places: Sequence[Place], *, in_sync: bool) -> AsyncIterator[BlockChanges]:
        """Tells of blocks as they are now; `in_sync`: the client has had all of them already.

        First of those that are gone, since others may have their addresses by now.
        """
        gone = [self._sent.pop(place) for place in places if self._is_gone(place)]
        if len(gone) > self._chunk:
            for start in range(0, len(gone), self._chunk):
                part = gone[start : start + self._chunk]
                yield BlockChanges((), part, in_sync=False, revision=self._revision)
            gone = []
            await self._replica.committed()
            self._check()
        count = max(len(places), 0 if in_sync else 1)
        for start in range(0, count, self._chunk):
            if start:
                await self._replica.committed()
                self._check()
            updated = []
            for place in places[start : start + self._chunk]:
                if self._is_gone(place):
                    gone.append(self._sent.pop(place))
                block = self._wanted(place)
                if block is not None:
                    updated.append(block)
                    self._sent[place] = str(block)
            last = start + self._chunk >= count
            if updated or gone or (last and not in_sync):
                yield BlockChanges(updated, gone, last and not in_sync, self._revision)
            gone = []

    @property
    def _revision(self) -> int:
        return self._replica.revision

    def _wanted(self, place: Place) -> Block | None:
        block = self._replica.ledger.index.blocks.get(place)
        return block if block is not None and self._is_wanted(block) else None

    def _is_gone(self, place: Place) -> bool:
        """Says whether the client knows a block that is not there, or of another length."""
        sent = self._sent.get(place)
        if sent is None:
            return False
        block = self._wanted(place)
        return block is None or str(block) != sent

    def _check(self) -> None:
        self._draining.check()
        if self._void:
            raise Unavailable("this replica reads the store anew; watch again", reason="RESYNC")

    def _on_change(self, places: Sequence[Place] | None) -> None:
        if places is None:
            self._void = True
        else:
            self._changed.update(dict.fromkeys(places))
        self._wake.set()
