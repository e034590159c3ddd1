"""What ipam has decided, in memory, and what of it is not in the store yet.

The active replica changes what it knows by decisions (`services.ipam.deciding.allocation`). They
take effect here at once, and in the store with the next transaction: `drain` tells what to write,
and `rollback` undoes exactly what could not be written.

Topology and reservations change areas, to which undoing refers: they change only while no decision
is pending.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.common.model.names import NodeName
from services.common.records.blocks import BlockPage
from services.ipam.ledger.areas import Area, Owner
from services.ipam.ledger.blocks import Block, Left, Rest
from services.ipam.ledger.ground import owner_of
from services.ipam.ledger.index import Place
from services.ipam.ledger.knowledge import Knowledge
from services.ipam.ledger.pages import page_of, write_page


@dataclass(frozen=True, slots=True)
class PageChange:
    """A page to write, or to delete."""

    place: Place
    bits: int
    page: int
    record: BlockPage | None
    """None: it is gone."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What decisions changed since the last transaction."""

    pages: Sequence[PageChange]
    areas: Sequence[Area]
    """Where blocks came into use; see claims in `services.common.etcd.keys`."""
    nodes: Sequence[NodeName]
    """Whose blocks came into use."""
    takes: bool
    """Addresses come into use."""


class State(Knowledge):
    """What is known, with the decisions that are not in the store yet."""

    def __init__(self) -> None:
        super().__init__()
        self._undo: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        """Steps that undo the pending decisions, the last decision's last. Bound methods and
        arguments, since a closure for every address costs three times as much."""
        self._dirty: dict[Place, tuple[int, set[int]]] = {}
        self._touched: Block | None = None
        self._touched_page = 0
        """What was touched last: often the same again."""
        self._pages = 0
        self._claimed_areas: dict[int, Area] = {}
        self._claimed_nodes: dict[NodeName, None] = {}
        self._takes = False

    def _ground_changed(self) -> None:
        assert not self._undo
        super()._ground_changed()

    # Decisions.

    def open_block(self, area: Area, slot: int, owner: Owner) -> Block:
        """Gives a slot that nobody holds to an owner."""
        place = (area.network.name, area.slot_base(slot))
        reserved = area.reserved_offsets(slot)
        queued = area.space.take(slot, owner.node)
        returned = self.returned.pop(place, None)
        self.ticks += 1
        block = self.index.make(place, area.network.block_length, area.bits, owner, born=self.ticks)
        block.reserve(reserved)
        self.index.insert(block)
        self._join(block, area)
        self._touch(block, 0)

        def undo() -> None:
            self._part(block)
            self.index.remove(block)
            area.space.untake(slot, owner.node, queued)
            if returned is not None:
                self.returned[place] = returned

        self._undo.append((undo, ()))
        return block

    def close_block(self, block: Block) -> None:
        """Takes back a block with nothing in use, and at rest in its first page at most."""
        area = block.area
        place = block.place
        holding = area.holdings[owner_of(block)] if area is not None else None
        self._touch(block, 0)
        self._part(block)
        self.index.remove(block)
        self.ticks += 1
        if area is None:
            self._unstray(block)
        else:
            area.space.give_back(area.slot(block.base), block.node, self.ticks)
            if area.keeps_returned:
                self.returned[place] = (block.length, self.ticks)

        def undo() -> None:
            self.returned.pop(place, None)
            if area is None or holding is None:
                self._stray(block)
            else:
                area.space.take(area.slot(block.base), block.node)
                # the same again: by `opened` and `ripening` the block is in its lists
                area.holdings.setdefault(owner_of(block), holding)
            self.index.insert(block)
            self._join(block, area)

        self._undo.append((undo, ()))

    def wake(self, block: Block, most: int) -> None:
        """Ends the rest in at most that many pages of a block, the first page last."""
        before, counted = block.rest, block.resting
        pages = sorted({page_of(item.offset) for item in before or ()}, reverse=True)[:most]
        block.rest = deque(item for item in before or () if page_of(item.offset) not in pages)
        block.refree()
        if block.area is not None:
            block.area.resting += block.resting - counted
        for page in pages:
            self._touch(block, page)

        def undo() -> None:
            if block.area is not None:
                block.area.resting += counted - block.resting
            block.rest = before
            block.refree()
            self._note(block)

        self._undo.append((undo, ()))

    def use(self, block: Block, offset: int, name: str, time: int, ordinal: int = 0) -> None:
        """Takes a free or resting address into use; `time` is Unix time in seconds."""
        area = block.area
        assert area is not None
        woken = block.enter(offset, name, time, ordinal)
        self.index.add(block, offset, name)
        area.used += 1
        if woken is not None:
            area.resting -= 1
        self._takes = True
        if block.used == 1:
            self._claimed_areas[id(area)] = area
            self._claimed_nodes[block.node] = None
        self._touch(block, page_of(offset))
        self._undo.append((self._unuse, (block, offset, name, woken)))

    def _unuse(self, block: Block, offset: int, name: str, woken: tuple[int, Rest] | None) -> None:
        area = block.area
        assert area is not None
        self.index.discard(block, offset, name)
        block.unenter(offset, woken)
        area.used -= 1
        if woken is not None:
            area.resting += 1
        self._note(block)

    def begin_streak(self, block: Block) -> list[int]:
        """A list for offsets of a block that are taken into use besides: they are undone with it.

        Nothing but free offsets of pages that were touched before; see `deciding.batch`.
        """
        offsets: list[int] = []
        self._undo.append((self._unuse_all, (block, offsets)))
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
        self._touch(block, page_of(offset))
        self._note(block)

        self._undo.append((self._unrelease, (block, offset, left, rests)))
        if not block.used and not block.rest:
            self.close_block(block)

    def _unrelease(self, block: Block, offset: int, left: Left, rested: bool) -> None:  # noqa: FBT001
        area = block.area
        block.unleave(offset, left, rested=rested)
        self.index.add(block, offset, left.name)
        if area is not None:
            area.used += 1
            area.resting -= rested

    # Transactions.

    @property
    def operations(self) -> int:
        """How many keys the pending decisions write."""
        return self._pages + len(self._claimed_areas) + len(self._claimed_nodes)

    def mark(self) -> int:
        """A point to which `rollback` can go back."""
        return len(self._undo)

    def rollback(self, mark: int = 0) -> None:
        """Undoes the decisions since a mark.

        What they touched is written all the same if other decisions are pending, as it is now.
        """
        undo = self._undo
        while len(undo) > mark:
            step, arguments = undo.pop()
            step(*arguments)
        if not mark:
            self._clear()

    def drain(self) -> Pending:
        """What the pending decisions write. They stay pending until `settle` or `rollback`."""
        pages = []
        for place, (bits, touched) in self._dirty.items():
            block = self.index.blocks.get(place)
            returned = self.returned.get(place)
            for page in touched:
                record = write_page(block, page) if block is not None else None
                if returned is not None and page == 0:
                    record = BlockPage(length=returned[0], returned=returned[1])
                pages.append(PageChange(place, bits, page, record))
        areas, nodes = tuple(self._claimed_areas.values()), tuple(self._claimed_nodes)
        return Pending(pages, areas, nodes, self._takes)

    def settle(self, revision: int) -> Sequence[Place]:
        """Says that the pending decisions are in the store; returns the blocks concerned."""
        places = tuple(self._dirty)
        for place in places:
            block = self.index.blocks.get(place)
            if block is not None:
                block.revision = revision
        self._undo.clear()
        self._clear()
        return places

    def _touch(self, block: Block, page: int) -> None:
        if block is self._touched and page == self._touched_page:
            return
        self._touched, self._touched_page = block, page
        dirty = self._dirty.get(block.place)
        if dirty is None:
            self._dirty[block.place] = (block.bits, {page})
            self._pages += 1
        elif page not in dirty[1]:
            dirty[1].add(page)
            self._pages += 1

    def _clear(self) -> None:
        self._dirty.clear()
        self._touched = None
        self._pages = 0
        self._claimed_areas.clear()
        self._claimed_nodes.clear()
        self._takes = False
