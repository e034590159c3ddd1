"""All that ipam knows, in memory, and what of it is not in the store yet.

The active replica changes it by decisions (`services.ipam.allocation`), which take effect here at
once and in the store with the next transaction: `drain` tells what to write, and `rollback` undoes
exactly what could not be written. Other replicas change it by what they read (`put_page`,
`drop_page`). Both end in the same state: all that is derived here can be computed from the pages,
the layout, the nodes and the reservations, and `rebuild` does.

Topology and reservations change areas, to which undoing refers: they change only while no decision
is pending.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.common.model.layout import Layout
from services.common.model.names import NetworkName, NodeName, Segment, Tenant
from services.common.model.node import Node
from services.common.records.blocks import BlockPage
from services.ipam.blocks import Block, Left, Rest
from services.ipam.index import Index, Place
from services.ipam.pages import clear_page, page_of, read_page, write_page
from services.ipam.space import Area, Interval, NetworkSpace, Owner, build, offsets

AREAS_CACHED: Final = 100_000


@dataclass(frozen=True, slots=True)
class Reservation:
    """Addresses that are never handed out."""

    name: str
    network: NetworkName
    intervals: Sequence[Interval]
    ranges: Sequence[str]
    """As they were written."""
    description: str = ""


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


class State:
    """Blocks with their addresses, nodes, networks and reservations."""

    def __init__(self) -> None:
        self.index = Index()
        self.layout = Layout()
        self.spaces: dict[NetworkName, NetworkSpace] = {}
        """In file order."""
        self.nodes: dict[NodeName, Node] = {}
        self.reservations: dict[str, Reservation] = {}
        self.strays: dict[Place, Block] = {}
        """Blocks that lie outside of every area."""
        self.returned: dict[Place, tuple[int, int]] = {}
        """Blocks that came back to a sequential area: length, number in the order of return."""
        self.unreadable: dict[tuple[Place, int], int] = {}
        """Pages of which nobody knows what is in use in them: the family's number of bits."""
        self.ticks = 0
        """Highest number given to a block that came into use or came back."""
        self.stale = False
        """A stray is gone: `rebuild` will find room where it was."""
        self.version = 0
        """Grows whenever areas, or what is reserved in them, change."""
        self.moved: dict[Place, None] = {}
        """Blocks that the topology may have moved to another group, or stranded; whoever tells
        others of blocks takes them out."""
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
        self._areas: dict[tuple[NodeName, Tenant, NetworkName | None, int], tuple[Area, ...]] = {}

    # What topology and reservations say.

    def set_layout(self, layout: Layout) -> None:
        """Takes over networks and groups. Costs a walk over all blocks, as does `rebuild`."""
        self.layout = layout
        self.rebuild()
        self.moved.update(dict.fromkeys(self.index.blocks))

    def set_node(self, node: Node) -> None:
        """Adds a node, or replaces what was known of it."""
        before = self.nodes.get(node.name)
        self.nodes[node.name] = node
        self._areas.clear()
        if before is None:
            for network, interval in self._addresses(node):
                self._reserve(network, interval)
        elif set(self._addresses(before)) != set(self._addresses(node)):
            self.rebuild()
        if (
            before is None
            or before.placements != node.placements
            or (before.attachments != node.attachments)
        ):
            self.moved.update(dict.fromkeys(self.index.by_node.get(node.name, ())))

    def drop_node(self, name: NodeName) -> None:
        """Forgets a node. Its blocks stay until what is in use in them is released."""
        node = self.nodes.pop(name, None)
        self._areas.clear()
        self.moved.update(dict.fromkeys(self.index.by_node.get(name, ())))
        if node is not None and any(True for _ in self._addresses(node)):
            self.rebuild()

    def set_reservation(self, reservation: Reservation) -> None:
        """Sets addresses aside, instead of what was set aside by that name."""
        before = self.reservations.get(reservation.name)
        self.reservations[reservation.name] = reservation
        if before is None:
            for interval in reservation.intervals:
                self._reserve(reservation.network, interval)
        else:
            self.rebuild()

    def drop_reservation(self, name: str) -> None:
        """Ends a reservation."""
        if self.reservations.pop(name, None) is not None:
            self.rebuild()

    def rebuild(self) -> None:
        """Computes areas and all that hangs on them anew."""
        assert not self._undo
        self.version += 1
        self.spaces = build(self.layout)
        self.strays = {}
        self.stale = False
        self._areas.clear()
        self._set_all_aside()
        for block in self.index.blocks.values():
            block.opened = block.ripening = False
            self._settle(block)
        for place, (length, number) in self.returned.items():
            area = self._area_at(place, length)
            if area is not None:
                area.space.note_returned(area.slot(place[1]), number)

    def _set_all_aside(self) -> None:
        for space in self.spaces.values():
            for interval in space.fixed_reservations():
                _set_aside(space, interval)
        for node in self.nodes.values():
            for network, interval in self._addresses(node):
                _set_aside(self.spaces[network], interval)
        for reservation in self.reservations.values():
            if reservation.network in self.spaces:
                for interval in reservation.intervals:
                    _set_aside(self.spaces[reservation.network], interval)
        for (place, _), bits in self.unreadable.items():
            slot = self._slot_at(place, bits)
            if slot is not None:
                _set_aside(self.spaces[place[0]], slot)

    def take_moved(self) -> Sequence[Place]:
        """Blocks that the topology may have moved or stranded since this was called."""
        moved, self.moved = tuple(self.moved), {}
        return moved

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
                    area.space.take(slot, "")
                    area.space.give_back(slot, "", record.returned)
            self.returned[place] = (record.length, record.returned)
            return
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
            slot = self._slot_at(place, bits)
            if slot is not None:
                self._reserve(place[0], slot)

    def _now_readable(self, place: Place, page: int) -> None:
        if self.unreadable and self.unreadable.pop((place, page), None) is not None:
            self.rebuild()

    def _slot_at(self, place: Place, bits: int) -> Interval | None:
        """The addresses of the slot that a block begins in; None if no network has it."""
        space = self.spaces.get(place[0])
        area = space.area_of(place[1]) if space is not None and space.bits == bits else None
        if area is None:
            return None
        slot = area.slot(place[1])
        return Interval(area.slot_base(slot), area.slot_base(slot + 1))

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
        holding = area.holdings[_owner(block)] if area is not None else None
        self._touch(block, 0)
        self._part(block)
        self.index.remove(block)
        self.ticks += 1
        if area is None:
            del self.strays[place]
            self.stale = True
        else:
            area.space.give_back(area.slot(block.base), block.node, self.ticks)
            if area.keeps_returned:
                self.returned[place] = (block.length, self.ticks)

        def undo() -> None:
            self.returned.pop(place, None)
            if area is None or holding is None:
                self.strays[place] = block
            else:
                area.space.take(area.slot(block.base), block.node)
                # the same again: by `opened` and `ripening` the block is in its lists
                area.holdings.setdefault(_owner(block), holding)
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

        Nothing but free offsets of pages that were touched before; see `services.ipam.streaks`.
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
        """Takes an address out of use; `now` is Unix time in milliseconds.

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
        return Pending(pages, tuple(self._claimed_areas.values()), tuple(self._claimed_nodes))

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

    # Looking.

    def areas_for(
        self, node: Node, tenant: Tenant, network: NetworkName | None, bits: int
    ) -> tuple[Area, ...]:
        """Where a node can give a tenant addresses, in the order in which to try."""
        key = (node.name, tenant, network, bits)
        areas = self._areas.get(key)
        if areas is None:
            if len(self._areas) >= AREAS_CACHED:
                self._areas.clear()
            found = (
                self.area_of_node(node, candidate.name)
                for candidate in self.layout.for_tenant(tenant)
                if network in {None, candidate.name} and bits in {0, candidate.cidr.max_prefixlen}
            )
            areas = self._areas[key] = tuple(area for area in found if area is not None)
        return areas

    def area_of_node(self, node: Node, network: NetworkName) -> Area | None:
        """The node's group on a network; None if it is in none, or not attached."""
        space = self.spaces.get(network)
        if space is None or not node.is_attached(network):
            return None
        path = node.placements.get(space.topology)
        return space.areas.get(path) if path is not None else None

    def is_stranded(self, block: Block) -> bool:
        """Says whether a block lies outside its node's group, so that nothing is taken from it."""
        node = self.nodes.get(block.node)
        if block.area is None:
            return True
        return node is not None and self.area_of_node(node, block.network) is not block.area

    # How it hangs together.

    def _settle(self, block: Block) -> None:
        """Finds the area of a block that was inserted."""
        area = self._area_at(block.place, block.length)
        if area is None:
            self.strays[block.place] = block
            block.reserve(0)
            interval = Interval(block.base, block.base + block.size)
            for space in self.spaces.values():
                if space.bits == block.bits:
                    for other in space.overlapped(*interval):
                        first = other.slot(max(interval.start, other.base))
                        last = other.slot(min(interval.stop, other.stop) - 1)
                        other.space.block(first, last - first + 1)
        else:
            slot = area.slot(block.base)
            block.reserve(area.reserved_offsets(slot))
            area.space.take(slot, block.node)
        self._join(block, area)

    def _lift(self, block: Block, number: int) -> None:
        """Takes out a block that is gone from the store."""
        self._part(block)
        self.index.remove(block)
        if block.area is None:
            del self.strays[block.place]
            self.rebuild()
        else:
            block.area.space.give_back(block.area.slot(block.base), block.node, number)

    def _join(self, block: Block, area: Area | None) -> None:
        """Counts a block, and adds it to its holding."""
        block.area = area
        if area is not None:
            area.blocks += 1
            area.used += block.used
            area.resting += block.resting
            area.holding(_owner(block)).blocks.add(block)
            self._note(block)

    def _part(self, block: Block) -> None:
        """Undoes `_join`."""
        area = block.area
        if area is not None:
            area.blocks -= 1
            area.used -= block.used
            area.resting -= block.resting
            owner = _owner(block)
            holding = area.holdings[owner]
            holding.remove(block)
            if not holding.blocks:
                del area.holdings[owner]

    def _note(self, block: Block) -> None:
        """Says that a block may have got room, or may soon be to close."""
        area = block.area
        if area is None:
            return
        area.holding(_owner(block)).note(block)
        area.note_empty(block)

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

    def _area_at(self, place: Place, length: int) -> Area | None:
        """The area of which a block is a slot."""
        network, base = place
        space = self.spaces.get(network)
        area = space.area_of(base) if space is not None else None
        return area if area is not None and area.network.block_length == length else None

    def _addresses(self, node: Node) -> Iterator[tuple[NetworkName, Interval]]:
        """A node's own addresses, as far as they lie in networks: endpoints must not get them."""
        for address in {node.address, *(item.address for item in node.attachments)} - {None}:
            assert address is not None
            for space in self.spaces.values():
                if address in space.network.cidr:
                    yield space.network.name, Interval(int(address), int(address) + 1)

    def _reserve(self, network: NetworkName, interval: Interval) -> None:
        """Sets addresses aside, in held blocks too."""
        space = self.spaces.get(network)
        if space is None:
            return
        self.version += 1
        _set_aside(space, interval)
        for block in self.held(network, interval):
            block.reserve(block.reserved | offsets(interval, block.base, block.size))

    def held(self, network: NetworkName, interval: Interval) -> Iterator[Block]:
        """The blocks of a network's areas that have addresses in common with an interval."""
        for area in self.spaces[network].overlapped(*interval):
            first = area.slot(max(interval.start, area.base))
            last = area.slot(min(interval.stop, area.stop) - 1)
            yield from self._held(area, first, last)

    def _held(self, area: Area, first: int, last: int) -> Iterator[Block]:
        if last - first < area.blocks:
            places = ((area.network.name, area.slot_base(slot)) for slot in range(first, last + 1))
            found = (self.index.blocks.get(place) for place in places)
            yield from (block for block in found if block is not None and block.area is area)
        else:
            for holding in area.holdings.values():
                for block in holding.blocks:
                    if first <= area.slot(block.base) <= last:
                        yield block

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


def _set_aside(space: NetworkSpace, interval: Interval) -> None:
    for area in space.overlapped(*interval):
        area.reserve(interval)


def _owner(block: Block) -> Owner:
    return Owner(block.node, block.tenant, block.segment)
