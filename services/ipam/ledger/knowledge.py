"""What the store says, and all that follows from it.

Whoever follows the store changes it by what is read (`put_page`, `drop_page`); the active replica
by decisions, which are `services.ipam.ledger.state`. Both end in the same: all that is derived
depends on the pages, the layout, the nodes and the reservations alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.common.model.names import NodeName, Segment, Tenant
from services.common.records.blocks import BlockPage
from services.ipam.ledger.areas import Owner
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ground import Ground
from services.ipam.ledger.index import Place
from services.ipam.ledger.pages import clear_page, read_page


@dataclass(frozen=True, slots=True)
class NodeRelease:
    """What is in use on a node that is gone will be released."""

    noticed: int
    """Unix time in seconds."""
    due: int
    """The same: not before."""
    asked: bool
    """Somebody removed the node by force."""


class Knowledge(Ground):
    """Blocks with their addresses, nodes, networks and reservations."""

    def __init__(self) -> None:
        super().__init__()
        self.releases: dict[NodeName, NodeRelease] = {}
        """Written down; of nodes that are gone."""
        self.ticks = 0
        """Highest number given to a block that came into use or came back."""
        self.latest_rest = 0
        """When the last address was released of all that rest or rested, in milliseconds: by the
        clock of whoever released it."""

    def put_page(
        self, place: Place, bits: int, page: int, record: BlockPage, revision: int
    ) -> None:
        """Takes over a page as it was read."""
        self._now_readable(place, page)
        block = self.index.blocks.get(place)
        if record.returned:
            self.ticks = max(self.ticks, record.returned)
            if block is not None:
                self._lift(block, record.returned)
            else:
                area = self._area_at(place, record.length)
                if area is not None:
                    # by way of a moment in use, since it may have been noted before
                    slot = area.slot(place[1])
                    area.space.take(slot, "")
                    area.space.give_back(slot, "", record.returned)
            self.returned[place] = (record.length, record.returned)
            return
        if record.rest:
            self.latest_rest = max(self.latest_rest, *(item.time for item in record.rest))
        owner = Owner(NodeName(record.node), Tenant(record.tenant), Segment(record.segment))
        if block is not None and (block.born, block.length) != (record.born, record.length):
            self._lift(block, 0)
            block = None
        if block is None:
            self.returned.pop(place, None)
            self.ticks = max(self.ticks, record.born)
            block = self.index.make(place, record.length, bits, owner, born=record.born)
            read_page(block, page, record)
            block.revision = revision
            self.index.insert(block)
            self._settle(block)
        else:
            self._replace(block, page, record, revision)

    def drop_page(self, place: Place, page: int, revision: int) -> None:
        """Takes over that a page is gone; the first one goes with its block."""
        self._now_readable(place, page)
        block = self.index.blocks.get(place)
        if block is None:
            if page == 0:
                self.returned.pop(place, None)
        elif page == 0:
            self._lift(block, 0)
        else:
            self._replace(block, page, None, revision)

    def put_unreadable(self, place: Place, bits: int, page: int) -> None:
        """Takes over that there is a page that cannot be read: nothing of its slot is handed out.

        What was known of its block stays as it was.
        """
        if (place, page) not in self.unreadable:
            self.unreadable[place, page] = bits
            self._reserve_slot(place, bits)

    def _now_readable(self, place: Place, page: int) -> None:
        bits = self.unreadable.pop((place, page), None) if self.unreadable else None
        if bits is not None:
            self._restore_slot(place, bits)

    def _lift(self, block: Block, number: int) -> None:
        """Takes out a block that is gone from the store."""
        self._part(block)
        self.index.remove(block)
        if block.area is None:
            self._unstray(block)
        else:
            block.area.space.give_back(block.area.slot(block.base), block.node, number)

    def _replace(self, block: Block, page: int, record: BlockPage | None, revision: int) -> None:
        area = block.area
        if area is not None:
            area.used -= block.used
            area.resting -= block.resting
        for offset, name in block.in_use(page):
            self.index.discard(block, offset, name)
        if record is None:
            clear_page(block, page)
        else:
            read_page(block, page, record)
        for offset, name in block.in_use(page):
            self.index.add(block, offset, name)
        block.revision = max(block.revision, revision)
        if area is not None:
            area.used += block.used
            area.resting += block.resting
        self._note(block)
