"""Sets of integers as sorted runs, for spaces too large to count through.

The one idea: a set costs what its runs cost, whatever their length, so that an IPv6 prefix of
2**74 slots is as cheap as one of 16. Two sorted lists and bisect; moving the tail of a list of
100 000 runs takes some 20 us, which no tree in pure Python beats.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator


class Runs:
    """A set of integers; ranges are half open, from `first` to before `end`."""

    __slots__ = ("_ends", "_starts", "count")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.count = 0
        """How many integers it holds."""

    def __contains__(self, value: int) -> bool:
        at = bisect_right(self._starts, value) - 1
        return at >= 0 and value < self._ends[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The runs in ascending order; no two touch each other."""
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def end(self) -> int:
        """One above the highest member, 0 if there is none."""
        return self._ends[-1] if self._ends else 0

    def at_or_after(self, value: int) -> int | None:
        """The lowest member that is not below `value`."""
        at = bisect_right(self._ends, value)
        return max(value, self._starts[at]) if at < len(self._ends) else None

    def within(self, first: int, end: int) -> list[tuple[int, int]]:
        found = []
        at = bisect_right(self._ends, first)
        while at < len(self._starts) and self._starts[at] < end:
            found.append((max(first, self._starts[at]), min(end, self._ends[at])))
            at += 1
        return found

    def missing(self, first: int, end: int) -> list[tuple[int, int]]:
        """What of a range is not in the set, as runs."""
        found = []
        for start, stop in self.within(first, end):
            if first < start:
                found.append((first, start))
            first = stop
        if first < end:
            found.append((first, end))
        return found

    def add(self, first: int, end: int) -> None:
        """Adds a range of which no integer is in the set yet."""
        at = bisect_left(self._starts, first)
        assert at == 0 or self._ends[at - 1] <= first
        assert at == len(self._starts) or end <= self._starts[at]
        self.count += end - first
        low, high = first, end
        if at < len(self._starts) and self._starts[at] == end:
            high = self._drop(at)[1]
        if at > 0 and self._ends[at - 1] == first:
            at -= 1
            low = self._drop(at)[0]
        self._put(at, low, high)

    def remove(self, first: int, end: int) -> None:
        """Removes a range of which every integer is in the set."""
        at = bisect_right(self._starts, first) - 1
        assert at >= 0
        assert end <= self._ends[at]
        self.count -= end - first
        low, high = self._drop(at)
        if end < high:
            self._put(at, end, high)
        if low < first:
            self._put(at, low, first)

    def _put(self, at: int, first: int, end: int) -> None:
        self._starts.insert(at, first)
        self._ends.insert(at, end)

    def _drop(self, at: int) -> tuple[int, int]:
        return self._starts.pop(at), self._ends.pop(at)


class SizedRuns(Runs):
    """Runs that also know the longest of them."""

    __slots__ = ("_by_size",)

    def __init__(self) -> None:
        super().__init__()
        self._by_size: list[tuple[int, int, int]] = []

    @property
    def longest(self) -> tuple[int, int] | None:
        """The longest run, the lowest on a tie."""
        return self._by_size[0][1:] if self._by_size else None

    def _put(self, at: int, first: int, end: int) -> None:
        super()._put(at, first, end)
        insort(self._by_size, (first - end, first, end))

    def _drop(self, at: int) -> tuple[int, int]:
        first, end = super()._drop(at)
        del self._by_size[bisect_left(self._by_size, (first - end, first, end))]
        return first, end
