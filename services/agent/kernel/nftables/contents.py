"""A whole table as a value, which equals what the kernel holds of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from services.agent.kernel.nftables.table import Found, Image


@dataclass(frozen=True, slots=True)
class Contents:
    """Equal to another if both tables are: rules are known by their tags."""

    digest: str
    image: Image = field(default_factory=Image, compare=False, repr=False)
    """How to make it; empty: it was read."""

    @classmethod
    def of(cls, image: Image) -> Contents:
        """Those that a table shall have."""
        found = Found(
            {
                name: (chain.base, tuple(rule.tag for rule in chain.rules))
                for name, chain in image.chains.items()
            },
            image.sets,
            frozenset(image.counters),
            {name: image.elements.get(name, {}) for name in image.sets},
        )
        return cls(_digest(found), image)

    @classmethod
    def found(cls, found: Found) -> Contents:
        """Those that a table has."""
        return cls(_digest(found))


def _digest(found: Found) -> str:
    parts = (
        sorted(found.chains.items()),
        sorted(found.sets.items(), key=lambda item: item[0]),
        sorted(found.counters),
        sorted((name, sorted(elements.items())) for name, elements in found.elements.items()),
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
