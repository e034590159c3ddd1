"""What cannot be read is not written over: there may be more in it than is known."""

from __future__ import annotations

from collections.abc import Iterable

from services.common.errors import Unavailable
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.pages import page_of


def can_write(ledger: Ledger, places: Iterable[tuple[Block, int]]) -> bool:
    """Says whether the pages of some addresses can be read."""
    return not ledger.unreadable or not any(
        (block.place, page_of(offset)) in ledger.unreadable for block, offset in places
    )


def refuse_unreadable(ledger: Ledger, name: str, places: Iterable[tuple[Block, int]]) -> None:
    """Raises Unavailable, since that passes once somebody has put the record right."""
    if not can_write(ledger, places):
        raise Unavailable(
            f"the record in etcd that has the addresses of {name!r} cannot be read, and is not "
            "written over: repair it",
            reason="RECORD_UNREADABLE",
            metadata={"name": name},
        )
