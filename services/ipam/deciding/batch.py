"""Requests in a row for which nothing has to be looked for.

Most of a decision is finding the block. Once a plain request of an owner got an address of a block,
the next plain request of that owner gets the next free address of it, as long as nothing but plain
requests came between: no other block can have got room, nothing was reserved, and no time passes
while a transaction is decided. Such a request costs a tenth of one that has to look.

A plain request that was refused is refused for the next one of its owner too, as long as nothing
but such requests came between. Finding out why nothing has room takes longer than all else.

Every address is entered as `services.ipam.deciding.allocation` would have entered it; the property
tests compare the two. Only what undoes it is one step for all addresses of a streak.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from services.ipam.deciding.commands import Item, Result
from services.ipam.ledger.areas import Area
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.index import OFFSET_BITS
from services.ipam.ledger.pages import page_of
from services.ipam.ledger.state import State
from services.ipam.model import ANY, Allocated, Given, NoAddress, Request

_owner = itemgetter(1, 2, 3)
"""Of a request: node, tenant, segment."""


def together(requests: Sequence[Request]) -> Sequence[int] | None:
    """The order in which to decide requests so that those of an owner follow each other.

    None: as they are. That is so too if a name occurs twice, since then the first is to get it.
    """
    by_owner: dict[tuple[str, ...], list[int]] = {}
    for index, owner in enumerate(map(_owner, requests)):
        found = by_owner.get(owner)
        if found is None:
            by_owner[owner] = [index]
        else:
            found.append(index)
    if len(by_owner) in {1, len(requests)}:
        return None
    if len({request.name for request in requests}) < len(requests):
        return None
    return [index for found in by_owner.values() for index in found]


class _Streak:
    """The block that an owner's last request got an address of."""

    __slots__ = ("area", "block", "code", "offsets", "page")

    def __init__(self, block: Block, area: Area, page: int, offsets: list[int]) -> None:
        self.block = block
        self.area = area
        self.page = page
        """Its own operation in the transaction; an offset of another page ends the streak."""
        self.offsets = offsets
        """Taken so far; they are undone together."""
        self.code = block.sequence << OFFSET_BITS


class Streaks:
    """The streaks of one transaction, by owner."""

    def __init__(self, state: State, stamp: int) -> None:
        """`stamp` is the time of allocation, Unix time in seconds, of all in the transaction."""
        self._state = state
        self._index = state.index
        self._stamp = stamp
        self._streaks: dict[tuple[str, str, str], _Streak] = {}
        self._refused: tuple[tuple[str, str, str], NoAddress] | None = None
        """The owner whose plain request was refused last."""

    def run(self, items: Sequence[Item], first: int, end: int, results: list[Result]) -> int:
        """Decides items from `first` on, before `end`; returns that of the first that is left.

        The caller decides that one, and passes it to `note`. What is decided here writes no page
        that was not written before.
        """
        codes, streaks, stamp = self._index.codes, self._streaks, self._stamp
        at, given_out = first, 0
        while at < end:
            item = items[at]
            if type(item) is not Request or item.wants is not ANY:
                break
            name, owner = item.name, item[1:4]
            if name in codes:
                break
            streak = streaks.get(owner)
            if streak is None:
                if self._refused is None or self._refused[0] != owner:
                    break
                results.append(self._refused[1])
                at += 1
                continue
            block = streak.block
            free = block.free
            offset = (free & -free).bit_length() - 1
            if offset < 0 or page_of(offset) != streak.page:
                del streaks[owner]
                break
            block.free = free & (free - 1)
            block.names[offset] = name
            block.times[offset] = stamp
            block.used += 1
            streak.area.used += 1
            streak.offsets.append(offset)
            codes[name] = streak.code | offset
            given = Given(
                block.base + offset, block.bits, block.network, block.base, block.length, stamp
            )
            results.append(Allocated([given], existed=False))
            at += 1
            given_out += 1
        self._index.used += given_out
        return at

    def note(self, item: Item, result: Result) -> None:
        """Says what was decided otherwise: a streak begins, or all end."""
        self._refused = None
        if type(result) is not Allocated:
            self._streaks.clear()
            if type(result) is NoAddress and type(item) is Request and item.wants is ANY:
                self._refused = item[1:4], result
        elif not result.existed:
            if type(item) is not Request or item.wants is not ANY:
                self._streaks.clear()
                return
            given = result.given[0]
            block = self._index.blocks[given.network, given.block_base]
            if block.free and block.area is not None:
                offsets = self._state.begin_streak(block)
                page = page_of(given.address - given.block_base)
                self._streaks[item[1:4]] = _Streak(block, block.area, page, offsets)
