"""Which address is given next."""

from __future__ import annotations

import pytest

from services.common.model.network import Placement
from services.ipam.model import NoAddress, Why
from tests.support.ipam_world import World
from tests.support.topologies import layout, network, node


def world(
    cidr: str = "10.0.0.0/28", block_length: int = 30, *, groups: int = 1, **rest: object
) -> World:
    placement = rest.pop("placement", Placement.SEQUENTIAL)
    made = layout([network("net", cidr, block_length, placement=placement, **rest)])
    return World(made, [node(f"h{number}") for number in range(1, 4)])


def test_the_worked_example_of_romana() -> None:
    it = world()
    assert it.one("a", "h1", "t", "s1") == "10.0.0.0"
    assert it.one("b", "h1", "t", "s2") == "10.0.0.4"
    assert it.one("c", "h2", "t", "s1") == "10.0.0.8"
    assert it.one("d", "h2", "u", "s1") == "10.0.0.12"
    with pytest.raises(NoAddress) as refused:
        it.one("e", "h1", "v", "s1")
    assert it.why(refused.value) == {"net": Why.GROUP_FULL}
    it.release("c")
    it.release("a")
    assert it.one("f", "h1", "v", "s1") == "10.0.0.8"
    assert it.one("g", "h1", "w", "s1") == "10.0.0.0"


def test_lowest_free_first() -> None:
    it = world()
    it.many(4)
    it.release("n2")
    it.release("n1")
    assert it.one("x") == "10.0.0.1"
    assert it.one("y") == "10.0.0.2"


def test_oldest_block_with_room_first() -> None:
    it = world()
    it.many(12)
    assert it.blocks() == ["10.0.0.0/30", "10.0.0.4/30", "10.0.0.8/30"]
    it.release("n9")
    it.release("n5")
    it.release("n1")
    assert [it.one(name) for name in "xyz"] == ["10.0.0.1", "10.0.0.5", "10.0.0.9"]


def test_age_of_a_block_is_when_it_was_taken_not_where_it_lies() -> None:
    it = world()
    it.one("first", "h2")
    it.many(4, "old")
    it.release("first")
    it.many(4, "new")
    assert it.addresses("new0") == ["10.0.0.0"]
    it.release("new0")
    it.release("old0")
    assert it.one("x") == "10.0.0.4"


def test_a_block_that_came_back_is_preferred_to_one_that_was_never_used() -> None:
    it = world()
    it.one("a", "h1", "t")
    it.one("b", "h1", "u")
    it.release("a")
    assert it.one("c", "h2", "v") == "10.0.0.0"


def test_a_new_block_only_when_no_block_of_the_owner_has_room() -> None:
    it = world()
    it.many(4)
    assert it.blocks() == ["10.0.0.0/30"]
    it.one("fifth")
    assert it.blocks() == ["10.0.0.0/30", "10.0.0.4/30"]


@pytest.mark.parametrize("other", [("h2", "t", "s"), ("h1", "u", "s"), ("h1", "t", "z")])
def test_no_block_is_shared_by_two_nodes_tenants_or_segments(other: tuple[str, str, str]) -> None:
    it = world()
    it.one("a", "h1", "t", "s")
    assert it.one("b", *other) == "10.0.0.4"


def test_an_emptied_block_is_given_to_another_owner() -> None:
    it = world("10.0.0.0/30")
    it.one("a", "h1", "t")
    it.release("a")
    assert it.one("b", "h2", "u") == "10.0.0.0"


def test_returned_blocks_are_reused_first_returned_first() -> None:
    it = world()
    for number in range(1, 5):
        it.one(f"n{number}", "h1", f"t{number}")
    for number in (3, 1, 4, 2):
        it.release(f"n{number}")
    assert [it.one(f"m{number}", "h1", f"u{number}") for number in range(4)] == [
        "10.0.0.8",
        "10.0.0.0",
        "10.0.0.12",
        "10.0.0.4",
    ]


def test_a_nodes_blocks_grow_side_by_side_when_aggregated() -> None:
    it = world("10.0.0.0/26", placement=Placement.AGGREGATE)
    it.one("a", "h1", "t1")
    it.one("b", "h2", "t1")
    it.one("c", "h1", "t2")
    assert it.blocks() == ["10.0.0.0/30", "10.0.0.4/30", "10.0.0.32/30"]


def test_never_used_addresses_before_rested_ones() -> None:
    it = world(reuse_delay=10.0)
    it.many(2)
    it.release("n0")
    it.wait(60)
    it.one("keep")
    assert it.addresses("keep") == ["10.0.0.2"]


def test_the_longest_idle_first() -> None:
    it = world("10.0.0.0/30", reuse_delay=10.0)
    it.many(4)
    for name in ("n2", "n0", "n3"):
        it.release(name)
        it.wait(1)
    it.wait(60)
    assert [it.one(name) for name in "xyz"] == ["10.0.0.2", "10.0.0.0", "10.0.0.3"]


