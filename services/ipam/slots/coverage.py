"""How many ranges cover each integer: for what several want and each may give up by itself.

Sorted boundaries and the count from each to the next, neighbours with the same count joined. So it
depends on the ranges alone, not on the order in which they came and went, and one more costs what
it overlaps.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

Run = tuple[int, int]
"""From the first up to and without the second."""


class Coverage:
    """Ranges of integers from 0 on; the same one may be added several times."""

    __slots__ = ("_at", "_counts", "total")

    def __init__(self) -> None:
        self._at = [0]
        self._counts = [0]
        """How often the integers from the boundary of the same index on are covered."""
        self.total = 0
        """How many integers are covered at all."""

    def __contains__(self, value: int) -> bool:
        return value >= 0 and self._counts[bisect_right(self._at, value) - 1] > 0

    def __iter__(self) -> Iterator[Run]:
        """What is covered at all, as disjoint runs in ascending order; no two touch."""
        first = -1
        for at, count in zip(self._at, self._counts, strict=True):
            if count and first < 0:
                first = at
            elif not count and first >= 0:
                yield first, at
                first = -1

    def add(self, first: int, end: int) -> list[Run]:
        """Adds a range; returns what was not covered before."""
        runs = self._change(first, end, 1)
        self.total += sum(stop - start for start, stop in runs)
        return runs

    def remove(self, first: int, end: int) -> list[Run]:
        """Takes back a range that was added; returns what is covered no more.

        Raises ValueError if some of it is not covered.
        """
        low = bisect_right(self._at, first) - 1
        high = bisect_left(self._at, end, low)
        if not all(self._counts[low:high]):
            raise ValueError(f"{first} to {end - 1} were not all covered")
        runs = self._change(first, end, -1)
        self.total -= sum(stop - start for start, stop in runs)
        return runs

    def _change(self, first: int, end: int, by: int) -> list[Run]:
        """The runs whose count leaves, or comes to, 0."""
        assert 0 <= first < end
        low, high = self._cut(first), self._cut(end)
        counts = self._counts
        runs: list[Run] = []
        for index in range(low, high):
            counts[index] += by
            if counts[index] == (1 if by > 0 else 0):
                start, stop = self._at[index], self._at[index + 1]
                if runs and runs[-1][1] == start:
                    runs[-1] = (runs[-1][0], stop)
                else:
                    runs.append((start, stop))
        self._join(high)
        self._join(low)
        return runs

    def _cut(self, value: int) -> int:
        """The index of a boundary there, made if there is none."""
        index = bisect_left(self._at, value)
        if index == len(self._at) or self._at[index] != value:
            self._at.insert(index, value)
            self._counts.insert(index, self._counts[index - 1])
        return index

    def _join(self, index: int) -> None:
        if index and self._counts[index] == self._counts[index - 1]:
            del self._at[index], self._counts[index]
