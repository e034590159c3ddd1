"""Addresses as whole numbers, and sums over ranges of them."""

from __future__ import annotations

import ipaddress
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """From the first address to the last, both included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many addresses."""
        return self.last - self.first + 1

    def overlaps(self, other: Range) -> bool:
        """They have an address in common."""
        return self.first <= other.last and other.first <= self.last

    def contains(self, other: Range) -> bool:
        """All of the other lies in it."""
        return self.first <= other.first and other.last <= self.last


def range_of(cidr: str) -> Range:
    """Of a prefix or an address; ValueError if it is neither."""
    network = ipaddress.ip_network(cidr, strict=False)
    return Range(int(network.network_address), int(network.broadcast_address))


def ranges_of(text: str) -> Range:
    """Of "10.0.0.0/29", "10.0.0.4" or "10.0.0.4-10.0.0.9"; ValueError if it is none of them."""
    first, dash, last = text.partition("-")
    if not dash:
        return range_of(text)
    return Range(int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last)))


def prefix_text(first: int, length: int, version: int) -> str:
    """A prefix as people write it."""
    kind = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
    return str(kind((first, length)))


def address_text(number: int, version: int) -> str:
    """An address as people write it."""
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    return str(kind(number))


class Sums:
    """Numbers that belong to disjoint ranges, summed over any range in logarithmic time.

    Of a range that is cut, its number counts in proportion.
    """

    def __init__(self, ranges: Sequence[Range], numbers: Sequence[int]) -> None:
        """`ranges` ascend and do not overlap; `numbers` has one for each."""
        self._firsts = [each.first for each in ranges]
        self._lasts = [each.last for each in ranges]
        self._numbers = numbers
        self._before = list(accumulate(numbers, initial=0))

    def over(self, wanted: Range) -> int:
        """The sum of what lies in a range."""
        begin = bisect_left(self._lasts, wanted.first)
        end = bisect_right(self._firsts, wanted.last)
        if begin >= end:
            return 0
        total = self._before[end] - self._before[begin]
        for place in {begin, end - 1}:
            inside = Range(self._firsts[place], self._lasts[place])
            cut = min(inside.last, wanted.last) - max(inside.first, wanted.first) + 1
            total -= self._numbers[place] - self._numbers[place] * cut // inside.size
        return total


def merged(ranges: Sequence[Range]) -> list[Range]:
    """The same addresses as disjoint ranges, ascending."""
    made: list[Range] = []
    for each in sorted(ranges):
        if made and each.first <= made[-1].last + 1:
            made[-1] = Range(made[-1].first, max(made[-1].last, each.last))
        else:
            made.append(each)
    return made
