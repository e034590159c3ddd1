"""What the topology and the reservations say, and which blocks lie where by that.

Every change withdraws what it takes and restores what it gives up, so that it costs what it
concerns; and what is here depends on what was said last alone, not on how it came about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from services.common.model.layout import Layout
from services.common.model.names import NetworkName, NodeName, Tenant
from services.common.model.node import Node
from services.ipam.ledger.areas import Area, Interval
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.index import Index, Place
from services.ipam.ledger.network_areas import NetworkAreas, carved_networks
from services.ipam.slots.coverage import Run

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


class Ground:
    """Networks, nodes and reservations, and the blocks that lie in areas or stray."""

    def __init__(self) -> None:
        self.index = Index()
        self.layout = Layout()
        self.networks: dict[NetworkName, NetworkAreas] = {}
        """In file order."""
        self.nodes: dict[NodeName, Node] = {}
        self.unreadable_nodes: frozenset[NodeName] = frozenset()
        """Nodes that are there, and of which nothing could be read."""
        self.reservations: dict[str, Reservation] = {}
        self.strays: dict[Place, Block] = {}
        """Blocks that lie outside of every area."""
        self.returned: dict[Place, tuple[int, int]] = {}
        """Blocks that came back to a sequential area: length, number in the order of return."""
        self.unreadable: dict[tuple[Place, int], int] = {}
        """Pages of which nobody knows what is in use in them: the family's number of bits."""
        self.version = 0
        """Grows whenever areas, or what is reserved in them, change."""
        self.moved: dict[Place, None] = {}
        """Blocks that the topology may have moved to another group, or stranded; whoever tells
        others of blocks takes them out."""
        self._areas: dict[
            NodeName, dict[tuple[Tenant, NetworkName | None, int], tuple[Area, ...]]
        ] = {}
        self._areas_cached = 0

    # What topology and reservations say.

    def set_layout(self, layout: Layout) -> None:
        for (place, _), bits in self.unreadable.items():
            self._restore_slot(place, bits)
        fixed = {net.name: set(net.fixed_reservations()) for net in self.networks.values()}
        before, self.networks, self.layout = self.networks, {}, layout
        new: list[Area] = []
        gone: list[Area] = []
        furnish: list[NetworkAreas] = []
        for carved in carved_networks(layout):
            net = before.get(carved.network.name)
            if net is None or net.division != carved.division:
                net = NetworkAreas(carved)
                furnish.append(net)
            else:
                del before[net.name]
            come, left = net.follow(carved)
            new += come
            gone += left
            self.networks[net.name] = net
        gone += [area for net in before.values() for area in net.areas.values()]
        self._furnish(furnish)
        for net in self.networks.values():
            if net not in furnish:
                self._exchange(net.name, fixed[net.name], set(net.fixed_reservations()))
        for (place, _), bits in self.unreadable.items():
            self._reserve_slot(place, bits)
        if new or gone:
            self._find_areas(new, gone)
        self._ground_changed()
        self._forget_areas()

    def set_node(self, node: Node) -> None:
        """Adds a node, or replaces what was known of it."""
        before = self.nodes.get(node.name)
        self.nodes[node.name] = node
        self._forget_areas_of(node.name)
        own = self._addresses(node)
        was = self._addresses(before) if before is not None else set()
        for network, interval in was - own:
            self._restore(network, interval)
        for network, interval in own - was:
            self._reserve(network, interval)
        if (
            before is None
            or before.placements != node.placements
            or before.attachments != node.attachments
        ):
            self.moved.update(dict.fromkeys(self.index.by_node.get(node.name, ())))

    def drop_node(self, name: NodeName) -> None:
        """Forgets a node. Its blocks stay until what is in use in them is released."""
        node = self.nodes.pop(name, None)
        self._forget_areas_of(name)
        self.moved.update(dict.fromkeys(self.index.by_node.get(name, ())))
        if node is not None:
            for network, interval in self._addresses(node):
                self._restore(network, interval)

    def set_reservation(self, reservation: Reservation) -> None:
        """Sets addresses aside, instead of what was set aside by that name."""
        self.drop_reservation(reservation.name)
        self.reservations[reservation.name] = reservation
        for interval in reservation.intervals:
            self._reserve(reservation.network, interval)

    def put_reservation(self, name: str, reservation: Reservation | None) -> None:
        if reservation is None:
            self.drop_reservation(name)
        else:
            self.set_reservation(reservation)

    def drop_reservation(self, name: str) -> None:
        reservation = self.reservations.pop(name, None)
        if reservation is not None:
            for interval in reservation.intervals:
                self._restore(reservation.network, interval)

    def drain_moved(self) -> Sequence[Place]:
        """Blocks that the topology may have moved or stranded since this was called."""
        moved, self.moved = tuple(self.moved), {}
        return moved

    # Looking.

    def has_node(self, name: NodeName) -> bool:
        """Says whether there is such a node, readable or not."""
        return name in self.nodes or name in self.unreadable_nodes

    def areas_for(
        self, node: Node, tenant: Tenant, network: NetworkName | None, bits: int
    ) -> tuple[Area, ...]:
        """Where a node can give a tenant addresses, in the order in which to try."""
        of_node = self._areas.get(node.name)
        key = (tenant, network, bits)
        areas = of_node.get(key) if of_node is not None else None
        if areas is None:
            if self._areas_cached >= AREAS_CACHED:
                self._forget_areas()
            found = (
                self.area_of_node(node, candidate.name)
                for candidate in self.layout.for_tenant(tenant)
                if network in {None, candidate.name} and bits in {0, candidate.cidr.max_prefixlen}
            )
            areas = tuple(area for area in found if area is not None)
            self._areas.setdefault(node.name, {})[key] = areas
            self._areas_cached += 1
        return areas

    def area_of_node(self, node: Node, network: NetworkName) -> Area | None:
        """The node's group on a network; None if it is in none, or not attached."""
        net = self.networks.get(network)
        if net is None or not node.is_attached(network):
            return None
        path = node.placements.get(net.topology)
        return net.areas.get(path) if path is not None else None

    def is_stranded(self, block: Block) -> bool:
        """Says whether a block lies outside its node's group, so that nothing is taken from it."""
        node = self.nodes.get(block.node)
        if block.area is None:
            return True
        return node is not None and self.area_of_node(node, block.network) is not block.area

    def is_partly_unreadable(self, block: Block) -> bool:
        """Says whether some page of a block cannot be read: it may have more in use than is
        known."""
        return bool(self.unreadable) and any(
            (block.place, page) in self.unreadable for page in range(block.pages)
        )

    def held(self, network: NetworkName, interval: Interval) -> Iterator[Block]:
        """The blocks of a network's areas that have addresses in common with an interval."""
        for area in self.networks[network].overlapped(*interval):
            first = area.slot(max(interval.start, area.base))
            last = area.slot(min(interval.stop, area.stop) - 1)
            yield from self._held(area, first, last)

    # How it hangs together.

    def _ground_changed(self) -> None:
        """Areas, or what is reserved in them, changed."""
        self.version += 1

    def _find_area(self, block: Block) -> None:
        """Finds the area of a block that was inserted."""
        area = self._area_at(block.place, block.length)
        if area is None:
            self._stray(block)
        else:
            slot = area.slot(block.base)
            block.reserve(area.reserved_offsets(slot))
            area.pool.take(slot, block.node)
            self._join(block, area)

    def _find_areas(self, new: Sequence[Area], gone: Iterable[Area]) -> None:
        """Finds the areas of blocks that have lost theirs, and of strays."""
        fresh = {id(area) for area in new}
        lost = [
            block
            for area in gone
            for holding in tuple(area.holdings.values())
            for block in tuple(holding.blocks)
        ]
        for block in lost:
            self._part(block)
            block.opened = block.ripening = False  # its holding is gone
        homes = {
            block.place: self._area_at(block.place, block.length)
            for block in (*self.strays.values(), *lost)
        }
        for block in tuple(self.strays.values()):
            if homes[block.place] is None:
                self._shut(block, [area for area in self._under(block) if id(area) in fresh])
            else:
                lost.append(block)
                del self.strays[block.place]
                self._open(block, [area for area in self._under(block) if id(area) not in fresh])
        for block in lost:
            if homes[block.place] is None:
                self._stray(block)
        for block in lost:
            if homes[block.place] is not None:
                self._find_area(block)
        self.moved.update(dict.fromkeys(block.place for block in lost))
        for place, (length, number) in self.returned.items():
            area = self._area_at(place, length)
            if area is not None and id(area) in fresh:
                area.pool.note_returned(area.slot(place[1]), number)

    def _stray(self, block: Block) -> None:
        """Says that a block lies outside of every area: nobody gets its addresses elsewhere."""
        block.area = None
        block.reserve(0)
        self.strays[block.place] = block
        self._shut(block, self._under(block))

    def _unstray(self, block: Block) -> None:
        """Undoes `_stray`: the block is about to go."""
        del self.strays[block.place]
        self._open(block, self._under(block))

    def _under(self, block: Block) -> Iterator[Area]:
        """The areas that a stray block has addresses in common with."""
        for net in self.networks.values():
            if net.bits == block.bits:
                yield from net.overlapped(block.base, block.base + block.size)

    def _shut(self, block: Block, areas: Iterable[Area]) -> None:
        for area in areas:
            first, count = _slots_under(block, area)
            area.pool.withhold(first, count)
            self._refit(area, first, first + count - 1)

    def _open(self, block: Block, areas: Iterable[Area]) -> None:
        for area in areas:
            first, count = _slots_under(block, area)
            area.pool.restore(first, count)
            self._refit(area, first, first + count - 1)

    def _join(self, block: Block, area: Area | None) -> None:
        """Counts a block, and adds it to its holding."""
        block.area = area
        if area is not None:
            area.blocks += 1
            area.used += block.used
            area.resting += block.resting
            area.holding(block.owner).blocks.add(block)
            self._note(block)

    def _part(self, block: Block) -> None:
        area = block.area
        if area is not None:
            area.blocks -= 1
            area.used -= block.used
            area.resting -= block.resting
            owner = block.owner
            holding = area.holdings[owner]
            holding.remove(block)
            if not holding.blocks:
                del area.holdings[owner]

    def _note(self, block: Block) -> None:
        """Says that a block may have got room, or may soon be to close."""
        area = block.area
        if area is None:
            return
        area.holding(block.owner).note(block)
        area.note_empty(block)

    def _area_at(self, place: Place, length: int) -> Area | None:
        """The area of which a block is a slot."""
        network, base = place
        net = self.networks.get(network)
        area = net.area_of(base) if net is not None else None
        return area if area is not None and area.network.block_length == length else None

    def _addresses(self, node: Node) -> set[tuple[NetworkName, Interval]]:
        """A node's own addresses, as far as they lie in networks: endpoints must not get them."""
        found = set()
        for address in node.addresses:
            value, bits = int(address), address.max_prefixlen
            for net in self.networks.values():
                if net.base <= value < net.stop and net.bits == bits:
                    found.add((net.name, Interval(value, value + 1)))
        return found

    def _furnish(self, nets: Sequence[NetworkAreas]) -> None:
        """Sets aside what is to be in networks that were made anew; they have no blocks yet."""
        for net in nets:
            for interval in net.fixed_reservations():
                net.reserve(interval)
            for reservation in self.reservations.values():
                if reservation.network == net.name:
                    for interval in reservation.intervals:
                        net.reserve(interval)
        names = {net.name for net in nets}
        for node in self.nodes.values() if nets else ():
            for network, interval in self._addresses(node):
                if network in names:
                    self.networks[network].reserve(interval)

    def _exchange(self, network: NetworkName, before: set[Interval], after: set[Interval]) -> None:
        for interval in before - after:
            self._restore(network, interval)
        for interval in after - before:
            self._reserve(network, interval)

    def _reserve(self, network: NetworkName, interval: Interval) -> None:
        """Sets addresses aside, in held blocks too."""
        net = self.networks.get(network)
        if net is not None:
            self._refit_runs(net.reserve(interval))

    def _restore(self, network: NetworkName, interval: Interval) -> None:
        net = self.networks.get(network)
        if net is not None:
            self._refit_runs(net.restore(interval))

    def _reserve_slot(self, place: Place, bits: int) -> None:
        """Sets aside the slot that a block begins in, if a network has it."""
        slot = self._slot_at(place, bits)
        if slot is not None:
            self._reserve(place[0], slot)

    def _restore_slot(self, place: Place, bits: int) -> None:
        slot = self._slot_at(place, bits)
        if slot is not None:
            self._restore(place[0], slot)

    def _slot_at(self, place: Place, bits: int) -> Interval | None:
        """The addresses of the slot that a block begins in; None if no network has it."""
        net = self.networks.get(place[0])
        area = net.area_of(place[1]) if net is not None and net.bits == bits else None
        if area is None:
            return None
        slot = area.slot(place[1])
        return Interval(area.slot_base(slot), area.slot_base(slot + 1))

    def _refit_runs(self, runs: Iterable[tuple[Area, Run]]) -> None:
        self._ground_changed()
        for area, (start, stop) in runs:
            self._refit(area, area.slot(start), area.slot(stop - 1))

    def _refit(self, area: Area, first: int, last: int) -> None:
        """Tells the blocks that hold some slots what is reserved of them."""
        for block in self._held(area, first, last):
            if block.reserve(area.reserved_offsets(area.slot(block.base))):
                area.holding(block.owner).note_again(block)

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

    def _forget_areas(self) -> None:
        self._areas.clear()
        self._areas_cached = 0

    def _forget_areas_of(self, node: NodeName) -> None:
        self._areas_cached -= len(self._areas.pop(node, ()))


def _slots_under(block: Block, area: Area) -> tuple[int, int]:
    """The first slot of an area that a stray block has addresses in common with, and how many."""
    first = area.slot(max(block.base, area.base))
    last = area.slot(min(block.base + block.size, area.stop) - 1)
    return first, last - first + 1
