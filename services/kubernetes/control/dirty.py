"""What has to be looked at: each thing once, in the order in which it was marked.

What is only to be compared comes after what has changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")


class Dirty(Generic[T]):
    """Names of things that may have changed."""

    def __init__(self) -> None:
        self._marked: dict[T, None] = {}
        self._later: dict[T, None] = {}

    def __bool__(self) -> bool:
        return bool(self._marked or self._later)

    def __contains__(self, name: T) -> bool:
        """Whether it has changed: what is to be compared was told."""
        return name in self._marked

    def __len__(self) -> int:
        return len(self._marked) + len(self._later)

    @property
    def some_changed(self) -> bool:
        """Whether there is more than what is to be compared."""
        return bool(self._marked)

    def mark(self, names: Iterable[T]) -> None:
        """Marks some that have changed."""
        for name in names:
            self._marked[name] = None
            self._later.pop(name, None)

    def mark_later(self, names: Iterable[T]) -> None:
        """Marks some that are only to be compared."""
        self._later.update((name, None) for name in names if name not in self._marked)

    def drop(self, name: T) -> None:
        """Takes one out, if it is marked."""
        self._marked.pop(name, None)
        self._later.pop(name, None)

    def clear(self) -> None:
        """Takes all out."""
        self._marked.clear()
        self._later.clear()

    def take(self, most: int) -> list[T]:
        """Takes the oldest out, at most so many; whoever fails marks them again. None that is to be
        compared goes along with what has changed."""
        source = self._marked or self._later
        taken = list(islice(source, most))
        for name in taken:
            del source[name]
        return taken
