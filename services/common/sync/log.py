"""A bounded log of changes: which resource of which topic, in order, and what that made of digests.

    sequence     1     2     3     4     5     6
    entries      a     b     a     c     a     b        (topic, id)
    points       +-----+     +     +-----------+        one per flush: what streams may see

A cursor is the sequence of the last entry that somebody has. Entries do not say what the change
was: the value to send is always the present one, so that changes merge.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Point:
    start: int
    """Sequence before its first entry."""
    end: int
    """Sequence of its last entry."""
    revision: int
    """Position of the source with it."""
    time: float
    digests: Mapping[str, int]
    """By how much it changed the digest of each topic."""


class ChangeLog:
    """The last changes; between one and two times `capacity` of them once it is full."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: list[tuple[str, str]] = []
        self._points: list[Point] = []
        self._by_topic: dict[str, list[int]] = {}
        """Sequences of each topic's entries: a stream of many topics looks at its own only."""
        self._base = 0
        self._closed = 0

    @property
    def head(self) -> int:
        """Sequence of the last entry."""
        return self._base + len(self._entries)

    @property
    def base(self) -> int:
        """Sequence before the first entry that is kept."""
        return self._base

    def add(self, topic: str, name: str) -> int:
        """Adds an entry; returns its sequence."""
        self._entries.append((topic, name))
        self._by_topic.setdefault(topic, []).append(self.head)
        return self.head

    def close(self, revision: int, time: float, digests: Mapping[str, int]) -> None:
        """Ends a flush that added entries."""
        self._points.append(Point(self._closed, self.head, revision, time, digests))
        self._closed = self.head

    def trim(self) -> Mapping[str, int]:
        """Forgets old entries if there are too many; tells the last sequence of each topic."""
        if len(self._entries) <= 2 * self._capacity:
            return {}
        cut = len(self._entries) - self._capacity
        trimmed = {
            topic: self._base + index + 1 for index, (topic, _) in enumerate(self._entries[:cut])
        }
        del self._entries[:cut]
        self._base += cut
        for topic in trimmed:
            sequences = self._by_topic[topic]
            del sequences[: bisect_right(sequences, self._base)]
            if not sequences:
                del self._by_topic[topic]
        del self._points[: bisect_left(self._points, self._base, key=_start)]
        return trimmed

    def since(self, cursor: int, topics: Iterable[str]) -> Iterator[tuple[int, str, str]]:
        """Sequence, topic and id of the entries of these topics after a cursor, in order."""
        found: list[int] = []
        for topic in topics:
            sequences = self._by_topic.get(topic)
            if sequences and sequences[-1] > cursor:
                found += sequences[bisect_right(sequences, cursor) :]
        found.sort()
        for sequence in found:
            topic, name = self._entries[sequence - self._base - 1]
            yield sequence, topic, name

    def revision_at(self, cursor: int) -> int:
        """Revision of the last flush that is wholly before a cursor; 0 if it is forgotten."""
        index = bisect_right(self._points, cursor, key=_end)
        return self._points[index - 1].revision if index else 0

    def cursor_at(self, revision: int) -> int:
        """Sequence of the last entry up to a revision; 0 if that is forgotten."""
        index = bisect_right(self._points, revision, key=_revision)
        return self._points[index - 1].end if index else 0

    def time_after(self, cursor: int) -> float | None:
        """When the first flush after a cursor was."""
        index = bisect_right(self._points, cursor, key=_end)
        return self._points[index].time if index < len(self._points) else None

    def find(self, digest: int, present: int, topics: Collection[str]) -> int | None:
        """The last cursor at which these topics had a digest; `present` is what they have now."""
        if digest == present:
            return self.head
        for point in reversed(self._points):
            changes = point.digests
            for topic in changes if len(changes) < len(topics) else topics:
                if topic in topics:
                    present -= changes.get(topic, 0)
            present &= MASK
            if present == digest:
                return point.start
        return None


def _start(point: Point) -> int:
    return point.start


def _end(point: Point) -> int:
    return point.end


def _revision(point: Point) -> int:
    return point.revision
