from __future__ import annotations

import pytest

from services.ipam.slots.aggregate import AggregatePool
from services.ipam.slots.pool import SlotPool
from services.ipam.slots.sequential import SequentialPool

BOTH = pytest.mark.parametrize("make", [SequentialPool, AggregatePool])


def grow(pool: SlotPool, node: str, count: int = 1) -> list[int]:
    slots = []
    for _ in range(count):
        slot = pool.choose(node)
        assert slot is not None
        pool.take(slot, node)
        slots.append(slot)
    return slots


@BOTH
def test_a_full_space_has_no_slot(make: type[SequentialPool | AggregatePool]) -> None:
    pool = make(4)
    assert sorted(grow(pool, "a", 4)) == [0, 1, 2, 3]
    assert pool.choose("a") is None
    assert pool.choose("b") is None
    assert pool.free == 0


@BOTH
def test_a_slot_that_is_held_cannot_be_taken(
    make: type[SequentialPool | AggregatePool],
) -> None:
    pool = make(4)
    pool.take(1, "a")
    with pytest.raises(ValueError, match="slot 1 is held by a"):
        pool.take(1, "b")
    assert pool.holder(1) == "a"


@BOTH
def test_only_the_holder_gives_back(make: type[SequentialPool | AggregatePool]) -> None:
    pool = make(4)
    pool.take(1, "a")
    with pytest.raises(ValueError, match="slot 1 is not held by b"):
        pool.give_back(1, "b", 1)
    assert pool.holder(1) == "a"
    assert pool.take(2, "b") is None


@BOTH
@pytest.mark.parametrize("slot", [-1, 4])
def test_a_slot_outside_the_group_is_refused(
    make: type[SequentialPool | AggregatePool], slot: int
) -> None:
    pool = make(4)
    assert not pool.is_free(slot)
    with pytest.raises(ValueError, match="not in 0 to 3"):
        pool.take(slot, "a")
    with pytest.raises(ValueError, match="not in 0 to 3"):
        pool.withhold(slot)


@BOTH
def test_a_group_without_slots_is_refused(make: type[SequentialPool | AggregatePool]) -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        make(0)


@BOTH
def test_a_blocked_slot_is_never_chosen(make: type[SequentialPool | AggregatePool]) -> None:
    pool = make(8)
    pool.withhold(0, 6)
    assert sorted(grow(pool, "a", 2)) == [6, 7]
    assert pool.choose("a") is None


@BOTH
def test_a_slot_blocked_while_held_is_kept_and_not_chosen_afterwards(
    make: type[SequentialPool | AggregatePool],
) -> None:
    pool = make(2)
    grow(pool, "a", 2)
    pool.withhold(1)
    assert pool.holder(1) == "a"
    pool.give_back(1, "a", 1)
    assert pool.choose("a") is None
    pool.restore(1)
    assert pool.choose("a") == 1


@BOTH
def test_a_slot_blocked_twice_needs_two_unblocks(
    make: type[SequentialPool | AggregatePool],
) -> None:
    pool = make(4)
    pool.withhold(0, 4)
    pool.withhold(2)
    pool.restore(0, 4)
    assert [pool.is_free(slot) for slot in range(4)] == [True, True, False, True]
    pool.restore(2)
    assert pool.free == 4
    with pytest.raises(ValueError, match="not all covered"):
        pool.restore(2)


@BOTH
def test_a_blocked_slot_can_be_taken_at_a_start(
    make: type[SequentialPool | AggregatePool],
) -> None:
    pool = make(2)
    pool.withhold(0)
    pool.take(0, "a")
    assert pool.holder(0) == "a"
    assert pool.free == 1


@BOTH
def test_an_ipv6_group_costs_no_more_than_a_small_one(
    make: type[SequentialPool | AggregatePool],
) -> None:
    pool = make(2**74)
    pool.withhold(0, 2**70)
    assert pool.free == 2**74 - 2**70
    assert len(set(grow(pool, "a", 100) + grow(pool, "b", 100))) == 200


