"""What ipam knows: what the store says, all that follows from it, and decisions on their way there.

Whoever follows the store changes it by what is read (`put_page`, `drop_page`); the active replica
by decisions (`services.ipam.deciding`), which take effect at once. `unsaved` collects what they
change for the next transaction, `undo` how to take back exactly what could not be written. Both
ways end in the same: all that is derived depends on the pages, the layout, the nodes and the
reservations alone.

Topology and reservations change areas, to which undoing refers: they change only while no decision
is pending.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from services.common.model.names import NodeName, Segment, Tenant
from services.common.records.blocks import BlockPage
from services.ipam.ledger.areas import Area
from services.ipam.ledger.blocks import Block, Left, Rest
from services.ipam.ledger.ground import Ground, Reservation
from services.ipam.ledger.index import Place
from services.ipam.ledger.pages import page_of, read_page, write_page
from services.ipam.ledger.undo import Undo
from services.ipam.ledger.unsaved import NodeRelease, PageChange, Pending, Unsaved
from services.ipam.model import Owner, Visit


class Ledger(Ground):
    """Blocks with their addresses, nodes, networks and reservations."""

    def __init__(self) -> None:
        super().__init__()
        self.undo = Undo()
        self.unsaved = Unsaved()
        self.releases: dict[NodeName, NodeRelease] = {}
        """Written down; of nodes that are gone."""
        self.ticks = 0
        """Highest number given to a block that came into use or came back."""
        self.latest_rest = 0
        """When the last address was released of all that rest or rested, in milliseconds: by the
        clock of whoever released it."""

    def _ground_changed(self) -> None:
        assert not self.undo.mark()
        super()._ground_changed()

    # What the store says.

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
                    area.pool.take(slot, "")
                    area.pool.give_back(slot, "", record.returned)
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
            self._find_area(block)
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

    def put_node_release(self, node: NodeName, release: NodeRelease | None) -> None:
        """Takes over that a node's release is written down, or is no more."""
        if release is None:
            self.releases.pop(node, None)
        else:
            self.releases[node] = release

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
            block.area.pool.give_back(block.area.slot(block.base), block.node, number)

    def _replace(self, block: Block, page: int, record: BlockPage | None, revision: int) -> None:
        area = block.area
        if area is not None:
            area.used -= block.used
            area.resting -= block.resting
        for offset, name in block.in_use(page):
            self.index.discard(block, offset, name)
        read_page(block, page, record)
        for offset, name in block.in_use(page):
            self.index.add(block, offset, name)
        self.index.note_visits(block)
        block.revision = max(block.revision, revision)
        if area is not None:
            area.used += block.used
            area.resting += block.resting
        self._note(block)

    # Decisions.

    def open_block(self, area: Area, slot: int, owner: Owner) -> Block:
        place = (area.network.name, area.slot_base(slot))
        reserved = area.reserved_offsets(slot)
        queued = area.pool.take(slot, owner.node)
        returned = self.returned.pop(place, None)
        self.ticks += 1
        block = self.index.make(place, area.network.block_length, area.bits, owner, born=self.ticks)
        block.reserve(reserved)
        self.index.insert(block)
        self._join(block, area)
        self.unsaved.touch(block, 0)

        def undo() -> None:
            self._part(block)
            self.index.remove(block)
            area.pool.untake(slot, owner.node, queued)
            if returned is not None:
                self.returned[place] = returned

        self.undo.push(undo)
        return block

    def close_block(self, block: Block) -> None:
        """Takes back a block with nothing in use, and at rest in its first page at most."""
        area = block.area
        place = block.place
        holding = area.holdings[block.owner] if area is not None else None
        self.unsaved.touch(block, 0)
        self._part(block)
        self.index.remove(block)
        self.ticks += 1
        if area is None:
            self._unstray(block)
        else:
            area.pool.give_back(area.slot(block.base), block.node, self.ticks)
            if area.keeps_returned:
                self.returned[place] = (block.length, self.ticks)

        def undo() -> None:
            self.returned.pop(place, None)
            if area is None or holding is None:
                self._stray(block)
            else:
                area.pool.take(area.slot(block.base), block.node)
                # the same again: by `opened` and `ripening` the block is in its lists
                area.holdings.setdefault(block.owner, holding)
            self.index.insert(block)
            self._join(block, area)

        self.undo.push(undo)

    def hand_over(self, block: Block, node: NodeName) -> Block:
        """Gives a block to another node, with what is in use and at rest in it.

        Returns what has taken its place.
        """
        area = block.area
        assert area is not None
        slot, owner = area.slot(block.base), Owner(node, block.tenant, block.segment)
        holding = area.holdings[block.owner]
        self._part(block)
        self.index.remove(block)
        self.ticks += 2
        area.pool.give_back(slot, block.node, self.ticks - 1)
        queued = area.pool.take(slot, node)
        new = self.index.make(block.place, block.length, block.bits, owner, born=self.ticks)
        new.take_over(block)
        self.index.insert(new)
        self._join(new, area)
        self.unsaved.takes = True
        self.unsaved.claim(new, area)
        for page in range(new.pages):
            self.unsaved.touch(new, page)

        def undo() -> None:
            self._part(new)
            self.index.remove(new)
            area.pool.untake(slot, node, queued)
            area.pool.take(slot, block.node)
            # the same again: by `opened` and `ripening` the block is in its lists
            area.holdings.setdefault(block.owner, holding)
            self.index.insert(block)
            self._join(block, area)

        self.undo.push(undo)
        return new

    def wake(self, block: Block, most: int) -> None:
        """Ends the rest in at most that many pages of a block, the first page last."""
        before, counted = block.rest, block.resting
        pages = sorted({page_of(item.offset) for item in before or ()}, reverse=True)[:most]
        block.rest = deque(item for item in before or () if page_of(item.offset) not in pages)
        block.refree()
        if block.area is not None:
            block.area.resting += block.resting - counted
        for page in pages:
            self.unsaved.touch(block, page)

        def undo() -> None:
            if block.area is not None:
                block.area.resting += counted - block.resting
            block.rest = before
            block.refree()
            self._note(block)

        self.undo.push(undo)

    def use(self, block: Block, offset: int, name: str, time: int, ordinal: int = 0) -> None:
        """Takes a free or resting address into use; `time` is Unix time in seconds."""
        area = block.area
        assert area is not None
        woken = block.enter(offset, name, time, ordinal)
        self.index.add(block, offset, name)
        area.used += 1
        if woken is not None:
            area.resting -= 1
        self.unsaved.takes = True
        if block.used == 1:
            self.unsaved.claim(block, area)
        self.unsaved.touch(block, page_of(offset))
        self.undo.push(self._unuse, block, offset, name, woken)

    def _unuse(self, block: Block, offset: int, name: str, woken: tuple[int, Rest] | None) -> None:
        area = block.area
        assert area is not None
        self.index.discard(block, offset, name)
        block.unenter(offset, woken)
        area.used -= 1
        if woken is not None:
            area.resting += 1
        self._note(block)

    def use_more(self, block: Block) -> list[int]:
        """A list for offsets of a block that are taken into use besides: they are undone with it.

        Nothing but free offsets of pages that were touched before; see `deciding.batch`.
        """
        offsets: list[int] = []
        self.undo.push(self._unuse_all, block, offsets)
        return offsets

    def _unuse_all(self, block: Block, taken: list[int]) -> None:
        for offset in reversed(taken):
            name = block.names[offset]
            assert name is not None
            self._unuse(block, offset, name, None)

    def release(self, block: Block, offset: int, now: int) -> None:
        """Takes an address out of use; `now` is the time by which it rests, in milliseconds.

        It rests for the network's reuse delay. A block in which nothing is in use any more comes
        back when the last rest in it ends: `expire` closes it.
        """
        area = block.area
        rests = area is not None and area.delay > 0
        left = block.leave(offset, now if rests else None)
        self.index.discard(block, offset, left.name)
        if area is not None:
            area.used -= 1
            area.resting += rests
        if rests:
            self.latest_rest = max(self.latest_rest, now)
        self.unsaved.touch(block, page_of(offset))
        self._note(block)

        if left.visit is not None:
            self.index.note_visits(block)
        self.undo.push(self._unrelease, block, offset, left, rests)
        if not (block.used or block.rest or self.is_partly_unreadable(block)):
            self.close_block(block)

    def _unrelease(self, block: Block, offset: int, left: Left, rested: bool) -> None:  # noqa: FBT001
        area = block.area
        block.unleave(offset, left, rested=rested)
        if left.visit is not None:
            self.index.note_visits(block)
        self.index.add(block, offset, left.name)
        if area is not None:
            area.used += 1
            area.resting -= rested

    def change_visit(self, block: Block, offset: int, visit: Visit) -> None:
        """Says where an address in use is, and where it moves to."""
        before = block.visit(offset)
        self._put_visit(block, offset, visit)
        self.unsaved.touch(block, page_of(offset))
        for node in (visit.node, visit.to):
            if node is not None and node != block.node and node in self.nodes:
                self.unsaved.claim_node(node)
        self.undo.push(self._put_visit, block, offset, before)

    def _put_visit(self, block: Block, offset: int, visit: Visit) -> None:
        block.set_visit(offset, visit)
        self.index.note_visits(block)

    def change_reservation(self, name: str, reservation: Reservation | None) -> None:
        """Sets a reservation, or ends it. Not while other decisions are pending."""
        before = self.reservations.get(name)
        self.put_reservation(name, reservation)
        self.unsaved.reservations[name] = reservation
        self.undo.push(self.put_reservation, name, before)

    def change_node_release(self, node: NodeName, release: NodeRelease | None) -> None:
        """Writes down the release of a node, or that it has ended."""
        before = self.releases.get(node)
        self.put_node_release(node, release)
        self.unsaved.releases[node] = release
        self.undo.push(self.put_node_release, node, before)

    # Transactions.

    def pending(self) -> Pending:
        """What decisions changed since the last transaction."""
        unsaved = self.unsaved
        pages = []
        for place, (bits, touched) in unsaved.pages.items():
            block = self.index.blocks.get(place)
            returned = self.returned.get(place)
            for page in touched:
                record = write_page(block, page) if block is not None else None
                if returned is not None and page == 0:
                    record = BlockPage(length=returned[0], returned=returned[1])
                pages.append(PageChange(place, bits, page, record))
        return Pending(
            pages,
            dict(unsaved.reservations),
            dict(unsaved.releases),
            unsaved.areas,
            unsaved.nodes,
            sorted(unsaved.absent),
            sorted(unsaved.forgotten),
            unsaved.takes,
        )

    def saved(self, revision: int) -> Sequence[Place]:
        """Says that what was pending is in the store; returns the blocks concerned."""
        places = tuple(self.unsaved.pages)
        for place in places:
            block = self.index.blocks.get(place)
            if block is not None:
                block.revision = revision
        self.undo.clear()
        self.unsaved.clear()
        return places

    def rollback(self, mark: int = 0) -> None:
        """Undoes the decisions since a mark of `undo`.

        What they touched is written all the same if other decisions are pending, as it is now.
        """
        self.undo.back_to(mark)
        if not mark:
            self.unsaved.clear()
