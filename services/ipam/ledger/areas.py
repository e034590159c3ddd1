"""Areas: what one leaf group owns of one network, and who holds which of its blocks.

An area is divided into slots of one block each. Which slot a new block takes is decided in
`services.ipam.slots.placement`; here is which addresses of which slots exist, who holds them, and
which block of an owner is the oldest with room.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from services.common.model.layout import Layout
from services.common.model.names import (
    GroupPath,
    NetworkName,
    NodeName,
    Segment,
    Tenant,
    TopologyName,
)
from services.common.model.network import Mode, Network, Placement
from services.ipam.ledger.blocks import Block
from services.ipam.model import IPV4_BITS
from services.ipam.slots.avoided import LastResort
from services.ipam.slots.placement import AggregateSpace, GroupSpace, SequentialSpace

STALE_MOST: Final = 16
"""How many entries of blocks that are gone may be kept, besides as many as there are blocks."""


class Owner(NamedTuple):
    """Who holds a block."""

    node: NodeName
    tenant: Tenant
    segment: Segment


class Interval(NamedTuple):
    """Addresses from `start` up to and without `stop`."""

    start: int
    stop: int


class Holding:
    """The blocks of one owner in one area.

    Every block of it with a free offset is in `_open`; every block without one, but with resting
    ones, is in `_open` or `_ripening`. Blocks leave both lazily, when they are looked at.
    """

    __slots__ = ("_open", "_ripening", "blocks", "delay")

    def __init__(self, delay: int) -> None:
        self.delay = delay
        """How long addresses rest, in milliseconds."""
        self.blocks: set[Block] = set()
        self._open: list[tuple[int, int, Block]] = []
        self._ripening: list[tuple[int, int, Block]] = []

    def note(self, block: Block) -> None:
        """Says that a block may have got room, now or when a rest ends."""
        if block.free:
            if not block.opened:
                block.opened = True
                insort(self._open, (block.born, block.sequence, block))
        elif not block.opened and not block.ripening:
            ripe = self._ripe_at(block)
            if ripe is not None:
                block.ripening = True
                heappush(self._ripening, (ripe, block.sequence, block))

    def remove(self, block: Block) -> None:
        """Says that the owner no longer holds a block."""
        self.blocks.remove(block)
        if len(self._open) + len(self._ripening) > 2 * len(self.blocks) + STALE_MOST:
            self._prune()

    def oldest_with_room(self, now: int) -> Block | None:
        """The oldest block that can give an address at `now`, in milliseconds."""
        while self._ripening and self._ripening[0][0] <= now:
            block = heappop(self._ripening)[2]
            block.ripening = False
            if not block.live or block.opened:
                continue
            if self._has_room(block, now):
                block.opened = True
                insort(self._open, (block.born, block.sequence, block))
            else:
                self.note(block)
        while self._open:
            block = self._open[0][2]
            if block.live and (block.free or self._has_room(block, now)):
                return block
            del self._open[0]
            block.opened = False
            if block.live:
                self.note(block)
        return None

    def ripe_at(self) -> int | None:
        """When the first of its resting addresses may be handed out, in milliseconds."""
        ripe = (self._ripe_at(block) for block in self.blocks)
        return min((time for time in ripe if time is not None), default=None)

    def _has_room(self, block: Block, now: int) -> bool:
        if block.free:
            return True
        ripe = self._ripe_at(block)
        return ripe is not None and ripe <= now

    def _ripe_at(self, block: Block) -> int | None:
        idle = block.longest_idle()
        return None if idle is None else idle.time + self.delay

    def _prune(self) -> None:
        """Forgets blocks that are not held any more: on a replica that only follows nobody looks
        at them."""
        for _, _, block in self._open:
            block.opened = block in self.blocks
        for _, _, block in self._ripening:
            block.ripening = block in self.blocks
        self._open = [entry for entry in self._open if entry[2].opened]
        self._ripening = [entry for entry in self._ripening if entry[2].ripening]
        heapify(self._ripening)


class Area:
    """A leaf group's prefix of one network."""

    __slots__ = (
        "base",
        "bits",
        "blocks",
        "empties",
        "holdings",
        "length",
        "network",
        "partial",
        "path",
        "reserved",
        "resting",
        "shift",
        "slots",
        "space",
        "topology",
        "used",
    )

    def __init__(
        self, network: Network, topology: TopologyName, path: GroupPath, base: int, length: int
    ) -> None:
        self.network = network
        self.topology = topology
        self.path = path
        self.base = base
        self.length = length
        self.bits = network.cidr.max_prefixlen
        self.shift = self.bits - network.block_length
        self.slots = 1 << (network.block_length - length)
        self.space: GroupSpace = (
            SequentialSpace(self.slots)
            if network.placement is Placement.SEQUENTIAL
            else LastResort(AggregateSpace(self.slots))
        )
        self.partial: dict[int, int] = {}
        """Bits of the reserved offsets of slots that are not reserved as a whole."""
        self.reserved: list[Interval] = []
        """What is reserved, within the area; intervals may overlap."""
        self.holdings: dict[Owner, Holding] = {}
        self.used = 0
        self.resting = 0
        self.blocks = 0
        self.empties: list[tuple[int, int, Block]] = []
        """Heap of blocks that come back when the last rest in them ends, which is the key (in
        milliseconds). An entry whose block came into use again is stale."""

    @property
    def delay(self) -> int:
        """How long addresses rest, in milliseconds."""
        return int(self.network.reuse_delay * 1000)

    @property
    def keeps_returned(self) -> bool:
        """Blocks that came back are reused in the order of their return, which the store keeps."""
        return self.network.placement is Placement.SEQUENTIAL

    @property
    def stop(self) -> int:
        """First address after it."""
        return self.base + (1 << (self.bits - self.length))

    def slot(self, base: int) -> int:
        """The slot of a block or address."""
        return (base - self.base) >> self.shift

    def slot_base(self, slot: int) -> int:
        """First address of a slot."""
        return self.base + (slot << self.shift)

    def holding(self, owner: Owner) -> Holding:
        """The owner's blocks, made when there is none yet."""
        holding = self.holdings.get(owner)
        if holding is None:
            holding = self.holdings[owner] = Holding(self.delay)
        return holding

    def note_empty(self, block: Block) -> None:
        """Says that a block comes back when the last rest in it ends, unless it is used again."""
        if len(self.empties) > 2 * self.blocks + STALE_MOST:
            self.empties = [
                (block.rest[-1].time + self.delay, block.sequence, block)
                for block in {entry[2] for entry in self.empties}
                if block.live and block.area is self and not block.used and block.rest
            ]
            heapify(self.empties)
        if not block.used and block.rest:
            heappush(self.empties, (block.rest[-1].time + self.delay, block.sequence, block))

    def reserve(self, interval: Interval) -> None:
        """Sets addresses aside in slots that nobody holds; for held ones see `Block.reserve`."""
        start, stop = max(interval.start, self.base), min(interval.stop, self.stop)
        if start >= stop:
            return
        self.reserved.append(Interval(start, stop))
        first, last = self.slot(start), self.slot(stop - 1)
        whole_from = first if start == self.slot_base(first) else first + 1
        whole_to = last + 1 if stop == self.slot_base(last + 1) else last
        if whole_from < whole_to:
            self.space.block(whole_from, whole_to - whole_from)
        for slot in {first, last}:
            if not whole_from <= slot < whole_to:
                before = self.partial.get(slot, 0)
                mask = before | offsets(interval, self.slot_base(slot), 1 << self.shift)
                self.partial[slot] = mask
                if isinstance(self.space, LastResort):
                    self.space.avoid(slot)
                if mask != before and mask == (1 << (1 << self.shift)) - 1:
                    self.space.block(slot)

    def reserved_offsets(self, slot: int) -> int:
        """Bits of the offsets of a slot, which nobody holds, that are reserved."""
        if not self.space.is_free(slot):
            return (1 << (1 << self.shift)) - 1
        return self.partial.get(slot, 0)

    def free(self) -> int:
        """Addresses of slots that nobody holds and that can be handed out."""
        partial = sum(
            mask.bit_count() for slot, mask in self.partial.items() if self.space.is_free(slot)
        )
        return (self.space.free << self.shift) - partial

    def reserved_addresses(self) -> int:
        """How many of its addresses are reserved."""
        return sum(stop - start for start, stop in merged(self.reserved))


