"""What ipam has allocated, as far as policy has to know it: who has an address, and a block.

Agents say which endpoints their nodes have, and with which addresses. That is believed as far as
ipam gave them these: else one machine that was broken into could take the place of any endpoint.

Pages are kept as they are stored, since a million names would take ten times as much; few of them
are looked at, when an endpoint is reported or its page changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPV4LENGTH, IPv4Network, IPv6Network
from typing import Final, NamedTuple, TypeAlias

from services.common.etcd.keys import BlockKey, Keys
from services.common.etcd.types import KeyValue, Snapshot, WatchBatch
from services.common.model.names import EndpointName, NodeName, Segment, Tenant
from services.common.model.network import Address, Prefix
from services.common.records.blocks import PAGE_BITS, decode_page
from services.common.store.unreadable import Unreadable, UnreadableRecords
from services.policy.engine.blocks import OwnedBlock

PAGE: Final = "page"

_Place: TypeAlias = tuple[int, int, int]
"""Bits of the family, first address of the block, number of the page."""


class Holder(NamedTuple):
    """Who has an address. A tuple, since a million of them are made at a start."""

    name: EndpointName
    node: NodeName
    tenant: Tenant
    segment: Segment
    to: NodeName | None = None
    """Node that it is moving to, and that may have it attached, too."""


class IpamFeed:
    """Follows ipam's blocks. A page that cannot be read keeps what was known of it."""

    def __init__(self, keys: Keys) -> None:
        """Knows nothing yet."""
        self._keys = keys
        self.on_names: Callable[[Collection[EndpointName]], None] = _nobody
        """Is told of names whose addresses came, went or changed hands."""
        self._pages: dict[_Place, tuple[str, bytes]] = {}
        """With their keys."""
        self.on_block: Callable[[Prefix, OwnedBlock | None], None] = _nowhere
        """Is told of blocks that have an owner, another one than before, or none any more."""
        self._owned: dict[Prefix, set[int]] = {}
        """Pages that say who owns a block."""
        self._lengths: Counter[tuple[int, int]] = Counter()
        """How many pages there are of blocks of which length, by family."""
        self.unreadable = UnreadableRecords()

    def apply_batch(self, batch: WatchBatch) -> None:
        moved: set[EndpointName] = set()
        if isinstance(batch, Snapshot):
            there = {item.key for item in batch.items}
            known = {key for key, _ in self._pages.values()} | self.unreadable.keys()
            for key in known - there:
                self._take(key, None, moved)
            for item in batch.items:
                self._take(item.key, item, moved)
        else:
            for event in batch.events:
                self._take(event.key, event.item, moved)
        if moved:
            self.on_names(moved)

    def holder(self, address: Address) -> Holder | None:
        """Who has an address; None: nobody."""
        bits, number = address.max_prefixlen, int(address)
        for family, length in self._lengths:
            if family != bits:
                continue
            base = number >> (bits - length) << (bits - length)
            found = self._pages.get((bits, base, (number - base) >> PAGE_BITS))
            if found is not None:
                page = _read(found[1])
                if page.length == length and number - base in page.holders:
                    return page.holders[number - base]
        return None

    def _take(self, key: str, item: KeyValue | None, moved: set[EndpointName]) -> None:
        if not key.startswith(self._keys.blocks):
            return
        try:
            parts = self._keys.parse_block(key)
            page = _read(item.value) if item is not None else _NOTHING
        except ValueError as error:  # RecordErrors are among them
            revision = item.mod_revision if item is not None else 0
            self.unreadable.add(key, Unreadable(PAGE, str(error), revision))
            return
        self.unreadable.discard(key)
        place = (parts.bits, parts.base, parts.page)
        known, document = self._pages.get(place, (key, b""))
        if item is None and known != key:
            return  # a block of another network has taken its place
        before = _read(document) if document else _NOTHING
        if item is None:
            self._pages.pop(place, None)
        else:
            self._pages[place] = (key, item.value)
        for one, change in ((before, -1), (page, 1)):
            if one is not _NOTHING:
                self._count(parts.bits, one.length, change)
        self._tell_owner(parts, before, page)
        changed = before.holders.items() ^ page.holders.items()
        moved.update(holder.name for _, holder in changed)

    def _tell_owner(self, parts: BlockKey, before: _Page, page: _Page) -> None:
        if (before.length, before.owner) == (page.length, page.owner):
            return
        if before.owner is not None:
            block = _block(parts, before.length)
            pages = self._owned[block]
            pages.discard(parts.page)
            if not pages:
                del self._owned[block]
                self.on_block(block, None)
        if page.owner is not None:
            block = _block(parts, page.length)
            self._owned.setdefault(block, set()).add(parts.page)
            self.on_block(block, OwnedBlock(block, parts.network, *page.owner))

    def _count(self, bits: int, length: int, change: int) -> None:
        self._lengths[bits, length] += change
        if not self._lengths[bits, length]:
            del self._lengths[bits, length]


def _nobody(names: Collection[EndpointName]) -> None:
    """Nobody wants to know."""


def _nowhere(block: Prefix, owned: OwnedBlock | None) -> None:
    """Nobody wants to know."""


def _block(parts: BlockKey, length: int) -> Prefix:
    kind = IPv4Network if parts.bits == IPV4LENGTH else IPv6Network
    return kind((parts.base, length))


@dataclass(frozen=True, slots=True)
class _Page:
    """A page as it is looked at."""

    length: int
    """Of the block."""
    holders: Mapping[int, Holder]
    """By offset from the block's first address."""
    owner: tuple[Tenant, Segment] | None
    """None: the block came back, and is nobody's."""


_NOTHING: Final = _Page(0, {}, None)


@lru_cache(maxsize=4096)
def _read(document: bytes) -> _Page:
    """Raises RecordError."""
    page = decode_page(document)
    owner = NodeName(page.node), Tenant(page.tenant), Segment(page.segment)
    holders = {use.offset: Holder(EndpointName(use.name), *owner) for use in page.used}
    for visit in page.visits:
        if visit.offset in holders:
            to = NodeName(visit.to) if visit.to else None
            holders[visit.offset] = holders[visit.offset]._replace(node=NodeName(visit.node), to=to)
    return _Page(page.length, holders, owner[1:] if page.tenant and not page.returned else None)
