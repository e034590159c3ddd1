"""Pages of the store that cannot be read: their addresses may be in use."""

from __future__ import annotations

import pytest

from services.common.errors import Unavailable, WrongState
from services.common.etcd.keys import Keys
from services.common.etcd.types import Changes, Event, KeyValue, Snapshot
from services.common.model.names import EndpointName, NetworkName, NodeName
from services.common.records.blocks import BlockPage, PageUse, encode
from services.common.store.unreadable import UnreadableRecords
from services.ipam.deciding.commands import (
    AbortMove,
    CloseRested,
    Command,
    Move,
    NodeReleased,
    PlanNodeRelease,
    PrepareMove,
    Release,
    ReleaseNode,
)
from services.ipam.deciding.rested import has_rested
from services.ipam.ledger.unsaved import NodeRelease
from services.ipam.model import NoAddress
from services.ipam.routes.view import RoutesView
from services.ipam.store import codec
from tests.support.ipam_world import World, carry_out
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


def large(delay: float = 0.0) -> World:
    """A block of which the first page cannot be read, and the second has an address in use."""
    net = network("net", "10.0.0.0/24", 25, reuse_delay=delay)
    there = World(layout([net]), [node("h1"), node("h2")])
    document = encode(BlockPage(25, "h1", "t", "", 1, used=(PageUse(100, "u", 1),)))
    batch = Changes([event(BASE, b"{"), event(BASE, document, page=1)], 2)
    codec.apply_batch(KEYS, batch, there.ledger, UnreadableRecords())
    return there


def written(there: World) -> set[int]:
    """The pages that are to be written."""
    return {change.page for change in there.ledger.pending().pages}


@pytest.mark.parametrize("delay", [0.0, 5.0])
def test_a_block_that_seems_empty_is_not_given_back(delay: float) -> None:
    """Its first page goes with it, and what is in use there would be given to others."""
    there = large(delay)
    carry_out(there.ledger, Release(EndpointName("u")), there.now)
    assert written(there) == {1}
    there.save()
    there.wait(10)
    carry_out(there.ledger, CloseRested(1000), there.now)
    assert written(there) == set()
    assert there.blocks() == ["10.0.0.0/25"]
    assert not has_rested(there.ledger, there.now)
    assert there.one("new") == "10.0.0.128"


def test_one_that_lies_in_no_group_is_not_given_back_either() -> None:
    there = large()
    there.ledger.set_layout(layout([network("other", "10.9.0.0/24")]))
    there.release("u")
    there.close_rested()
    assert there.blocks() == ["10.0.0.0/25"]
    assert not has_rested(there.ledger, there.now)


def test_what_was_put_right_is_given_back_when_it_has_rested() -> None:
    there = large(5.0)
    there.release("u")
    there.wait(10)
    there.close_rested()
    first = encode(BlockPage(25, "h1", "t", "", 1))
    codec.apply_batch(KEYS, Changes([event(BASE, first)], 3), there.ledger, UnreadableRecords())
    there.close_rested()
    assert there.blocks() == []


def known_before() -> World:
    """A page that cannot be read any more, and what was known of it."""
    there = World(layout([network("net", "10.0.0.0/24", 30)]), [node("h1"), node("h2")])
    for document in (page(0), b"{"):
        batch = Changes([event(BASE, document)], 2)
        codec.apply_batch(KEYS, batch, there.ledger, UnreadableRecords())
    return there


@pytest.mark.parametrize(
    "command",
    [
        Release(EndpointName("u0")),
        PrepareMove(EndpointName("u0"), NodeName("h2")),
        AbortMove(EndpointName("u0")),
    ],
)
def test_it_is_not_written_over(command: Command) -> None:
    """It may have more in it than is known."""
    there = known_before()
    with pytest.raises(Unavailable) as refused:
        there.carry_out(command)
    assert refused.value.reason == "RECORD_UNREADABLE"
    assert written(there) == set()
    assert there.addresses("u0") == ["10.0.0.0"]


def test_what_is_known_to_be_in_use_keeps_its_route() -> None:
    there, routes = known_before(), RoutesView()
    routes.sync(there.ledger)
    assert [(item.base, item.length) for item in routes.own(NodeName("h1"))] == [(BASE, 32)]


def test_it_does_not_go_along_to_another_node() -> None:
    there = known_before()
    with pytest.raises(WrongState, match="cannot be read"):
        there.carry_out(Move(EndpointName("u0"), NodeName("h2")))


def test_of_a_node_that_is_gone_all_else_is_released() -> None:
    there = known_before()
    there.one("other", "h1", "u")
    gone = NodeName("h1")
    there.ledger.drop_node(gone)
    there.carry_out(PlanNodeRelease(gone, NodeRelease(1, 1, asked=True)))
    done = there.carry_out(ReleaseNode(gone))
    assert isinstance(done, NodeReleased)
    assert done.is_done
    assert [item.name for item in done.allocations] == ["other"]
    assert there.addresses("u0") == ["10.0.0.0"]
    assert gone in there.ledger.releases


@pytest.mark.parametrize("document", [None, page(1)], ids=["deleted", "written anew"])
def test_it_is_used_again_once_it_was_put_right(document: bytes | None) -> None:
    there = world()
    codec.apply_batch(KEYS, Changes([event(BASE, b"{")], 2), there.ledger, UnreadableRecords())
    codec.apply_batch(KEYS, Changes([event(BASE, document)], 3), there.ledger, UnreadableRecords())
    assert there.one("new") == "10.0.0.0"
