"""Keeps slots for when no other is left.

A slot in which some addresses are reserved, such as the gateway's, makes poor blocks: no route may
cover what is reserved, so that the routes to whoever holds blocks around it fall into pieces (five
instead of one for a gateway at the start of a network). Nobody gets it while there are others.
"""

from __future__ import annotations

from services.ipam.slots.coverage import Coverage
from services.ipam.slots.integer_runs import Runs
from services.ipam.slots.pool import SlotPool


class AvoidingPool:
    """A pool that chooses the slots to avoid last; all else is the inner pool's."""

    def __init__(self, inner: SlotPool) -> None:
        self._inner = inner
        self._avoided: set[int] = set()
        """All of them; the inner pool withholds them."""
        self._shut = Coverage()
        """What is withheld besides."""
        self._spare = Runs()
        """Those to avoid that can be chosen."""

    @property
    def free(self) -> int:
        return self._inner.free + self._spare.count

    def is_free(self, slot: int) -> bool:
        return self._inner.is_free(slot) or slot in self._spare

    def is_withheld(self, slot: int) -> bool:
        return slot in self._shut

    def holder(self, slot: int) -> str | None:
        return self._inner.holder(slot)

    def choose(self, node: str) -> int | None:
        slot = self._inner.choose(node)
        return self._spare.at_or_after(0) if slot is None else slot

    def take(self, slot: int, node: str) -> int | None:
        returned = self._inner.take(slot, node)
        self._withdraw(slot)
        return returned

    def untake(self, slot: int, node: str, returned: int | None) -> None:
        self._inner.untake(slot, node, returned)
        self._offer(slot)

    def give_back(self, slot: int, node: str, returned: int) -> None:
        self._inner.give_back(slot, node, returned)
        self._offer(slot)

    def note_returned(self, slot: int, returned: int) -> None:
        self._inner.note_returned(slot, returned)

    def withhold(self, slot: int, count: int = 1) -> None:
        self._inner.withhold(slot, count)
        for run in self._shut.add(slot, slot + count):
            for first, end in self._spare.within(*run):
                self._spare.remove(first, end)

    def restore(self, slot: int, count: int = 1) -> None:
        self._inner.restore(slot, count)
        for first, end in self._shut.remove(slot, slot + count):
            few = end - first < len(self._avoided)
            for avoided in range(first, end) if few else tuple(self._avoided):
                if first <= avoided < end:
                    self._offer(avoided)

    def avoid(self, slot: int) -> None:
        """Says that a slot, free or held, is to be chosen last; it is not so yet."""
        self._avoided.add(slot)
        self._inner.withhold(slot)
        self._offer(slot)

    def unavoid(self, slot: int) -> None:
        self._avoided.remove(slot)
        self._withdraw(slot)
        self._inner.restore(slot)

    def _offer(self, slot: int) -> None:
        if (
            slot in self._avoided
            and slot not in self._shut
            and self._inner.holder(slot) is None
            and slot not in self._spare
        ):
            self._spare.add(slot, slot + 1)

    def _withdraw(self, slot: int) -> None:
        if slot in self._spare:
            self._spare.remove(slot, slot + 1)
