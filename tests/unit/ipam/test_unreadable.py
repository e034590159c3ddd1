"""Pages of the store that cannot be read: their addresses may be in use."""

from __future__ import annotations

import pytest

from services.common.etcd.keys import Keys
from services.common.etcd.types import Changes, Event, KeyValue, Snapshot
from services.common.model.names import NetworkName
from services.common.records.blocks import BlockPage, PageUse, encode
from services.common.store.unreadable import UnreadableRecords
from services.ipam.model import NoAddress
from services.ipam.store import codec
from tests.support.ipam_world import World
from tests.support.topologies import layout, network, node

KEYS = Keys("/r")
NET = NetworkName("net")
BASE = 10 << 24


def world(block_length: int = 30) -> World:
    return World(layout([network("net", "10.0.0.0/24", block_length)]), [node("h1")])


def key(base: int, page: int = 0) -> str:
    return KEYS.block(NET, base, page, 32)


def event(base: int, document: bytes | None, page: int = 0) -> Event:
    name = key(base, page)
    return Event(name, None if document is None else KeyValue(name, document, 1, 2, 1), 2)


def page(*offsets: int, length: int = 30) -> bytes:
    used = tuple(PageUse(offset, f"u{offset}", 1) for offset in offsets)
    return encode(BlockPage(length, "h1", "t", "", 1, used=used))


@pytest.mark.parametrize(
    "document",
    [b"{", b'{"length":8}', page(200), page(1, length=25)],
    ids=["no document", "impossible length", "offset outside", "base inside the block"],
)
def test_nothing_is_handed_out_where_a_page_cannot_be_read(document: bytes) -> None:
    there = world()
    item = KeyValue(key(BASE + 4), document, 1, 2, 1)
    codec.apply_batch(KEYS, Snapshot([item], 2), there.ledger, UnreadableRecords())
    given = there.fill()
    assert len(given) == 252
    assert not {f"10.0.0.{last}" for last in range(4, 8)} & {*given}
    with pytest.raises(NoAddress):
        there.one("more")


def test_a_change_of_topology_does_not_free_it() -> None:
    there = world()
    codec.apply_batch(KEYS, Changes([event(BASE, b"{")], 2), there.ledger, UnreadableRecords())
    there.ledger.set_layout(world().ledger.layout)
    assert "10.0.0.0" not in there.fill()


def test_one_that_was_known_before_keeps_what_is_in_use() -> None:
    there = world()
    codec.apply_batch(KEYS, Changes([event(BASE, page(0))], 2), there.ledger, UnreadableRecords())
    codec.apply_batch(KEYS, Changes([event(BASE, b"{")], 3), there.ledger, UnreadableRecords())
    assert [block.base for block, _ in there.ledger.index.places("u0")] == [BASE]
    assert there.one("new") == "10.0.0.4"


def test_a_large_block_of_which_one_page_is_unreadable_gives_nothing() -> None:
    there = world(25)
    first = page(0, length=25)
    batch = Changes([event(BASE, first), event(BASE, b"{", page=1)], 2)
    codec.apply_batch(KEYS, batch, there.ledger, UnreadableRecords())
    assert there.one("new") == "10.0.0.128"


@pytest.mark.parametrize("document", [None, page(1)], ids=["deleted", "written anew"])
def test_it_is_used_again_once_it_was_put_right(document: bytes | None) -> None:
    there = world()
    codec.apply_batch(KEYS, Changes([event(BASE, b"{")], 2), there.ledger, UnreadableRecords())
    codec.apply_batch(KEYS, Changes([event(BASE, document)], 3), there.ledger, UnreadableRecords())
    assert there.one("new") == "10.0.0.0"
