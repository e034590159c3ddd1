"""Which block of an owner is the oldest with room."""

from __future__ import annotations

from bisect import insort
from heapq import heappop, heappush
from typing import Final

from services.ipam.ledger.blocks import Block

STALE_MOST: Final = 16
"""How many entries of blocks that are gone may be kept, besides as many as there are blocks."""


class Holding:
    """The blocks of one owner in one area.

    Every block of it with a free offset is in `_open`; every block without one, but with resting
    ones, is in `_open` or `_ripening`. Blocks leave both lazily, when they are looked at.
    """

    __slots__ = ("_open", "_ripening", "blocks", "delay")

    def __init__(self, delay: int) -> None:
        self.delay = delay
        """How long addresses rest, in milliseconds."""
        self.blocks: set[Block] = set()
        self._open: list[tuple[int, int, Block]] = []
        self._ripening: list[tuple[int, int, Block]] = []

    def note(self, block: Block) -> None:
        """Says that a block may have got room, now or when a rest ends."""
        if block.free:
            if not block.opened:
                block.opened = True
                insort(self._open, (block.born, block.sequence, block))
        elif not block.opened and not block.ripening:
            ripe = self._ripe_at(block)
            if ripe is not None:
                block.ripening = True
                heappush(self._ripening, (ripe, block.sequence, block))

    def note_again(self, block: Block) -> None:
        """The same after what is reserved of it changed: another rest may be the first to count."""
        block.ripening = False
        self.note(block)
        self._tidy()

    def remove(self, block: Block) -> None:
        """Says that the owner no longer holds a block."""
        self.blocks.remove(block)
        self._tidy()

    def oldest_with_room(self, now: int) -> Block | None:
        """The oldest block that can give an address at `now`, in milliseconds."""
        while self._ripening and self._ripening[0][0] <= now:
            block = heappop(self._ripening)[2]
            block.ripening = False
            if not block.live or block.opened:
                continue
            if self._has_room(block, now):
                block.opened = True
                insort(self._open, (block.born, block.sequence, block))
            else:
                self.note(block)
        while self._open:
            block = self._open[0][2]
            if block.live and (block.free or self._has_room(block, now)):
                return block
            del self._open[0]
            block.opened = False
            if block.live:
                self.note(block)
        return None

    def ripe_at(self) -> int | None:
        """When the first of its resting addresses may be handed out, in milliseconds."""
        ripe = (self._ripe_at(block) for block in self.blocks)
        return min((time for time in ripe if time is not None), default=None)

    def _has_room(self, block: Block, now: int) -> bool:
        if block.free:
            return True
        ripe = self._ripe_at(block)
        return ripe is not None and ripe <= now

    def _ripe_at(self, block: Block) -> int | None:
        idle = block.longest_idle()
        return None if idle is None else idle.time + self.delay

    def _tidy(self) -> None:
        """Forgets entries that mean nothing any more: on a replica that only follows nobody looks
        at them."""
        if len(self._open) + len(self._ripening) <= 2 * len(self.blocks) + STALE_MOST:
            return
        for _, _, block in (*self._open, *self._ripening):
            block.opened = block.ripening = False
        self._open, self._ripening = [], []
        for block in self.blocks:
            self.note(block)
