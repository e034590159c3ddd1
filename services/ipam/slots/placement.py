"""Where a new block goes inside a prefix group.

A group's prefix on a network is divided into equal slots, numbered from 0; a block takes one slot.
A space knows who holds which slot and chooses the slot of a node's next block. What it chooses
depends on its state alone: not on the order in which the state came about, so that a restarted
service and one that took over go on where the last one stopped.

Owners, addresses inside a block and the store are elsewhere: here are nodes and slots. Costs grow
with the logarithm of the number of runs of held and free slots, never with the number of slots.

Undoing, in reverse order and for a transaction that failed:

    came = space.take(slot, node)               space.untake(slot, node, came)
    space.give_back(slot, node, returned)       space.take(slot, node)
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Protocol

from services.ipam.slots.coverage import Coverage
from services.ipam.slots.integer_runs import Runs, SizedRuns


class GroupSpace(Protocol):
    """The slots of one prefix group on one network."""

    @property
    def free(self) -> int:
        """How many slots are neither held nor blocked."""
        ...

    def is_free(self, slot: int) -> bool:
        """Says whether a slot is in the space, not held and not blocked."""
        ...

    def is_blocked(self, slot: int) -> bool:
        """Says whether a slot is blocked, held or not."""
        ...

    def holder(self, slot: int) -> str | None:
        """The node that holds a slot."""
        ...

    def choose(self, node: str) -> int | None:
        """The slot for this node's next block, without taking it; None if no slot is free."""
        ...

    def take(self, slot: int, node: str) -> int | None:
        """Gives a slot to a node: a chosen one, or any that nobody holds, even a blocked one.

        Returns the slot's place in the queue of returned slots, which it leaves and which `untake`
        needs; None if it was not there. Raises ValueError if the slot is held or not in the space.
        """
        ...

    def untake(self, slot: int, node: str, returned: int | None) -> None:
        """Undoes `take`; `returned` is what that returned."""
        ...

    def give_back(self, slot: int, node: str, returned: int) -> None:
        """Takes a slot back from the node that holds it.

        `returned` rises with every slot that comes back. Raises ValueError if the node does not
        hold the slot.
        """
        ...

    def note_returned(self, slot: int, returned: int) -> None:
        """Tells at a start, in any order, of a slot that nobody holds now and that came back."""
        ...

    def block(self, slot: int, count: int = 1) -> None:
        """Withdraws slots: they are not chosen until `unblock` was called as often as `block`.

        Slots that are held stay held, and are not chosen when they come back.
        """
        ...

    def unblock(self, slot: int, count: int = 1) -> None:
        """Undoes `block`; raises ValueError if some of them are not blocked."""
        ...


class _Space:
    """What both strategies share: who holds which slot, which are blocked, which are free."""

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"a group needs at least one slot, not {slots}")
        self.slots = slots
        self._holders: dict[int, str] = {}
        self._held = Runs()
        self._blocked = Coverage()
        self._free = SizedRuns()
        self._free.add(0, slots)

    @property
    def free(self) -> int:
        """See `GroupSpace`."""
        return self._free.count

    def is_free(self, slot: int) -> bool:
        """See `GroupSpace`."""
        return slot in self._free

    def is_blocked(self, slot: int) -> bool:
        """See `GroupSpace`."""
        return slot in self._blocked

    def holder(self, slot: int) -> str | None:
        """See `GroupSpace`."""
        return self._holders.get(slot)

    def block(self, slot: int, count: int = 1) -> None:
        """See `GroupSpace`."""
        for blocked in self._blocked.add(slot, self._range_end(slot, count)):
            for run in self._free.within(*blocked):
                self._withdraw(*run)

    def unblock(self, slot: int, count: int = 1) -> None:
        """See `GroupSpace`."""
        for opened in self._blocked.remove(slot, self._range_end(slot, count)):
            for run in self._held.missing(*opened):
                self._offer(*run)

    def _range_end(self, slot: int, count: int) -> int:
        if slot < 0 or count < 1 or slot + count > self.slots:
            raise ValueError(f"slots {slot} to {slot + count - 1} are not in 0 to {self.slots - 1}")
        return slot + count

    def _hold(self, slot: int, node: str) -> None:
        self._range_end(slot, 1)
        if slot in self._holders:
            raise ValueError(f"slot {slot} is held by {self._holders[slot]}, not free for {node}")
        if slot in self._free:
            self._withdraw(slot, slot + 1)
        self._holders[slot] = node
        self._held.add(slot, slot + 1)

    def _drop(self, slot: int, node: str) -> None:
        if self._holders.get(slot) != node:
            raise ValueError(f"slot {slot} is not held by {node}")
        del self._holders[slot]
        self._held.remove(slot, slot + 1)
        if slot not in self._blocked:
            self._offer(slot, slot + 1)

    def _withdraw(self, first: int, end: int) -> None:
        """Slots stop being free, because they are taken or blocked."""
        self._free.remove(first, end)

    def _offer(self, first: int, end: int) -> None:
        """Slots are free again."""
        self._free.add(first, end)