class NetworkSpace:
    """A network with its areas."""

    def __init__(self, network: Network, topology: TopologyName) -> None:
        self.network = network
        self.topology = topology
        self.base = int(network.cidr.network_address)
        self.bits = network.cidr.max_prefixlen
        self.areas: dict[GroupPath, Area] = {}
        self._bases: list[int] = []
        self._sorted: list[Area] = []

    @property
    def stop(self) -> int:
        """First address after it."""
        return self.base + self.network.cidr.num_addresses

    def add(self, area: Area) -> None:
        """Adds an area."""
        self.areas[area.path] = area
        self._sorted = sorted(self.areas.values(), key=lambda item: item.base)
        self._bases = [item.base for item in self._sorted]

    def area_of(self, address: int) -> Area | None:
        """The area that an address lies in."""
        index = bisect_right(self._bases, address) - 1
        if index < 0 or address >= self._sorted[index].stop:
            return None
        return self._sorted[index]

    def overlapped(self, start: int, stop: int) -> Iterator[Area]:
        """The areas that have addresses in common with an interval."""
        for area in self._sorted[max(bisect_right(self._bases, start) - 1, 0) :]:
            if area.base >= stop:
                return
            if area.stop > start:
                yield area

    def fixed_reservations(self) -> Iterator[Interval]:
        """What the network itself sets aside: its gateway and, where endpoints are part of the
        VLAN's own subnet, the subnet's network and broadcast address."""
        network = self.network
        if network.gateway is not None and network.gateway in network.cidr:
            yield Interval(int(network.gateway), int(network.gateway) + 1)
        if network.mode is Mode.ONLINK and self.bits == IPV4_BITS and network.cidr.prefixlen < 31:
            yield Interval(self.base, self.base + 1)
            yield Interval(self.stop - 1, self.stop)


