"""What the topology, the reservations and the store say, and all that follows from it.

Whoever follows the store changes it by what is read (`put_page`, `drop_page`); the active replica
by decisions, which are `services.ipam.ledger.state`. Both end in the same: all that is derived
here can be computed from the pages, the layout, the nodes and the reservations, and `rebuild` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.common.model.layout import Layout
from services.common.model.names import NetworkName, NodeName, Segment, Tenant
from services.common.model.node import Node
from services.common.records.blocks import BlockPage
from services.ipam.ledger.areas import Area, Interval, NetworkSpace, Owner, build, offsets
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.index import Index, Place
from services.ipam.ledger.pages import clear_page, read_page

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
    node: NodeName | None = None
    """Whose agent set them aside, since somebody else has them; None: an operator did."""


@dataclass(frozen=True, slots=True)
class NodeRelease:
    """What is in use on a node that is gone will be released."""

    noticed: int
    """Unix time in seconds."""
    due: int
    """The same: not before."""
    asked: bool
    """Somebody removed the node by force."""


class Knowledge:
    """Blocks with their addresses, nodes, networks and reservations."""

    def __init__(self) -> None:
        self.index = Index()
        self.layout = Layout()
        self.spaces: dict[NetworkName, NetworkSpace] = {}
        """In file order."""
        self.nodes: dict[NodeName, Node] = {}
        self.reservations: dict[str, Reservation] = {}
        self.releases: dict[NodeName, NodeRelease] = {}
        """Written down; of nodes that are gone."""
        self.strays: dict[Place, Block] = {}
        """Blocks that lie outside of every area."""
        self.returned: dict[Place, tuple[int, int]] = {}
        """Blocks that came back to a sequential area: length, number in the order of return."""
        self.unreadable: dict[tuple[Place, int], int] = {}
        """Pages of which nobody knows what is in use in them: the family's number of bits."""
        self.ticks = 0
        """Highest number given to a block that came into use or came back."""
        self.latest_rest = 0
        """When the last address was released of all that rest or rested, in milliseconds: by the
        clock of whoever released it."""
        self.stale = False
        """A stray is gone: `rebuild` will find room where it was."""
        self.version = 0
        """Grows whenever areas, or what is reserved in them, change."""
        self.moved: dict[Place, None] = {}
        """Blocks that the topology may have moved to another group, or stranded; whoever tells
        others of blocks takes them out."""
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
            area.holding(owner_of(block)).blocks.add(block)
            self._note(block)

    def _part(self, block: Block) -> None:
        """Undoes `_join`."""
        area = block.area
        if area is not None:
            area.blocks -= 1
            area.used -= block.used
            area.resting -= block.resting
            owner = owner_of(block)
            holding = area.holdings[owner]
            holding.remove(block)
            if not holding.blocks:
                del area.holdings[owner]

    def _note(self, block: Block) -> None:
        """Says that a block may have got room, or may soon be to close."""
        area = block.area
        if area is None:
            return
        area.holding(owner_of(block)).note(block)
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
        for address in {node.address, *(item.address for item in node.declared)} - {None}:
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


def _set_aside(space: NetworkSpace, interval: Interval) -> None:
    for area in space.overlapped(*interval):
        area.reserve(interval)


def owner_of(block: Block) -> Owner:
    """Who holds a block."""
    return Owner(block.node, block.tenant, block.segment)