def test_a_resting_address_is_not_given_before_its_time() -> None:
    it = world("10.0.0.0/30", reuse_delay=10.0)
    it.many(4)
    it.release("n2")
    it.wait(9.999)
    with pytest.raises(NoAddress) as refused:
        it.one("x")
    assert it.why(refused.value) == {"net": Why.RESTING}
    assert refused.value.refusals[0].retry_after == 1
    assert refused.value.refusals[0].resting == 1
    it.wait(0.001)
    assert it.one("x") == "10.0.0.2"


def test_a_block_with_a_rest_behind_it_is_preferred_to_a_new_one() -> None:
    it = world(reuse_delay=10.0)
    it.many(4)
    it.release("n2")
    it.wait(10)
    assert it.one("x") == "10.0.0.2"
    assert it.blocks() == ["10.0.0.0/30"]


def test_a_new_block_is_preferred_to_waiting() -> None:
    it = world(reuse_delay=10.0)
    it.many(4)
    it.release("n2")
    assert it.one("x") == "10.0.0.4"


def test_a_block_closes_when_the_last_rest_ends_not_before() -> None:
    it = world("10.0.0.0/29", 30, reuse_delay=10.0)
    it.many(2)
    it.release("n0")
    it.wait(5)
    it.release("n1")
    it.wait(9.999)
    it.close_rested()
    assert it.blocks() == ["10.0.0.0/30"]
    it.wait(0.001)
    it.close_rested()
    assert it.blocks() == []


def test_an_empty_block_that_came_into_use_again_stays() -> None:
    it = world(reuse_delay=10.0)
    it.one("a")
    it.release("a")
    it.wait(5)
    it.one("b")
    it.wait(60)
    it.close_rested()
    assert it.blocks() == ["10.0.0.0/30"]


def test_another_owner_gets_a_block_whose_rest_has_ended_without_waiting_for_tidying() -> None:
    it = world("10.0.0.0/30", reuse_delay=10.0)
    it.one("a", "h1", "t")
    it.release("a")
    with pytest.raises(NoAddress) as refused:
        it.one("b", "h2", "u")
    assert it.why(refused.value) == {"net": Why.RESTING}
    assert refused.value.refusals[0].retry_after == 10
    it.wait(10)
    assert it.one("b", "h2", "u") == "10.0.0.0"


def test_how_long_to_wait_is_by_the_last_release() -> None:
    it = world("10.0.0.0/30", reuse_delay=10.0)
    it.one("a", "h1", "t")
    it.release("a")
    it.wait(6)
    it.one("a", "h1", "t")
    it.release("a")
    with pytest.raises(NoAddress) as refused:
        it.one("b", "h2", "u")
    assert refused.value.refusals[0].retry_after == 10


def test_capacity_is_exact_and_comes_back() -> None:
    it = world("10.0.0.0/26", 29, placement=Placement.AGGREGATE)
    assert len(set(it.fill())) == 64
    for number in range(64):
        it.release(f"f{number}")
    assert it.blocks() == []
    assert len(set(it.fill("g"))) == 64


@pytest.mark.parametrize("placement", list(Placement))
def test_blocks_of_one_address(placement: Placement) -> None:
    it = world("10.0.0.0/30", 32, placement=placement)
    assert sorted(it.fill()) == ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
    it.release("f1")
    assert it.one("x", "h2", "u") == "10.0.0.1"


def test_a_whole_network_as_one_block() -> None:
    it = world("10.1.0.0/16", 16)
    assert it.one("a") == "10.1.0.0"
    with pytest.raises(NoAddress):
        it.one("b", "h2")
    assert it.many(100)[-1] == "10.1.0.100"
    for name in ["a", *(f"n{number}" for number in range(100))]:
        it.release(name)
    assert it.one("b", "h2") == "10.1.0.0"


def test_ipv6_in_blocks_of_64_addresses() -> None:
    it = world("2001:db8::/64", 122)
    assert it.many(65)[-1] == "2001:db8::40"
    assert it.blocks() == ["2001:db8::/122", "2001:db8::40/122"]
    assert it.one("z", "h2") == "2001:db8::80"


def test_ipv6_aggregated_starts_nodes_far_apart() -> None:
    it = world("2001:db8::/64", 122, placement=Placement.AGGREGATE)
    assert it.one("a", "h1") == "2001:db8::"
    assert it.one("b", "h2") == "2001:db8:0:0:8000::"


def test_no_address_is_lent_across_groups() -> None:
    groups = {"one": {"net": "10.0.0.0/30"}, "two": {"net": "10.0.0.4/30"}}
    made = layout([network("net", "10.0.0.0/29", 30)], groups)
    it = World(made, [node("h1", "one"), node("h2", "two")])
    assert sorted(it.fill()) == ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert it.one("x", "h2") == "10.0.0.4"