def build(layout: Layout) -> dict[NetworkName, NetworkSpace]:
    """The networks of a layout with empty areas, in file order."""
    homes = {name: topology for topology in layout.topologies for name in topology.networks}
    spaces: dict[NetworkName, NetworkSpace] = {}
    for network in layout.networks:
        topology = homes.get(network.name)
        if topology is None:
            continue
        space = spaces[network.name] = NetworkSpace(network, topology.name)
        for leaf in topology.leaves():
            prefix = leaf.prefixes.get(network.name)
            if prefix is not None:
                base = int(prefix.network_address)
                space.add(Area(network, topology.name, leaf.path, base, prefix.prefixlen))
    return spaces


def offsets(interval: Interval, base: int, size: int) -> int:
    """Bits of the offsets that an interval has in common with `size` addresses from `base`."""
    low, high = max(interval.start - base, 0), min(interval.stop - base, size)
    return (1 << high) - (1 << low) if low < high else 0


def merged(intervals: Iterable[Interval]) -> Iterator[Interval]:
    """The same addresses as disjoint intervals, lowest first."""
    start = stop = -1
    for interval in sorted(intervals):
        if interval.start > stop:
            if stop > start:
                yield Interval(start, stop)
            start, stop = interval
        else:
            stop = max(stop, interval.stop)
    if stop > start:
        yield Interval(start, stop)
