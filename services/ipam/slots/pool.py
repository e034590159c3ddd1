"""Where a new block goes inside a prefix group.

A group's prefix on a network is divided into equal slots, numbered from 0; a block takes one slot.
A pool knows who holds which slot and chooses the slot of a node's next block. What it chooses
depends on its state alone: not on the order in which the state came about, so that a restarted
service and one that took over go on where the last one stopped.

Owners, addresses inside a block and the store are elsewhere: here are nodes and slots. Costs grow
with the logarithm of the number of runs of held and free slots, never with the number of slots.

Undoing, in reverse order and for a transaction that failed:

    came = pool.take(slot, node)               pool.untake(slot, node, came)
    pool.give_back(slot, node, returned)       pool.take(slot, node)
"""

from __future__ import annotations

from typing import Protocol

from services.ipam.slots.coverage import Coverage
from services.ipam.slots.integer_runs import Runs, SizedRuns


class SlotPool(Protocol):
    """The slots of one prefix group on one network."""

    @property
    def free(self) -> int:
        """How many slots are neither held nor withheld."""
        ...

    def is_free(self, slot: int) -> bool:
        """Says whether a slot is in the pool, not held and not withheld."""
        ...

    def is_withheld(self, slot: int) -> bool:
        """Says whether a slot is withheld, held or not."""
        ...

    def holder(self, slot: int) -> str | None:
        """The node that holds a slot."""
        ...

    def choose(self, node: str) -> int | None:
        """The slot for this node's next block, without taking it; None if no slot is free."""
        ...

    def take(self, slot: int, node: str) -> int | None:
        """Gives a slot to a node: a chosen one, or any that nobody holds, even a withheld one.

        Returns the slot's place in the queue of returned slots, which it leaves and which `untake`
        needs; None if it was not there. Raises ValueError if the slot is held or not in the pool.
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

    def withhold(self, slot: int, count: int = 1) -> None:
        """Withholds slots: they are not chosen until `restore` was called as often as `withhold`.

        Slots that are held stay held, and are not chosen when they come back.
        """
        ...

    def restore(self, slot: int, count: int = 1) -> None:
        """Undoes `withhold`; raises ValueError if some of them are not withheld."""
        ...


class HeldSlots:
    """What both strategies share: who holds which slot, which are withheld, which are free."""

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"a group needs at least one slot, not {slots}")
        self.slots = slots
        self._holders: dict[int, str] = {}
        self._held = Runs()
        self._withheld = Coverage()
        self._free = SizedRuns()
        self._free.add(0, slots)

    @property
    def free(self) -> int:
        return self._free.count

    def is_free(self, slot: int) -> bool:
        return slot in self._free

    def is_withheld(self, slot: int) -> bool:
        return slot in self._withheld

    def holder(self, slot: int) -> str | None:
        return self._holders.get(slot)

    def withhold(self, slot: int, count: int = 1) -> None:
        for run in self._withheld.add(slot, self._range_end(slot, count)):
            for free in self._free.within(*run):
                self._withdraw(*free)

    def restore(self, slot: int, count: int = 1) -> None:
        for opened in self._withheld.remove(slot, self._range_end(slot, count)):
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
        if slot not in self._withheld:
            self._offer(slot, slot + 1)

    def _withdraw(self, first: int, end: int) -> None:
        """Slots stop being free, because they are taken or withheld."""
        self._free.remove(first, end)

    def _offer(self, first: int, end: int) -> None:
        self._free.add(first, end)
