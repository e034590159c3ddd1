"""What has to be looked at: each thing once, in the order in which it was marked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Dirty(Generic[T]):
    """Names of things that may have changed."""

    def __init__(self) -> None:
        self._marked: dict[T, None] = {}

    def __bool__(self) -> bool:
        return bool(self._marked)

    def __contains__(self, name: T) -> bool:
        return name in self._marked

    def __len__(self) -> int:
        return len(self._marked)

    def mark(self, names: Iterable[T]) -> None:
        """Marks some."""
        self._marked.update(dict.fromkeys(names))

    def drop(self, name: T) -> None:
        """Takes one out, if it is marked."""
        self._marked.pop(name, None)

    def clear(self) -> None:
        """Takes all out."""
        self._marked.clear()

    def take(self, most: int) -> list[T]:
        """Takes the oldest out, at most so many; whoever fails marks them again."""
        taken = list(self._marked)[:most] if len(self._marked) > most else list(self._marked)
        for name in taken:
            del self._marked[name]
        return taken
