"""Closing blocks that are empty and in which the last rest has ended.

An owner that needs a slot has such a block closed at once; else the active replica looks for them
every second.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop
from typing import Final

from services.ipam.deciding.commands import CloseRested, Terms
from services.ipam.ledger.areas import Area
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ledger import Ledger

PAGES_AT_ONCE: Final = 32
"""How many pages of a large block are written at once, to fit into a transaction."""


def close_rested(ledger: Ledger, command: CloseRested, terms: Terms) -> None:
    """The last block may make it PAGES_AT_ONCE keys more than the command says."""
    end = ledger.unsaved.operations + command.keys_most
    for net in ledger.networks.values():
        for area in net.areas.values():
            while ledger.unsaved.operations < end and close_one(ledger, area, terms.now):
                pass
    for block in _empty_strays(ledger):
        if ledger.unsaved.operations >= end:
            return
        _close(ledger, block)


def close_one(ledger: Ledger, area: Area, now: int) -> bool:
    """Closes a block of an area in which the last rest has ended; says whether there was one."""
    while (first := area.first_emptied()) is not None and first.due <= now:
        block = heappop(area.empties).block
        if ledger.is_partly_unreadable(block):
            continue  # it is noted again when that was put right
        if not _close(ledger, block):
            area.note_empty(block)
        return True
    return False


def has_rested(ledger: Ledger, now: int) -> bool:
    """Says whether `close_rested` would find something."""
    return any(
        (first := area.first_emptied()) is not None and first.due <= now
        for net in ledger.networks.values()
        for area in net.areas.values()
    ) or bool(_empty_strays(ledger))


def _empty_strays(ledger: Ledger) -> Sequence[Block]:
    return [
        block
        for block in ledger.strays.values()
        if not (block.used or ledger.is_partly_unreadable(block))
    ]


def _close(ledger: Ledger, block: Block) -> bool:
    """Closes an empty block, or writes some of its pages: of a large one all must be gone first."""
    if block.pages > 1 and block.rest:
        ledger.wake(block, PAGES_AT_ONCE)
    if block.pages > 1 and block.rest:
        return False
    ledger.close_block(block)
    return True
