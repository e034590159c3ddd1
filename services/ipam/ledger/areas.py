"""Areas: what one leaf group owns of one network, and who holds which of its blocks.

An area is divided into slots of one block each. Which slot a new block takes is decided in
`services.ipam.slots`; here is which addresses of which slots exist, and who
holds them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import NamedTuple

from services.common.model.names import GroupPath, TopologyName
from services.common.model.network import Network, Placement
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.holdings import STALE_MOST, Holding
from services.ipam.model import Owner
from services.ipam.slots.aggregate import AggregatePool
from services.ipam.slots.avoiding import AvoidingPool
from services.ipam.slots.coverage import Coverage, Run
from services.ipam.slots.pool import SlotPool
from services.ipam.slots.sequential import SequentialPool


class Interval(NamedTuple):
    """Addresses from `start` up to and without `stop`."""

    start: int
    stop: int


class Emptied(NamedTuple):
    """A block with nothing in use; blocks come back in this order."""

    due: int
    """When the last rest in it ends, in milliseconds."""
    born: int
    sequence: int
    block: Block


class Area:
    """A leaf group's prefix of a network, with the blocks that are held in it."""

    __slots__ = (
        "aside",
        "base",
        "bits",
        "blocks",
        "changed",
        "empties",
        "holdings",
        "intervals",
        "length",
        "network",
        "partial",
        "path",
        "pool",
        "resting",
        "shift",
        "slots",
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
        self.pool: SlotPool = (
            SequentialPool(self.slots)
            if network.placement is Placement.SEQUENTIAL
            else AvoidingPool(AggregatePool(self.slots))
        )
        self.aside = Coverage()
        """Its reserved addresses."""
        self.intervals: Counter[Interval] = Counter()
        """What they were reserved as, within the area."""
        self.changed: dict[Interval, None] | None = None
        """Of them, those that came or went; None: look at all. For whoever tells others of what is
        reserved, which takes them out."""
        self.partial: dict[int, int] = {}
        """Bits of the reserved offsets of slots that are not reserved as a whole."""
        self.holdings: dict[Owner, Holding] = {}
        self.used = 0
        self.resting = 0
        self.blocks = 0
        self.empties: list[Emptied] = []
        """Heap of blocks that come back. An entry whose block came into use again is stale."""

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
        return (base - self.base) >> self.shift

    def slot_base(self, slot: int) -> int:
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
            self.empties = [entry for entry in {*self.empties} if self._is_due(entry)]
            heapify(self.empties)
        if not block.used and block.rest:
            due = block.rest[-1].time + self.delay
            heappush(self.empties, Emptied(due, block.born, block.sequence, block))

    def first_emptied(self) -> Emptied | None:
        """The block that comes back next; what is stale before it is forgotten."""
        while self.empties and not self._is_due(self.empties[0]):
            heappop(self.empties)
        return self.empties[0] if self.empties else None

    def _is_due(self, entry: Emptied) -> bool:
        """Says whether an entry is not stale."""
        block = entry.block
        if not block.live or block.area is not self or block.used or not block.rest:
            return False
        return block.rest[-1].time + self.delay == entry.due

    def reserve(self, interval: Interval) -> list[Run]:
        """Sets addresses aside, as often as that is said; returns those that were not before.

        Only for slots that nobody holds: blocks are told by the caller.
        """
        clipped = self._clip(interval)
        if clipped is None:
            return []
        self.intervals[clipped] += 1
        self._note(clipped)
        runs = self.aside.add(*clipped)
        for run in runs:
            self._cover(*run)
        return runs

    def restore(self, interval: Interval) -> list[Run]:
        """Undoes `reserve`; returns the addresses that nothing sets aside any more."""
        clipped = self._clip(interval)
        if clipped is None:
            return []
        self.intervals[clipped] -= 1
        if not self.intervals[clipped]:
            del self.intervals[clipped]
        self._note(clipped)
        runs = self.aside.remove(*clipped)
        for run in runs:
            self._uncover(*run)
        return runs

    def drain_changed(self) -> Iterable[Interval] | None:
        """Intervals of `intervals` that came or went since this was called; None: look at all."""
        changed, self.changed = self.changed, {}
        return changed

    def reserved_offsets(self, slot: int) -> int:
        """Bits of the offsets of a slot that are reserved, or withheld with the slot."""
        return self._whole if self.pool.is_withheld(slot) else self.partial.get(slot, 0)

    def _clip(self, interval: Interval) -> Interval | None:
        start, stop = max(interval.start, self.base), min(interval.stop, self.stop)
        return Interval(start, stop) if start < stop else None

    def _note(self, interval: Interval) -> None:
        if self.changed is not None:
            self.changed[interval] = None
            if len(self.changed) > 2 * len(self.intervals) + STALE_MOST:
                self.changed = None  # nobody asks

    @property
    def _whole(self) -> int:
        return (1 << (1 << self.shift)) - 1

    def _cover(self, start: int, stop: int) -> None:
        """Withdraws slots of which every address is reserved now, and avoids the others."""
        first, end, edges = self._slots(start, stop)
        if first < end:
            self.pool.withhold(first, end - first)
        for slot, mask in edges:
            before = self.partial.get(slot, 0)
            if before | mask == self._whole:
                del self.partial[slot]
                self._avoid(slot, avoid=False)
                self.pool.withhold(slot)
            else:
                self.partial[slot] = before | mask
                if not before:
                    self._avoid(slot, avoid=True)

    def _uncover(self, start: int, stop: int) -> None:
        first, end, edges = self._slots(start, stop)
        if first < end:
            self.pool.restore(first, end - first)
        for slot, mask in edges:
            before = self.partial.get(slot)
            if before is None:
                self.pool.restore(slot)
                self._avoid(slot, avoid=True)
                self.partial[slot] = self._whole & ~mask
            elif before == mask:
                del self.partial[slot]
                self._avoid(slot, avoid=False)
            else:
                self.partial[slot] = before & ~mask

    def _slots(self, start: int, stop: int) -> tuple[int, int, list[tuple[int, int]]]:
        """The slots that lie in an interval, and bits of the offsets of those at its edges."""
        first, last = self.slot(start), self.slot(stop - 1)
        whole_from = first if start == self.slot_base(first) else first + 1
        whole_to = last + 1 if stop == self.slot_base(last + 1) else last
        edges = [
            (slot, offsets(Interval(start, stop), self.slot_base(slot), 1 << self.shift))
            for slot in {first, last}
            if not whole_from <= slot < whole_to
        ]
        return whole_from, whole_to, edges

    def _avoid(self, slot: int, *, avoid: bool) -> None:
        """No route may cover what is reserved, so that such a slot makes a poor block."""
        if isinstance(self.pool, AvoidingPool):
            if avoid:
                self.pool.avoid(slot)
            else:
                self.pool.unavoid(slot)

    def free(self) -> int:
        """Addresses of slots that nobody holds and that can be handed out."""
        partial = sum(
            mask.bit_count() for slot, mask in self.partial.items() if self.pool.is_free(slot)
        )
        return (self.pool.free << self.shift) - partial

    def reserved_addresses(self) -> int:
        return self.aside.total


def offsets(interval: Interval, base: int, size: int) -> int:
    """Bits of the offsets that an interval has in common with `size` addresses from `base`."""
    low, high = max(interval.start - base, 0), min(interval.stop - base, size)
    return (1 << high) - (1 << low) if low < high else 0
