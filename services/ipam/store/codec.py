"""The ledger as keys and values of the store, and back."""

from __future__ import annotations

from typing import Final

from services.common.etcd.keys import BlockKey, Keys
from services.common.etcd.types import (
    Changes,
    Delete,
    Event,
    KeyValue,
    Operation,
    Put,
    Snapshot,
    WatchBatch,
)
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import MAX_BLOCK_BITS
from services.common.records.blocks import (
    PAGE_BITS,
    BlockPage,
    NodeReleaseRecord,
    ReservationRecord,
    decode_node_release,
    decode_page,
    decode_reservation,
    encode,
)
from services.common.records.errors import RecordError
from services.common.store.topology_view import KINDS as TOPOLOGY_KINDS
from services.common.store.unreadable import Unreadable, UnreadableRecords
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.index import Place
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.ranges import stored_ranges
from services.ipam.ledger.unsaved import NodeRelease, PageChange, Pending

PAGE: Final = "page"
RESERVATION: Final = "reservation"
RELEASE: Final = "release"
KINDS: Final = (*TOPOLOGY_KINDS, PAGE, RESERVATION, RELEASE)
"""Of records that may be unreadable."""


def operations(keys: Keys, pending: Pending, claim: bytes) -> list[Operation]:
    """What a transaction writes for pending decisions; `claim` is the value of claims."""
    writes = [page_operation(keys, change) for change in pending.pages]
    writes += [Put(keys.group_claim(area.network.name, area.path), claim) for area in pending.areas]
    writes += [Put(keys.node_claim(node), claim) for node in pending.nodes]
    writes += [Delete(keys.node_claim(node)) for node in pending.forgotten]
    writes += [reservation_operation(keys, *change) for change in pending.reservations.items()]
    writes += [release_operation(keys, *change) for change in pending.releases.items()]
    return writes


def page_operation(keys: Keys, change: PageChange) -> Operation:
    key = keys.block(change.place[0], change.place[1], change.page, change.bits)
    return Delete(key) if change.record is None else Put(key, encode(change.record))


def reservation_operation(keys: Keys, name: str, reservation: Reservation | None) -> Operation:
    key = keys.reservation(name)
    if reservation is None:
        return Delete(key)
    record = ReservationRecord(
        network=reservation.network,
        ranges=tuple(reservation.ranges),
        description=reservation.description,
        node=reservation.node or "",
    )
    return Put(key, encode(record))


def release_operation(keys: Keys, node: NodeName, release: NodeRelease | None) -> Operation:
    """The write of the release of a node; None ends it."""
    key = keys.node_release(node)
    if release is None:
        return Delete(key)
    return Put(key, encode(NodeReleaseRecord(release.noticed, release.due, release.asked)))


def apply_batch(
    keys: Keys, batch: WatchBatch, ledger: Ledger, unreadable: UnreadableRecords
) -> list[Place]:
    """Hands what was read to a ledger; returns the blocks concerned.

    A snapshot is for an empty ledger. What is `unreadable` is noted and left out, but nothing is
    handed out where a page is that cannot be read.
    """
    if isinstance(batch, Snapshot):
        for key in unreadable.keys() - {item.key for item in batch.items}:
            unreadable.discard(key)
    events = (
        batch.events
        if isinstance(batch, Changes)
        else (Event(item.key, item, item.mod_revision) for item in batch.items)
    )
    places: dict[Place, None] = {}
    for event in events:
        kind = _kind(keys, event.key)
        if not kind:
            continue
        try:
            if kind == PAGE:
                places[_take_page(keys, event, ledger)] = None
            elif kind == RESERVATION:
                _take_reservation(keys, event, ledger)
            else:
                _take_release(keys, event, ledger)
        except ValueError as error:  # RecordErrors are among them
            if event.item is not None:
                unreadable.add(event.key, Unreadable(kind, str(error), event.revision))
                continue
        unreadable.discard(event.key)
    return list(places)


def _kind(keys: Keys, key: str) -> str:
    """Of a record; empty for other keys."""
    if key.startswith(keys.blocks):
        return PAGE
    if key.startswith(keys.node_releases):
        return RELEASE
    return RESERVATION if key.startswith(keys.reservations) else ""


def _take_page(keys: Keys, event: Event, ledger: Ledger) -> Place:
    key = keys.parse_block(event.key)
    place = (key.network, key.base)
    if event.item is None:
        ledger.drop_page(place, key.page, event.revision)
    else:
        try:
            record = read_page(key, event.item)
        except RecordError:
            ledger.put_unreadable(place, key.bits, key.page)
            raise
        ledger.put_page(place, key.bits, key.page, record, event.revision)
    return place


def read_page(key: BlockKey, item: KeyValue) -> BlockPage:
    """A page as stored; raises RecordError, also for one that no block can have."""
    record = decode_page(item.value)
    if not key.bits - MAX_BLOCK_BITS <= record.length <= key.bits:
        raise RecordError(f"a block cannot have the length /{record.length}")
    size = 1 << (key.bits - record.length)
    if key.base % size:
        raise RecordError(f"a block of {size} addresses cannot begin at {key.base:#x}")
    first = key.page << PAGE_BITS
    last = min(first + (1 << PAGE_BITS), size)
    offsets = [use.offset for use in record.used] + [rest.offset for rest in record.rest]
    if not all(first <= offset < last for offset in offsets) or first >= size:
        raise RecordError(f"page {key.page} has an address that is not in it")
    if len(set(offsets)) != len(offsets):
        raise RecordError(f"page {key.page} has an address twice")
    return record


def _take_reservation(keys: Keys, event: Event, ledger: Ledger) -> None:
    name = event.key.removeprefix(keys.reservations)
    if event.item is None:
        ledger.drop_reservation(name)
    else:
        ledger.set_reservation(read_reservation(name, event.item))


def _take_release(keys: Keys, event: Event, ledger: Ledger) -> None:
    release = None
    if event.item is not None:
        record = decode_node_release(event.item.value)
        release = NodeRelease(record.noticed, record.due, record.asked)
    ledger.put_node_release(NodeName(event.key.removeprefix(keys.node_releases)), release)


def read_reservation(name: str, item: KeyValue) -> Reservation:
    """A reservation as stored; raises RecordError."""
    record = decode_reservation(item.value)
    intervals = stored_ranges(record.ranges)
    return Reservation(
        name,
        NetworkName(record.network),
        intervals,
        record.ranges,
        record.description,
        NodeName(record.node) if record.node else None,
    )
