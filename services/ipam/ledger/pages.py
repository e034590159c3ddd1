"""Blocks as pages of the store, and back."""

from __future__ import annotations

from collections import deque

from services.common.model.names import NodeName
from services.common.records.blocks import PAGE_BITS, BlockPage, PageRest, PageUse, PageVisit
from services.ipam.ledger.blocks import Block, Rest
from services.ipam.model import Visit


def page_of(offset: int) -> int:
    """The page that an offset is kept in."""
    return offset >> PAGE_BITS


def write_page(block: Block, page: int) -> BlockPage | None:
    """The page as it is to be stored; None if it is not to be: only the first may be empty."""
    first = page << PAGE_BITS
    names = block.names
    last = min(first + (1 << PAGE_BITS), len(names))
    times = block.times
    ordinals = block.ordinals or {}
    used = tuple(
        [
            PageUse(offset, name, times[offset], ordinals.get(offset, 0))
            for offset in range(first, last)
            if (name := names[offset]) is not None
        ]
    )
    rest = tuple([PageRest(*item) for item in block.rest or () if first <= item.offset < last])
    visits = tuple(
        [
            PageVisit(offset, visit.node, visit.to or "", visit.ready, visit.known)
            for offset, visit in sorted((block.visits or {}).items())
            if first <= offset < last
        ]
    )
    if page and not used and not rest:
        return None
    return BlockPage(
        length=block.length,
        node=block.node,
        tenant=block.tenant,
        segment=block.segment,
        born=block.born,
        used=used,
        rest=rest,
        visits=visits,
    )


def read_page(block: Block, page: int, record: BlockPage | None) -> None:
    """Sets what a block knows of a page; None: it is not stored, since nothing is in it.

    Counts and indexes are the caller's.
    """
    first = page << PAGE_BITS
    last = min(first + (1 << PAGE_BITS), len(block.names))
    _clear(block, first, last)
    window = ((1 << (last - first)) - 1) << first
    free = window & ~block.reserved
    if record is not None:
        free &= ~_read(block, record)
    block.free = block.free & ~window | free


def _read(block: Block, record: BlockPage) -> int:
    """Adds what is in a page to a block; returns the bits of these offsets."""
    taken = 0
    for offset, name, time, ordinal in (
        (use.offset, use.name, use.time, use.ordinal) for use in record.used
    ):
        block.names[offset] = name
        block.times[offset] = time
        taken |= 1 << offset
        if ordinal:
            if block.ordinals is None:
                block.ordinals = {}
            block.ordinals[offset] = ordinal
    if record.rest:
        mine = [Rest(item.offset, item.time) for item in record.rest]
        others = list(block.rest or ())
        block.rest = deque(sorted(others + mine, key=_released) if others else mine)
        for item in mine:
            taken |= 1 << item.offset
    for each in record.visits:
        if block.names[each.offset] is not None:
            to = NodeName(each.to) if each.to else None
            visit = Visit(NodeName(each.node), to, each.ready, each.known)
            block.set_visit(each.offset, visit)
    block.used += len(record.used)
    return taken


def _clear(block: Block, first: int, last: int) -> None:
    """Forgets what is in use and what rests from one offset up to and without another."""
    for offset in range(first, last):
        if block.names[offset] is not None:
            block.names[offset] = None
            block.used -= 1
            if block.ordinals:
                block.ordinals.pop(offset, None)
            block.set_visit(offset, None)
    if block.rest:
        block.rest = deque(item for item in block.rest if not first <= item.offset < last)


def _released(item: Rest) -> int:
    return item.time
