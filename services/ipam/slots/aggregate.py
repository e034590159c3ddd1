"""Slots side by side, so that a node's blocks are few routes."""

from __future__ import annotations

from bisect import bisect_left, insort

from services.ipam.slots.pool import HeldSlots


class AggregatePool(HeldSlots):
    """A node's blocks grow side by side, and new nodes start in the middle of the largest gap.

    Growth: of the free slots beside the node's own, the one that stays in the smallest aligned
    power of two with its neighbour, the lowest on a tie. So a node fills the aligned range that it
    began before it opens the next larger one, and its blocks collapse into one route. Start, also
    of a second region when the first is hemmed in: near the middle of the longest run of free
    slots, at the slot on the largest power of two. Starts thus halve the pool the way its prefixes
    do, and leave both neighbours room.
    """

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._growth: dict[str, list[tuple[int, int]]] = {}
        """For each node its free neighbours as (bits of the range they share, slot), ascending."""
        self._shared: dict[tuple[str, int], int] = {}

    def choose(self, node: str) -> int | None:
        growth = self._growth.get(node)
        if growth:
            return growth[0][1]
        gap = self._free.longest
        return None if gap is None else _start(*gap)

    def take(self, slot: int, node: str) -> int | None:
        self._hold(slot, node)
        self._look_around(slot, node)
        return None

    def untake(self, slot: int, node: str, returned: int | None) -> None:  # noqa: ARG002  no queue
        self._drop(slot, node)
        self._look_around(slot, node)

    def give_back(self, slot: int, node: str, returned: int) -> None:  # noqa: ARG002  no queue
        self._drop(slot, node)
        self._look_around(slot, node)

    def note_returned(self, slot: int, returned: int) -> None:
        """Does nothing: here the order in which blocks came back does not matter."""

    def _withdraw(self, first: int, end: int) -> None:
        super()._withdraw(first, end)
        self._look_at_ends(first, end)

    def _offer(self, first: int, end: int) -> None:
        super()._offer(first, end)
        self._look_at_ends(first, end)

    def _look_at_ends(self, first: int, end: int) -> None:
        """Only the ends of a run that was or is free can lie beside a held slot."""
        for slot in {first, end - 1}:
            for node in {self._holders.get(slot - 1), self._holders.get(slot + 1)}:
                if node is not None:
                    self._look(slot, node)

    def _look_around(self, slot: int, node: str) -> None:
        self._look(slot - 1, node)
        self._look(slot + 1, node)

    def _look(self, slot: int, node: str) -> None:
        """Brings up to date whether and how well a node may grow into a slot."""
        shared = None
        if slot in self._free:
            beside = [near for near in (slot - 1, slot + 1) if self._holders.get(near) == node]
            shared = min(((slot ^ near).bit_length() for near in beside), default=None)
        known = self._shared.get((node, slot))
        if known == shared:
            return
        growth = self._growth.setdefault(node, [])
        if known is not None:
            del growth[bisect_left(growth, (known, slot))]
            del self._shared[node, slot]
        if shared is not None:
            insort(growth, (shared, slot))
            self._shared[node, slot] = shared
        if not growth:
            del self._growth[node]


def _start(first: int, end: int) -> int:
    """The slot on the largest power of two in the middle half of a gap."""
    if first == 0:
        return 0  # nobody to the left needs room
    quarter = (end - first) // 4
    low, high = first + quarter, end - 1 - quarter
    shift = ((low - 1) ^ high).bit_length() - 1
    return high >> shift << shift
