"""A transaction that failed leaves the ledger as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.common.model.names import EndpointName
from services.common.model.network import Placement
from services.ipam.deciding.commands import CloseRested, Release
from tests.support.ipam_dump import after_closing, choices, dump, recount
from tests.support.ipam_world import World, allocate, carry_out, want
from tests.support.topologies import layout, network, node


def take(it: World, name: str, tenant: str = "t") -> None:
    carry_out(it.ledger, allocate(name, tenant=tenant), it.now)


def release(it: World, name: str) -> None:
    carry_out(it.ledger, Release(EndpointName(name)), it.now)


def close_rested(it: World) -> None:
    carry_out(it.ledger, CloseRested(1000), it.now)


def give_back_everything(it: World) -> None:
    for number in range(6):
        release(it, f"n{number}")


def give_back_and_take_again(it: World) -> None:
    give_back_everything(it)
    for number in range(12):
        take(it, f"m{number}", "u")


def take_some(it: World) -> None:
    for number in range(7):
        take(it, f"m{number}", "tu"[number % 2])


def take_and_give_back(it: World) -> None:
    take_some(it)
    for number in range(7):
        release(it, f"m{number}")


def let_time_pass(it: World) -> None:
    give_back_everything(it)
    it.wait(60)
    close_rested(it)
    take(it, "m")


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("delay", [0.0, 10.0])
@pytest.mark.parametrize(
    "decide",
    [give_back_everything, give_back_and_take_again, take_some, take_and_give_back, let_time_pass],
)
def test_undone_decisions_leave_no_trace(
    decide: Callable[[World], None], delay: float, placement: Placement
) -> None:
    net = network("net", "10.0.0.0/26", 30, placement=placement, reuse_delay=delay)
    it = World(layout([net]), [node("h1"), node("h2")])
    it.many(6)
    it.one("other", "h2", "u")
    now = it.now
    before = (dump(it.ledger), choices(it.ledger, now), after_closing(it.ledger, now))
    decide(it)
    it.ledger.rollback()
    assert (dump(it.ledger), choices(it.ledger, now), after_closing(it.ledger, now)) == before
    recount(it.ledger)


def test_undoing_to_a_mark_keeps_what_was_before_it() -> None:
    it = World(layout([network("net", "10.0.0.0/26", 30)]), [node("h1")])
    it.many(4)
    take(it, "kept", "u")
    before, mark = dump(it.ledger), it.ledger.undo.mark()
    for number in range(4):
        release(it, f"n{number}")
    take(it, "gone", "u")
    it.ledger.rollback(mark)
    assert dump(it.ledger) == before
    written = {change.place for change in it.ledger.pending().pages if change.record is not None}
    assert written == set(it.ledger.index.blocks)


def test_an_undone_reuse_of_a_returned_block_leaves_it_in_its_place_in_the_queue() -> None:
    net = network("net", "10.0.0.0/28", 30, placement=Placement.SEQUENTIAL)
    it = World(layout([net]), [node("h1")])
    for number in range(4):
        it.one(f"n{number}", tenant=f"t{number}")
    for number in (2, 0, 3):
        it.release(f"n{number}")
    take(it, "m", "u")
    it.ledger.rollback()
    assert [it.one(f"m{number}", tenant=f"u{number}") for number in range(3)] == [
        "10.0.0.8",
        "10.0.0.0",
        "10.0.0.12",
    ]


def follow(it: World, follower: World, revision: int) -> None:
    """A transaction comes through, and a follower reads it."""
    for change in it.ledger.pending().pages:
        if change.record is None:
            follower.ledger.drop_page(change.place, change.page, revision)
        else:
            follower.ledger.put_page(
                change.place, change.bits, change.page, change.record, revision
            )
    it.save()


def test_a_follower_has_room_where_a_page_of_a_large_block_is_gone() -> None:
    net = network("net", "10.0.0.0/24", 25)
    it, follower = World(layout([net]), [node("h1")]), World(layout([net]), [node("h1")])
    for name, last in (("a", 0), ("b", 100)):
        carry_out(it.ledger, allocate(name, addresses=[want(address=f"10.0.0.{last}")]), it.now)
        follow(it, follower, last)
    release(it, "b")
    follow(it, follower, 101)
    assert dump(follower.ledger) == dump(it.ledger)
    recount(follower.ledger)
    assert len(follower.fill()) == 255


def test_what_a_follower_keeps_does_not_grow_with_what_came_and_went() -> None:
    net = network("net", "10.0.0.0/26", 30, reuse_delay=5.0)
    it = World(layout([net]), [node("h1")])
    follower = World(layout([net]), [node("h1")])
    for number in range(500):
        for name in range(8):
            take(it, f"n{name}")
        for name in range(8):
            release(it, f"n{name}")
        it.wait(10)
        close_rested(it)
        follow(it, follower, number)
    for ledger in (it.ledger, follower.ledger):
        (area,) = ledger.networks["net"].areas.values()
        assert len(area.empties) < 64
        for holding in area.holdings.values():
            assert len(holding._open) + len(holding._ripening) < 64
