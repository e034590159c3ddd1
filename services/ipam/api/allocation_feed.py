"""Follows addresses in use for a client: all, then what changes, merged while it is busy."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.common.model.names import NodeName
from services.common.rpc.draining import Draining
from services.ipam.api.block_feed import BlockChanges, BlockFeed
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.index import allocation
from services.ipam.ledger.listing import BlockFilter
from services.ipam.model import Allocation, Owner, address_text
from services.ipam.store.replica import Replica

BLOCKS: Final = 100
"""That are compared at once."""
CHUNK: Final = 5000
"""Addresses in one message."""


@dataclass(frozen=True, slots=True)
class AllocationChanges:
    allocated: Sequence[Allocation]
    """New, or another name, owner, node or time than before."""
    released: Sequence[str]
    in_sync: bool
    revision: int


@dataclass(frozen=True, slots=True)
class _Told:
    """What the client knows of a block."""

    owner: Owner
    base: int
    bits: int
    names: tuple[str | None, ...]
    """Of addresses that the client follows."""
    times: array[int]
    away: Mapping[int, NodeName]
    """Where addresses are that are not on the block's node."""

    def address(self, offset: int) -> str:
        return address_text(self.base + offset, self.bits)


@dataclass(slots=True)
class _Found:
    allocated: list[Allocation] = field(default_factory=list)
    released: dict[str, None] = field(default_factory=dict)
    """Without those that somebody has again."""


class AllocationFeed:
    """One client's view. What it knows costs 12 bytes for each address of its blocks."""

    def __init__(self, replica: Replica, block_filter: BlockFilter, draining: Draining) -> None:
        self._blocks = BlockFeed(replica, block_filter.may_have_addresses, draining, chunk=BLOCKS)
        self._node = block_filter.node
        self._told: dict[str, _Told] = {}
        """By the block's prefix: those of networks do not overlap."""

    async def follow(self) -> AsyncIterator[AllocationChanges]:
        """Yields changes; raises Unavailable when memory is read anew or the server stops."""
        async for changes in self._blocks.follow():
            found = _Found()
            for prefix in changes.removed:
                told = self._told.pop(prefix, None)
                if told is not None:
                    found.released.update(dict.fromkeys(_addresses(told)))
            for block in changes.updated:
                self._compare(block, found)
            for message in _messages(changes, found):
                yield message

    def _compare(self, block: Block, found: _Found) -> None:
        """Notes what is different from what the client knows, and that it will know it."""
        prefix = str(block)
        before, now = self._told.get(prefix), self._now(block)
        self._told[prefix] = now
        same_owner = before is not None and before.owner == now.owner
        for offset, name in enumerate(now.names):
            known = before.names[offset] if before is not None else None
            if name is None:
                if known is not None:
                    found.released[now.address(offset)] = None
            elif not (
                same_owner
                and before is not None
                and known == name
                and before.times[offset] == now.times[offset]
                and before.away.get(offset) == now.away.get(offset)
            ):
                found.allocated.append(allocation(block, offset))
                found.released.pop(now.address(offset), None)

    def _now(self, block: Block) -> _Told:
        away = {
            offset: visit.node
            for offset, visit in (block.visits or {}).items()
            if visit.node != block.node
        }
        names = tuple(block.names)
        if self._node and (away or self._node != block.node):
            names = tuple(
                name if away.get(offset, block.node) == self._node else None
                for offset, name in enumerate(names)
            )
        return _Told(block.owner, block.base, block.bits, names, block.times[:], away)


def _addresses(told: _Told) -> Iterator[str]:
    for offset, name in enumerate(told.names):
        if name is not None:
            yield told.address(offset)


def _messages(changes: BlockChanges, found: _Found) -> Iterator[AllocationChanges]:
    """Of a bounded size; the last one says that the client is in sync, if the blocks did."""
    released = list(found.released)
    count = max(len(found.allocated), len(released), 1 if changes.in_sync else 0)
    for start in range(0, count, CHUNK):
        end = start + CHUNK
        yield AllocationChanges(
            found.allocated[start:end],
            released[start:end],
            in_sync=changes.in_sync and end >= count,
            revision=changes.revision,
        )