class TestSequential:
    def test_goes_on_after_the_highest_ever_used(self) -> None:
        pool = SequentialPool(16)
        pool.take(7, "a")
        assert grow(pool, "a", 2) == [8, 9]

    def test_takes_what_came_back_first_oldest_first(self) -> None:
        pool = SequentialPool(16)
        grow(pool, "a", 5)
        pool.give_back(3, "a", 1)
        pool.give_back(1, "a", 2)
        assert grow(pool, "b", 3) == [3, 1, 5]

    def test_falls_back_to_the_lowest_at_the_end(self) -> None:
        pool = SequentialPool(4)
        pool.take(3, "a")
        assert grow(pool, "b", 3) == [0, 1, 2]

    def test_skips_what_is_blocked(self) -> None:
        pool = SequentialPool(8)
        pool.withhold(0, 2)
        pool.withhold(3)
        assert grow(pool, "a", 3) == [2, 4, 5]
        pool.restore(3)
        assert grow(pool, "a", 3) == [6, 7, 3]

    def test_a_returned_slot_keeps_its_place_while_it_is_blocked(self) -> None:
        pool = SequentialPool(8)
        grow(pool, "a", 4)
        pool.give_back(2, "a", 1)
        pool.give_back(0, "a", 2)
        pool.withhold(2)
        assert pool.choose("a") == 0
        pool.restore(2)
        assert pool.choose("a") == 2

    def test_undoing_a_take_restores_the_place_in_the_queue(self) -> None:
        pool = SequentialPool(8)
        grow(pool, "a", 4)
        pool.give_back(2, "a", 1)
        pool.give_back(0, "a", 2)
        came = pool.take(2, "b")
        assert came == 1
        pool.untake(2, "b", came)
        assert grow(pool, "b", 2) == [2, 0]

    def test_undoing_a_take_restores_the_highest_ever_used(self) -> None:
        pool = SequentialPool(8)
        grow(pool, "a", 2)
        pool.untake(6, "b", pool.take(6, "b"))
        assert pool.choose("b") == 2

    def test_a_start_learns_what_came_back_in_any_order(self) -> None:
        pool = SequentialPool(8)
        pool.note_returned(5, 9)
        pool.note_returned(1, 3)
        pool.take(2, "a")
        assert grow(pool, "b", 3) == [1, 5, 6]

    def test_what_is_held_cannot_have_come_back(self) -> None:
        pool = SequentialPool(8)
        pool.take(2, "a")
        with pytest.raises(ValueError, match="slot 2 is held"):
            pool.note_returned(2, 1)


class TestAggregate:
    def test_nodes_start_in_the_middle_of_the_largest_gap(self) -> None:
        pool = AggregatePool(64)
        assert [grow(pool, node)[0] for node in "abcdefgh"] == [0, 32, 16, 48, 8, 24, 40, 56]

    def test_a_node_grows_side_by_side(self) -> None:
        pool = AggregatePool(64)
        grow(pool, "a")
        grow(pool, "b")
        assert grow(pool, "b", 4) == [33, 34, 35, 36]

    def test_a_node_completes_its_aligned_range_before_it_opens_a_larger_one(self) -> None:
        pool = AggregatePool(64)
        pool.take(22, "a")
        assert grow(pool, "a", 8) == [23, 21, 20, 19, 18, 17, 16, 24]

    def test_a_hole_is_filled_first(self) -> None:
        pool = AggregatePool(64)
        grow(pool, "a", 9)
        pool.give_back(5, "a", 1)
        assert pool.choose("a") == 5

    def test_a_node_that_is_hemmed_in_starts_again_in_the_largest_gap(self) -> None:
        pool = AggregatePool(64)
        pool.take(0, "a")
        pool.take(1, "b")
        assert grow(pool, "a", 2) == [32, 33]

    def test_it_does_not_grow_into_what_is_blocked(self) -> None:
        pool = AggregatePool(16)
        grow(pool, "a", 4)
        pool.withhold(4, 2)
        assert pool.choose("a") == 8
        pool.restore(4, 2)
        assert pool.choose("a") == 4
