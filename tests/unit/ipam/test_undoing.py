"""A transaction that failed leaves the state as it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.common.model.names import EndpointName, NodeName, Segment, Tenant
from services.common.model.network import Placement
from services.ipam.deciding import allocation
from services.ipam.model import Release, Request
from tests.support.ipam_dump import after_tidying, choices, dump, recount
from tests.support.ipam_world import World
from tests.support.topologies import layout, network, node


def allocate(it: World, name: str, tenant: str = "t") -> None:
    request = Request(EndpointName(name), NodeName("h1"), Tenant(tenant), Segment(""))
    allocation.allocate(it.state, request, it.now, it.now // 1000)


def release(it: World, name: str) -> None:
    allocation.release(it.state, Release(EndpointName(name)), it.now)


def give_back_everything(it: World) -> None:
    for number in range(6):
        release(it, f"n{number}")


def give_back_and_take_again(it: World) -> None:
    give_back_everything(it)
    for number in range(12):
        allocate(it, f"m{number}", "u")


def take(it: World) -> None:
    for number in range(7):
        allocate(it, f"m{number}", "tu"[number % 2])


def take_and_give_back(it: World) -> None:
    take(it)
    for number in range(7):
        release(it, f"m{number}")


def let_time_pass(it: World) -> None:
    give_back_everything(it)
    it.wait(60)
    allocation.tidy(it.state, it.now, 1000)
    allocate(it, "m")


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("delay", [0.0, 10.0])
@pytest.mark.parametrize(
    "decide",
    [give_back_everything, give_back_and_take_again, take, take_and_give_back, let_time_pass],
)
def test_undone_decisions_leave_no_trace(
    decide: Callable[[World], None], delay: float, placement: Placement
) -> None:
    net = network("net", "10.0.0.0/26", 30, placement=placement, reuse_delay=delay)
    it = World(layout([net]), [node("h1"), node("h2")])
    it.many(6)
    it.one("other", "h2", "u")
    now = it.now
    before = (dump(it.state), choices(it.state, now), after_tidying(it.state, now))
    decide(it)
    it.state.rollback()
    assert (dump(it.state), choices(it.state, now), after_tidying(it.state, now)) == before
    recount(it.state)


def test_undoing_to_a_mark_keeps_what_was_before_it() -> None:
    it = World(layout([network("net", "10.0.0.0/26", 30)]), [node("h1")])
    it.many(4)
    allocate(it, "kept", "u")
    before, mark = dump(it.state), it.state.mark()
    for number in range(4):
        release(it, f"n{number}")
    allocate(it, "gone", "u")
    it.state.rollback(mark)
    assert dump(it.state) == before
    written = {change.place for change in it.state.drain().pages if change.record is not None}
    assert written == set(it.state.index.blocks)


def test_an_undone_reuse_of_a_returned_block_leaves_it_in_its_place_in_the_queue() -> None:
    net = network("net", "10.0.0.0/28", 30, placement=Placement.SEQUENTIAL)
    it = World(layout([net]), [node("h1")])
    for number in range(4):
        it.one(f"n{number}", tenant=f"t{number}")
    for number in (2, 0, 3):
        it.release(f"n{number}")
    allocate(it, "m", "u")
    it.state.rollback()
    assert [it.one(f"m{number}", tenant=f"u{number}") for number in range(3)] == [
        "10.0.0.8",
        "10.0.0.0",
        "10.0.0.12",
    ]


def test_what_a_follower_keeps_does_not_grow_with_what_came_and_went() -> None:
    net = network("net", "10.0.0.0/26", 30, reuse_delay=5.0)
    it = World(layout([net]), [node("h1")])
    follower = World(layout([net]), [node("h1")])
    for number in range(500):
        for name in range(8):
            allocate(it, f"n{name}")
        for name in range(8):
            release(it, f"n{name}")
        it.wait(10)
        allocation.tidy(it.state, it.now, 1000)
        for change in it.state.drain().pages:
            if change.record is None:
                follower.state.drop_page(change.place, change.page, number)
            else:
                follower.state.put_page(
                    change.place, change.bits, change.page, change.record, number
                )
        it.settle()
    for state in (it.state, follower.state):
        (area,) = state.spaces["net"].areas.values()
        assert len(area.empties) < 64
        for holding in area.holdings.values():
            assert len(holding._open) + len(holding._ripening) < 64