class SequentialSpace(_Space):
    """Slots that came back, oldest first; else the one after the highest ever used.

    Romana's order. The highest ever used is the highest that is held or came back. When that is the
    last one, the lowest free one is chosen: a caller's own choice of address may have jumped ahead.
    """

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._returned: dict[int, int] = {}
        self._queue: list[tuple[int, int]] = []
        """Free slots that came back, as (returned, slot), ascending."""
        self._used = Runs()
        """Slots that are held or came back."""

    def choose(self, node: str) -> int | None:  # noqa: ARG002  the order is the same for all nodes
        """See `GroupSpace`."""
        if self._queue:
            return self._queue[0][1]
        # The queue is empty, so that no free slot was ever used.
        ahead = self._free.at_or_after(self._used.end)
        return self._free.at_or_after(0) if ahead is None else ahead

    def take(self, slot: int, node: str) -> int | None:
        """See `GroupSpace`."""
        self._hold(slot, node)
        came = self._returned.pop(slot, None)
        if came is None:
            self._used.add(slot, slot + 1)
        return came

    def untake(self, slot: int, node: str, returned: int | None) -> None:
        """See `GroupSpace`."""
        if returned is None:
            self._drop(slot, node)
            self._used.remove(slot, slot + 1)
        else:
            self.give_back(slot, node, returned)

    def give_back(self, slot: int, node: str, returned: int) -> None:
        """See `GroupSpace`."""
        if self._holders.get(slot) == node:
            self._returned[slot] = returned  # before it is offered, which puts it into the queue
        self._drop(slot, node)

    def note_returned(self, slot: int, returned: int) -> None:
        """See `GroupSpace`."""
        self._range_end(slot, 1)
        if slot in self._holders or slot in self._returned:
            raise ValueError(f"slot {slot} is held or was noted before")
        self._returned[slot] = returned
        self._used.add(slot, slot + 1)
        if slot in self._free:
            insort(self._queue, (returned, slot))

    def _withdraw(self, first: int, end: int) -> None:
        super()._withdraw(first, end)
        for slot in self._came_back(first, end):
            del self._queue[bisect_left(self._queue, (self._returned[slot], slot))]

    def _offer(self, first: int, end: int) -> None:
        super()._offer(first, end)
        for slot in self._came_back(first, end):
            insort(self._queue, (self._returned[slot], slot))

    def _came_back(self, first: int, end: int) -> list[int]:
        return [
            slot
            for run in self._used.within(first, end)
            for slot in range(*run)
            if slot in self._returned
        ]


class AggregateSpace(_Space):
    """A node's blocks grow side by side, and new nodes start in the middle of the largest gap.

    Growth: of the free slots beside the node's own, the one that stays in the smallest aligned
    power of two with its neighbour, the lowest on a tie. So a node fills the aligned range that it
    began before it opens the next larger one, and its blocks collapse into one route. Start, also
    of a second region when the first is hemmed in: near the middle of the longest run of free
    slots, at the slot on the largest power of two. Starts thus halve the space the way its prefixes
    do, and leave both neighbours room.
    """

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self._growth: dict[str, list[tuple[int, int]]] = {}
        """For each node its free neighbours as (bits of the range they share, slot), ascending."""
        self._shared: dict[tuple[str, int], int] = {}

    def choose(self, node: str) -> int | None:
        """See `GroupSpace`."""
        growth = self._growth.get(node)
        if growth:
            return growth[0][1]
        gap = self._free.longest
        return None if gap is None else _start(*gap)

    def take(self, slot: int, node: str) -> int | None:
        """See `GroupSpace`; there is no queue, so it returns None."""
        self._hold(slot, node)
        self._look_around(slot, node)
        return None

    def untake(self, slot: int, node: str, returned: int | None) -> None:  # noqa: ARG002  no queue
        """See `GroupSpace`."""
        self._drop(slot, node)
        self._look_around(slot, node)

    def give_back(self, slot: int, node: str, returned: int) -> None:  # noqa: ARG002  no queue
        """See `GroupSpace`."""
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
