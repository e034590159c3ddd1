"""A block in memory: which of its addresses are free, in use, resting or reserved.

Every offset is in exactly one state. Free ones are bits of an int, because the lowest set bit of an
int is found in 80 ns whatever its size; names and times are arrays by offset, because a dict per
block costs four times the memory.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from services.common.model.names import NetworkName, NodeName, Segment, Tenant
from services.common.records.blocks import PAGE_BITS
from services.ipam.model import AllocatedAddress, Owner, Visit, prefix_text

if TYPE_CHECKING:
    from services.ipam.ledger.areas import Area


OPENED_MOST: Final = 64
"""Offsets that are looked at one by one; from there on all at once costs less."""


class Rest(NamedTuple):
    """An address that was released and not handed out since."""

    offset: int
    time: int
    """When it was released, Unix time in milliseconds."""


class Left(NamedTuple):
    """What was known of an address when it was released."""

    name: str
    time: int
    ordinal: int
    visit: Visit | None


class Block:
    """Aligned slice of a group's prefix, held by one node and one owner.

    It only keeps its own books; `Ledger` moves addresses between the states and keeps the indexes.
    """

    __slots__ = (
        "area",
        "base",
        "bits",
        "born",
        "free",
        "length",
        "live",
        "names",
        "network",
        "node",
        "opened",
        "ordinals",
        "place",
        "reserved",
        "rest",
        "revision",
        "ripening",
        "segment",
        "sequence",
        "tenant",
        "times",
        "used",
        "visits",
    )

    def __init__(
        self,
        network: NetworkName,
        base: int,
        length: int,
        bits: int,
        *,
        node: NodeName,
        tenant: Tenant,
        segment: Segment,
        born: int,
        sequence: int,
    ) -> None:
        self.network = network
        self.base = base
        self.place = (network, base)
        """Its identity."""
        self.length = length
        self.bits = bits
        self.node = node
        self.tenant = tenant
        self.segment = segment
        self.born = born
        """Number in the order in which blocks were taken into use."""
        self.sequence = sequence
        """Id in memory, for the index of names."""
        size = 1 << (bits - length)
        self.free = (1 << size) - 1
        """Bit per offset that can be handed out at once."""
        self.reserved = 0
        """Bit per offset that must not be handed out."""
        self.names: list[str | None] = [None] * size
        self.times = array("I", bytes(4 * size))
        self.ordinals: dict[int, int] | None = None
        """Place among the addresses of its name, where that is not 0."""
        self.visits: dict[int, Visit] | None = None
        """Where addresses are that are not on `node`, or about to move; None: there are none."""
        self.rest: deque[Rest] | None = None
        """Released offsets, the longest idle first."""
        self.used = 0
        self.revision = 0
        """Of the store when it was last written."""
        self.area: Area | None = None
        """The group it lies in; None: stranded outside of every group."""
        self.live = True
        """It is held; a block that was given back is not."""
        self.opened = False
        """It is in its holding's list of blocks with room."""
        self.ripening = False
        """It is in its holding's heap of blocks that wait for a rest to end."""

    @property
    def owner(self) -> Owner:
        return Owner(self.node, self.tenant, self.segment)

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def resting(self) -> int:
        """How many addresses were released and not handed out since."""
        return len(self.rest) if self.rest else 0

    def longest_idle(self) -> Rest | None:
        """The resting address that is handed out next, once it has rested; None: there is none."""
        if not self.rest:
            return None
        if not self.reserved:
            return self.rest[0]
        return next((item for item in self.rest if not self.reserved >> item.offset & 1), None)

    @property
    def pages(self) -> int:
        """How many pages it has in the store, at most."""
        return ((len(self.names) - 1) >> PAGE_BITS) + 1

    def allocated(self, offset: int) -> AllocatedAddress:
        return AllocatedAddress(
            self.base + offset, self.bits, self.network, self.base, self.length, self.times[offset]
        )

    def in_use(self, page: int | None = None) -> Iterator[tuple[int, str]]:
        """Offsets and names, lowest first; of one page, or of all."""
        first = 0 if page is None else page << PAGE_BITS
        last = len(self.names) if page is None else first + (1 << PAGE_BITS)
        for offset, name in enumerate(self.names[first:last], first):
            if name is not None:
                yield offset, name

    def reserved_in_use(self) -> Iterator[int]:
        """Offsets that are in use although they are reserved, lowest first."""
        if self.reserved.bit_count() > OPENED_MOST:
            text = f"{self.reserved:0{self.size}b}"
            yield from (offset for offset, _ in self.in_use() if text[-1 - offset] == "1")
            return
        left = self.reserved
        while left:
            offset = (left & -left).bit_length() - 1
            left &= left - 1
            if self.names[offset] is not None:
                yield offset

    def ordinal(self, offset: int) -> int:
        """Place of an address among those of its name."""
        return self.ordinals.get(offset, 0) if self.ordinals else 0

    def location(self, offset: int) -> NodeName:
        """The node that an address in use is on."""
        visit = self.visits.get(offset) if self.visits else None
        return self.node if visit is None else visit.node

    def visit(self, offset: int) -> Visit:
        """The same, and where it moves to."""
        visit = self.visits.get(offset) if self.visits else None
        return visit or Visit(self.node)

    def set_visit(self, offset: int, visit: Visit | None) -> None:
        """Says where an address is; None, or on the block's node to stay: nothing is kept."""
        if visit is None or visit == Visit(self.node):
            if self.visits is not None:
                self.visits.pop(offset, None)
                self.visits = self.visits or None
        else:
            self.visits = {**(self.visits or {}), offset: visit}

    def enter(self, offset: int, name: str, time: int, ordinal: int) -> tuple[int, Rest] | None:
        """Takes a free or resting offset into use; returns its place in `rest` if it rested."""
        woken = None
        if self.free >> offset & 1:
            self.free ^= 1 << offset
        else:
            woken = self._rest_of(offset)
            assert self.rest is not None
            del self.rest[woken[0]]
        self.names[offset] = name
        self.times[offset] = time
        self.used += 1
        if ordinal:
            self._set_ordinal(offset, ordinal)
        return woken

    def unenter(self, offset: int, woken: tuple[int, Rest] | None) -> None:
        """Undoes `enter`; `woken` is what that returned."""
        self._vacate(offset)
        if woken is None:
            self.free |= 1 << offset
        else:
            assert self.rest is not None
            self.rest.insert(*woken)

    def leave(self, offset: int, now: int | None) -> Left:
        """Releases an offset in use; it rests from `now` (Unix time in milliseconds), or not."""
        visit = self.visits.get(offset) if self.visits else None
        left = Left(self._name(offset), self.times[offset], self.ordinal(offset), visit)
        self._vacate(offset)
        if now is not None:
            if self.rest is None:
                self.rest = deque()
            self.rest.append(Rest(offset, now))
        elif not self.reserved >> offset & 1:
            self.free |= 1 << offset
        return left

    def unleave(self, offset: int, left: Left, *, rested: bool) -> None:
        """Undoes `leave`; `left` is what that returned."""
        if rested:
            assert self.rest is not None
            self.rest.pop()
        self.free &= ~(1 << offset)
        self.names[offset] = left.name
        self.times[offset] = left.time
        self.used += 1
        if left.ordinal:
            self._set_ordinal(offset, left.ordinal)
        if left.visit is not None:
            self.set_visit(offset, left.visit)

    def _set_ordinal(self, offset: int, ordinal: int) -> None:
        if self.ordinals is None:
            self.ordinals = {}
        self.ordinals[offset] = ordinal

    def _vacate(self, offset: int) -> None:
        self.names[offset] = None
        if self.ordinals:
            self.ordinals.pop(offset, None)
        if self.visits:
            self.set_visit(offset, None)
        self.used -= 1

    def _name(self, offset: int) -> str:
        name = self.names[offset]
        assert name is not None
        return name

    def _rest_of(self, offset: int) -> tuple[int, Rest]:
        for index, item in enumerate(self.rest or ()):
            if item.offset == offset:
                return index, item
        raise ValueError(f"{self} offset {offset} is neither free nor resting")

    def take_over(self, other: Block) -> None:
        """Has the same in use, at rest and reserved as another one, which is no longer held."""
        self.free, self.reserved, self.used = other.free, other.reserved, other.used
        self.names, self.times, self.ordinals = other.names, other.times, other.ordinals
        self.rest = other.rest

    def reserve(self, mask: int) -> bool:
        """Says which offsets are reserved, instead of those before.

        Says whether some are so no more, so that it may have got room, or gets some earlier.
        """
        opened = self.reserved & ~mask
        self.reserved = mask
        self.free &= ~mask
        if opened.bit_count() > OPENED_MOST:
            self.refree()
        elif opened:
            resting = {item.offset for item in self.rest or ()}
            left = opened
            while left:
                lowest = left & -left
                left ^= lowest
                offset = lowest.bit_length() - 1
                if self.names[offset] is None and offset not in resting:
                    self.free |= lowest
        return bool(opened)

    def refree(self) -> None:
        unused = int("".join("01"[name is None] for name in reversed(self.names)), 2)
        resting = 0
        for offset, _ in self.rest or ():
            resting |= 1 << offset
        self.free = unused & ~self.reserved & ~resting

    def __str__(self) -> str:
        return prefix_text(self.base, self.length, self.bits)
