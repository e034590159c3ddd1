"""Groups of endpoints and nodes, as plain sets in the table. Pure.

A group is all its pages of 64 addresses. A change costs as much as it has members that change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, TypeAlias

from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import Changes, Element, Elements, Shape
from services.agent.kernel.nftables.table_diff import compare
from services.common.model.network import Address
from services.common.model.rules import GroupId, GroupPage

SHAPES: Final[Mapping[int, Shape]] = {4: Shape(Element.ADDRESS_4), 6: Shape(Element.ADDRESS_6)}
_VERSIONS: Final = {32: 4, 128: 6}

_Key: TypeAlias = tuple[int, int]
"""Bits of an address, and the page's first address."""
Pages: TypeAlias = Mapping[GroupId, Mapping[_Key, int]]


def is_in_page(pages: Pages, group: GroupId, address: Address) -> bool:
    """Says whether an address is in a group."""
    number = int(address)
    page = pages.get(group, {}).get((address.max_prefixlen, number & ~63), 0)
    return bool(page >> (number & 63) & 1)


@dataclass(frozen=True, slots=True)
class Moved:
    """A page that is different, of a group that was in the table before."""

    group: GroupId
    _bits: int
    _base: int
    _members: int

    def addresses(self) -> Iterator[Address]:
        """Those that came or went."""
        for key in _expand(self._bits, self._base, self._members):
            yield ip_address(key)


class PageSets:
    """All groups of pages that the node knows."""

    def __init__(self) -> None:
        self._pages: dict[GroupId, dict[_Key, int]] = {}
        self._turned: dict[tuple[GroupId, _Key], int] = {}
        """What pages were that have changed since the last refresh."""
        self._unseen: set[GroupId] = set()
        """Groups whose pages `in_force` has not as they are: else they are copied first."""
        self._used: frozenset[GroupId] = frozenset()
        self.in_force: Pages = {}
        """As of the last refresh. Never changes: it is replaced."""

    def __len__(self) -> int:
        """How many groups have members."""
        return sum(bool(pages) for pages in self._pages.values())

    def put(self, page: GroupPage) -> None:
        """A group has a page."""
        self._turn(page, page.members)

    def drop(self, page: GroupPage) -> None:
        """It has it not any more."""
        self._turn(page, 0)

    def _turn(self, page: GroupPage, members: int) -> None:
        group, key = page.group, (page.bits, page.base)
        if group not in self._unseen:
            self._unseen.add(group)
            self._pages[group] = dict(self._pages.get(group, {}))
        pages = self._pages[group]
        self._turned.setdefault((group, key), pages.get(key, 0))
        if members:
            pages[key] = members
        else:
            pages.pop(key, None)

    def elements(self) -> Iterator[tuple[str, Elements]]:
        """Of all sets in the table, as of the last refresh."""
        for group in self._used:
            for version in SHAPES:
                yield table_names.group(group, version), self._members(group, version)

    def refresh(self, used: frozenset[GroupId], changes: Changes) -> list[Moved]:
        """Brings the sets of the groups that rules name up to date."""
        turned, self._turned = self._turned, {}
        before, self._used = self._used, used
        if turned:
            self._show(group for group, _ in turned)
        for group in used - before:
            for version, shape in SHAPES.items():
                name = table_names.group(group, version)
                compare(changes, name, shape, {}, self._members(group, version))
        moved = []
        for (group, (bits, base)), had in turned.items():
            if group not in used or group not in before:
                continue
            has = self._pages.get(group, {}).get((bits, base), 0)
            version = _VERSIONS[bits]
            compare(
                changes,
                table_names.group(group, version),
                SHAPES[version],
                dict.fromkeys(_expand(bits, base, had & ~has), ""),
                dict.fromkeys(_expand(bits, base, has & ~had), ""),
            )
            if had != has:
                moved.append(Moved(group, bits, base, had ^ has))
        return moved

    def _show(self, turned: Iterable[GroupId]) -> None:
        for group in turned:
            if not self._pages.get(group, True):
                del self._pages[group]
        self.in_force = dict(self._pages)
        self._unseen.clear()

    def _members(self, group: GroupId, version: int) -> Elements:
        found: Elements = {}
        for (bits, base), members in self._pages.get(group, {}).items():
            if _VERSIONS[bits] == version:
                found.update(dict.fromkeys(_expand(bits, base, members), ""))
        return found


def _expand(bits: int, base: int, members: int) -> Iterator[bytes]:
    """Members of a page, packed."""
    length = bits // 8
    while members:
        lowest = members & -members
        yield (base + lowest.bit_length() - 1).to_bytes(length, "big")
        members ^= lowest
