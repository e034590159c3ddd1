"""A mapping that shares with the one it was made of what both have in common.

A node has up to 100,000 routes, and an endpoint that comes adds four: to copy all for that would
cost milliseconds. What is different lies in a layer above, which becomes one with what is below
when it has grown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final, Generic, TypeVar, cast

K = TypeVar("K")
V = TypeVar("V")

_LEAST: Final = 256
_PART: Final = 64
"""A layer has at most this fraction of what is below it, or `_LEAST`."""
_GONE: Final = object()


class Layered(Mapping[K, V], Generic[K, V]):
    """Does not change."""

    __slots__ = ("_below", "_over", "_size")

    def __init__(self, below: dict[K, V]) -> None:
        """Takes a mapping over, which nobody changes from now on."""
        self._below = below
        self._over: dict[K, object] = {}
        self._size = len(below)

    @classmethod
    def of(cls, objects: Mapping[K, V]) -> Layered[K, V]:
        """The same as a layered one."""
        return objects if isinstance(objects, cls) else cls(dict(objects))

    def __getitem__(self, key: K) -> V:
        found = self._over.get(key)
        if found is None:
            return self._below[key]
        if found is _GONE:
            raise KeyError(key)
        return cast("tuple[V]", found)[0]

    def __contains__(self, key: object) -> bool:
        found = self._over.get(cast("K", key))
        return key in self._below if found is None else found is not _GONE

    def __iter__(self) -> Iterator[K]:
        over = self._over
        if not over:
            yield from self._below
            return
        for key in self._below:
            if over.get(key) is not _GONE:
                yield key
        for key, found in over.items():
            if found is not _GONE and key not in self._below:
                yield key

    def __len__(self) -> int:
        return self._size

    def flat(self) -> Mapping[K, V]:
        """All of it without layers: faster for who looks at all."""
        if not self._over:
            return self._below
        made = dict(self._below)
        for key, found in self._over.items():
            if found is _GONE:
                made.pop(key, None)
            else:
                made[key] = cast("tuple[V]", found)[0]
        return made

    def changed(self, puts: Mapping[K, V], removals: Collection[K] = ()) -> Layered[K, V]:
        """One without some keys, and with other values for some; what is put is there."""
        if not puts and not removals:
            return self
        made = Layered(self._below)
        over = made._over = dict(self._over)
        size = self._size
        for key in removals:
            if key in puts or key not in self:
                continue
            size -= 1
            if key in self._below:
                over[key] = _GONE
            else:
                del over[key]
        for key, value in puts.items():
            size += key not in self
            over[key] = (value,)
        made._size = size
        if len(over) > max(_LEAST, len(self._below) // _PART):
            return Layered(cast("dict[K, V]", made.flat()))
        return made


def flat(objects: Mapping[K, V]) -> Mapping[K, V]:
    """All of it without layers."""
    return objects.flat() if isinstance(objects, Layered) else objects
