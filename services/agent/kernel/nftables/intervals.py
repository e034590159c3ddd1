"""Sets of numbers as sorted ranges: what prefixes with exceptions, or ports, come to. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from services.common.model.network import Prefix
from services.common.model.rules import CidrBlock

Ranges = list[tuple[int, int]]
"""First and last, both included; sorted, apart from each other."""


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    found: Ranges = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def without(first: int, last: int, holes: Ranges) -> Ranges:
    """A range less others."""
    found: Ranges = []
    for begin, end in holes:
        if end < first or begin > last:
            continue
        if begin > first:
            found.append((first, begin - 1))
        first = end + 1
    if first <= last:
        found.append((first, last))
    return found


def bounds(prefix: Prefix) -> tuple[int, int]:
    """First and last address of a prefix."""
    return int(prefix.network_address), int(prefix.broadcast_address)


def of_blocks(blocks: Iterable[CidrBlock], version: int) -> Ranges:
    """All addresses of one family that prefixes with exceptions say."""
    return union(
        part
        for block in blocks
        if block.cidr.version == version
        for part in without(*bounds(block.cidr), union(bounds(other) for other in block.exceptions))
    )


def as_elements(ranges: Ranges, length: int) -> dict[bytes, str]:
    """Elements of an interval set of numbers of so many bytes: see `Shape.is_interval`."""
    found: dict[bytes, str] = {}
    for first, last in ranges:
        found[first.to_bytes(length, "big") + b"\0"] = ""
        if last + 1 < 1 << 8 * length:
            found[(last + 1).to_bytes(length, "big") + b"\1"] = ""
    return found
