"""Romana's order of slots."""

from __future__ import annotations

from bisect import bisect_left, insort

from services.ipam.slots.integer_runs import Runs
from services.ipam.slots.pool import HeldSlots


class SequentialPool(HeldSlots):
    """Slots that came back, oldest first; else the one after the highest ever used.

    The highest ever used is the highest that is held or came back. When that is the
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
        if self._queue:
            return self._queue[0][1]
        # The queue is empty, so that no free slot was ever used.
        ahead = self._free.at_or_after(self._used.end)
        return self._free.at_or_after(0) if ahead is None else ahead

    def take(self, slot: int, node: str) -> int | None:
        self._hold(slot, node)
        came = self._returned.pop(slot, None)
        if came is None:
            self._used.add(slot, slot + 1)
        return came

    def untake(self, slot: int, node: str, returned: int | None) -> None:
        if returned is None:
            self._drop(slot, node)
            self._used.remove(slot, slot + 1)
        else:
            self.give_back(slot, node, returned)

    def give_back(self, slot: int, node: str, returned: int) -> None:
        if self._holders.get(slot) == node:
            self._returned[slot] = returned  # before it is offered, which puts it into the queue
        self._drop(slot, node)

    def note_returned(self, slot: int, returned: int) -> None:
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
