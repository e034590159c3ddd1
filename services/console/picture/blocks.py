"""The blocks of one network, and how full any part of it is."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.console.picture.ranges import Range, Sums, merged


@dataclass(frozen=True, slots=True)
class Block:
    """A block that a node holds."""

    prefix: str
    where: Range
    node: str
    tenant: str
    segment: str
    group: str
    used: int
    resting: int
    stranded: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """How many addresses of some range are in which state; a stranded block's are counted apart."""

    size: int
    used: int = 0
    resting: int = 0
    reserved: int = 0
    held: int = 0
    """In blocks, whatever their state."""
    stranded: int = 0
    """In blocks outside of their group."""

    @property
    def free(self) -> int:
        """What nobody has and nothing keeps back."""
        return max(0, self.size - self.used - self.resting - self.reserved)


@dataclass(frozen=True, slots=True)
class _Index:
    blocks: Sequence[Block]
    firsts: Sequence[int]
    lasts: Sequence[int]
    used: Sums
    resting: Sums
    held: Sums
    stranded: Sums
    reserved: Sums


class NetworkBlocks:
    """Changes with every event; sums are made anew when they are asked for after a change."""

    def __init__(self) -> None:
        self._blocks: dict[int, Block] = {}
        self._reserved: Sequence[Range] = ()
        self._made: _Index | None = None

    def __len__(self) -> int:
        return len(self._blocks)

    def put(self, block: Block) -> Block | None:
        """Adds or replaces a block; returns the one before."""
        self._made = None
        before = self._blocks.get(block.where.first)
        self._blocks[block.where.first] = block
        return before

    def drop(self, where: Range) -> Block | None:
        """Forgets a block; returns it."""
        self._made = None
        return self._blocks.pop(where.first, None)

    def keep_only(self, firsts: set[int]) -> list[Block]:
        """Forgets all others; returns them."""
        gone = [block for first, block in self._blocks.items() if first not in firsts]
        for block in gone:
            del self._blocks[block.where.first]
        self._made = None
        return gone

    def reserve(self, ranges: Iterable[Range]) -> None:
        """Says what is reserved from now on."""
        self._reserved = merged(list(ranges))
        self._made = None

    def all(self) -> Iterable[Block]:
        """In no order."""
        return self._blocks.values()

    def within(self, wanted: Range) -> Sequence[Block]:
        """The blocks that overlap a range, ascending."""
        index = self._index()
        begin = bisect_left(index.lasts, wanted.first)
        return index.blocks[begin : bisect_right(index.firsts, wanted.last)]

    def usage(self, wanted: Range) -> Usage:
        """How full a range is."""
        index = self._index()
        return Usage(
            size=wanted.size,
            used=index.used.over(wanted),
            resting=index.resting.over(wanted),
            reserved=index.reserved.over(wanted),
            held=index.held.over(wanted),
            stranded=index.stranded.over(wanted),
        )

    def is_reserved(self, address: int) -> bool:
        """Says whether an address is reserved."""
        return bool(self._index().reserved.over(Range(address, address)))

    def _index(self) -> _Index:
        if self._made is None:
            blocks = [self._blocks[first] for first in sorted(self._blocks)]
            ranges = [block.where for block in blocks]
            self._made = _Index(
                blocks,
                [each.first for each in ranges],
                [each.last for each in ranges],
                Sums(ranges, [block.used for block in blocks]),
                Sums(ranges, [block.resting for block in blocks]),
                Sums(ranges, [each.size for each in ranges]),
                Sums(ranges, [block.where.size * block.stranded for block in blocks]),
                Sums(self._reserved, [each.size for each in self._reserved]),
            )
        return self._made
