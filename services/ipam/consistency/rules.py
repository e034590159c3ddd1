"""Proves that the store is consistent and equal to memory.

Fed with every page as stored, one by one; it keeps only what it needs to find what is there twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from services.common.model.names import NodeName
from services.common.records.blocks import PAGE_BITS, BlockPage
from services.ipam.ledger.index import Place
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.pages import write_page
from services.ipam.model import prefix_text


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be, or (a warning) that somebody asked for."""

    reason: str
    message: str
    subject: str
    is_error: bool = True


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A page of a block as etcd has it at one revision."""

    place: Place
    bits: int
    page: int
    record: BlockPage
    revision: int

    def __str__(self) -> str:
        prefix = prefix_text(self.place[1], self.record.length, self.bits)
        return f"{self.place[0]} {prefix}"


class ConsistencyCheck:
    """One pass over the store at one revision, against the ledger as of that revision.

    The rules among pages hold whatever happens meanwhile, since all are of one revision.
    """

    def __init__(self, ledger: Ledger, revision: int) -> None:
        self._ledger = ledger
        self._revision = revision
        self.blocks = 0
        self.addresses = 0
        self._names: dict[str, tuple[str, str, str]] = {}
        self._ordinals: dict[str, set[int]] = {}
        self._extents: dict[int, list[tuple[int, int, str]]] = {}
        self._seen: set[tuple[Place, int]] = set()

    def page(self, stored: StoredPage) -> Iterator[Finding]:
        record = stored.record
        self.saw(stored.place, stored.page)
        if not record.returned:
            if stored.page == 0:
                self.blocks += 1
                yield from self._extent(stored)
                yield from self._group(stored)
            yield from self._offsets(stored)
            yield from self._owners(stored)

    def saw(self, place: Place, page: int) -> None:
        """Says that there is such a page, readable or not."""
        self._seen.add((place, page))

    def is_known(self, stored: StoredPage) -> bool:
        """Says whether memory has a page as it was read, or a later one."""
        block = self._ledger.index.blocks.get(stored.place)
        if block is None:
            return bool(stored.record.returned) and stored.place in self._ledger.returned
        return block.revision > stored.revision or write_page(block, stored.page) == stored.record

    def end(self) -> Iterator[Finding | None]:
        """Looks at what only all pages together tell; None where there is nothing to say, so that
        others may have their turn."""
        for extents in self._extents.values():
            extents.sort()
            for (_, stop, one), (start, _, other) in pairwise(extents):
                yield (
                    Finding("BLOCKS_OVERLAP", f"{one} and {other} have addresses in common", one)
                    if start < stop
                    else None
                )
        for name, ordinals in self._ordinals.items():
            yield (
                Finding("NAME_INCOMPLETE", f"{name!r} lacks some of its addresses", name)
                if ordinals != set(range(len(ordinals)))
                else None
            )
        for place in list(self._ledger.index.blocks):
            block = self._ledger.index.blocks.get(place)
            known = block is None or not 0 < block.revision <= self._revision
            yield (
                None
                if known or (place, 0) in self._seen
                else Finding("NOT_IN_STORE", f"block {block} is in memory only", str(block))
            )

    def _extent(self, stored: StoredPage) -> Iterator[Finding]:
        base, length, bits = stored.place[1], stored.record.length, stored.bits
        size = 1 << (bits - length)
        if base & (size - 1):
            yield Finding("BLOCK_NOT_ALIGNED", f"block {stored} has host bits", str(stored))
        self._extents.setdefault(bits, []).append((base, base + size, str(stored)))

    def _group(self, stored: StoredPage) -> Iterator[Finding]:
        block = self._ledger.index.blocks.get(stored.place)
        if block is None or block.revision > self._revision:
            return
        if NodeName(stored.record.node) not in self._ledger.nodes:
            away = sum(visit.node != stored.record.node for visit in stored.record.visits)
            if away and away == len(stored.record.used):
                yield Finding(
                    "HOME_GONE",
                    f"addresses of block {stored} visit other nodes, and node "
                    f"{stored.record.node!r}, whose block it is, is not there",
                    str(stored),
                    is_error=False,
                )
            elif stored.record.used:
                yield Finding(
                    "NODE_GONE",
                    f"block {stored} is in use on node {stored.record.node!r}, which is not there "
                    "or cannot be read",
                    str(stored),
                )
        elif self._ledger.is_stranded(block):
            yield Finding(
                "STRANDED",
                f"block {stored} lies outside the group of node {stored.record.node!r}",
                str(stored),
                is_error=False,
            )

    def _offsets(self, stored: StoredPage) -> Iterator[Finding]:
        first = stored.page << PAGE_BITS
        last = min(first + (1 << PAGE_BITS), 1 << (stored.bits - stored.record.length))
        offsets = [use.offset for use in stored.record.used]
        offsets += [rest.offset for rest in stored.record.rest]
        self.addresses += len(stored.record.used)
        if len(set(offsets)) != len(offsets):
            yield Finding("DUPLICATE_ADDRESS", f"block {stored} has an address twice", str(stored))
        if any(not first <= offset < last for offset in offsets):
            yield Finding(
                "ADDRESS_OUTSIDE_BLOCK",
                f"block {stored} has an address that is not in it",
                str(stored),
            )

    def _owners(self, stored: StoredPage) -> Iterator[Finding]:
        owner = (stored.record.node, stored.record.tenant, stored.record.segment)
        for use in stored.record.used:
            known = self._names.setdefault(use.name, owner)
            if known != owner:
                yield Finding(
                    "NAME_OF_TWO_OWNERS", f"{use.name!r} has addresses of two owners", use.name
                )
            ordinals = self._ordinals.setdefault(use.name, set())
            if use.ordinal in ordinals:
                yield Finding("DUPLICATE_NAME", f"{use.name!r} is in use twice", use.name)
            ordinals.add(use.ordinal)
