"""Addresses as integers, and what is known of them.

`ipaddress` objects are too slow for the loops here. A *key* is an address as an integer, with bit
128 set for IPv6, so that the two families never meet.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address
from typing import Final, Generic, TypeVar

from services.common.model.names import NetworkName
from services.common.model.network import Address, Prefix
from services.common.model.rules import CidrBlock

V6: Final = 1 << 128
PAGE_BITS: Final = 6

_Holder = TypeVar("_Holder")


def key_of(address: Address) -> int:
    """An address's key."""
    return int(address) | V6 if isinstance(address, IPv6Address) else int(address)


def span_of(prefix: Prefix) -> tuple[int, int]:
    """Keys of a prefix's first and last address."""
    first = key_of(prefix.network_address)
    return first, first + prefix.num_addresses - 1


class Block:
    """A prefix with exceptions, as keys."""

    __slots__ = ("_exceptions", "_first", "_last")

    def __init__(self, block: CidrBlock) -> None:
        self._first, self._last = span_of(block.cidr)
        self._exceptions = [span_of(one) for one in block.exceptions]

    def holds(self, key: int) -> bool:
        """Says whether an address is in the prefix and in no exception."""
        return self._first <= key <= self._last and not any(
            first <= key <= last for first, last in self._exceptions
        )


class NetworkMap:
    """Which network an address is on. Networks do not overlap."""

    def __init__(self, networks: Mapping[NetworkName, Prefix]) -> None:
        spans = sorted((*span_of(cidr), name) for name, cidr in networks.items())
        self._firsts = [first for first, _, _ in spans]
        self._spans = spans

    def of(self, key: int) -> NetworkName | None:
        at = bisect_right(self._firsts, key)
        if not at:
            return None
        _, last, name = self._spans[at - 1]
        return name if key <= last else None


class Holders(Generic[_Holder]):
    """Who has an address: nearly always one, but for a moment two may."""

    __slots__ = ("_by_key", "_shared")

    def __init__(self) -> None:
        self._by_key: dict[int, _Holder] = {}
        self._shared: dict[int, list[_Holder]] = {}
        """Keys with several, all of them; then `_by_key` has any."""

    def add(self, key: int, holder: _Holder) -> None:
        """Adds a holder that does not have it yet."""
        had = self._by_key.setdefault(key, holder)
        if had is not holder:
            self._shared.setdefault(key, [had]).append(holder)

    def remove(self, key: int, holder: _Holder) -> None:
        """Takes out a holder that has it."""
        several = self._shared.get(key)
        if several is None:
            del self._by_key[key]
            return
        several.remove(holder)
        self._by_key[key] = several[0]
        if len(several) == 1:
            del self._shared[key]

    def of(self, key: int) -> Iterable[_Holder]:
        """All who have it."""
        several = self._shared.get(key)
        if several is not None:
            return several
        one = self._by_key.get(key)
        return () if one is None else (one,)

    def is_shared(self, key: int) -> bool:
        """Says whether several have it."""
        return key in self._shared
