from __future__ import annotations

import pytest

from services.ipam.slots.placement import AggregateSpace, GroupSpace, SequentialSpace

BOTH = pytest.mark.parametrize("make", [SequentialSpace, AggregateSpace])


def grow(space: GroupSpace, node: str, count: int = 1) -> list[int]:
    slots = []
    for _ in range(count):
        slot = space.choose(node)
        assert slot is not None
        space.take(slot, node)
        slots.append(slot)
    return slots


@BOTH
def test_a_full_space_has_no_slot(make: type[SequentialSpace | AggregateSpace]) -> None:
    space = make(4)
    assert sorted(grow(space, "a", 4)) == [0, 1, 2, 3]
    assert space.choose("a") is None
    assert space.choose("b") is None
    assert space.free == 0


@BOTH
def test_a_slot_that_is_held_cannot_be_taken(
    make: type[SequentialSpace | AggregateSpace],
) -> None:
    space = make(4)
    space.take(1, "a")
    with pytest.raises(ValueError, match="slot 1 is held by a"):
        space.take(1, "b")
    assert space.holder(1) == "a"


@BOTH
def test_only_the_holder_gives_back(make: type[SequentialSpace | AggregateSpace]) -> None:
    space = make(4)
    space.take(1, "a")
    with pytest.raises(ValueError, match="slot 1 is not held by b"):
        space.give_back(1, "b", 1)
    assert space.holder(1) == "a"
    assert space.take(2, "b") is None


@BOTH
@pytest.mark.parametrize("slot", [-1, 4])
def test_a_slot_outside_the_group_is_refused(
    make: type[SequentialSpace | AggregateSpace], slot: int
) -> None:
    space = make(4)
    assert not space.is_free(slot)
    with pytest.raises(ValueError, match="not in 0 to 3"):
        space.take(slot, "a")
    with pytest.raises(ValueError, match="not in 0 to 3"):
        space.block(slot)


@BOTH
def test_a_group_without_slots_is_refused(make: type[SequentialSpace | AggregateSpace]) -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        make(0)


@BOTH
def test_a_blocked_slot_is_never_chosen(make: type[SequentialSpace | AggregateSpace]) -> None:
    space = make(8)
    space.block(0, 6)
    assert sorted(grow(space, "a", 2)) == [6, 7]
    assert space.choose("a") is None


@BOTH
def test_a_slot_blocked_while_held_is_kept_and_not_chosen_afterwards(
    make: type[SequentialSpace | AggregateSpace],
) -> None:
    space = make(2)
    grow(space, "a", 2)
    space.block(1)
    assert space.holder(1) == "a"
    space.give_back(1, "a", 1)
    assert space.choose("a") is None
    space.unblock(1)
    assert space.choose("a") == 1


@BOTH
def test_a_slot_blocked_twice_needs_two_unblocks(
    make: type[SequentialSpace | AggregateSpace],
) -> None:
    space = make(4)
    space.block(0, 4)
    space.block(2)
    space.unblock(0, 4)
    assert [space.is_free(slot) for slot in range(4)] == [True, True, False, True]
    space.unblock(2)
    assert space.free == 4
    with pytest.raises(ValueError, match="not all covered"):
        space.unblock(2)


@BOTH
def test_a_blocked_slot_can_be_taken_at_a_start(
    make: type[SequentialSpace | AggregateSpace],
) -> None:
    space = make(2)
    space.block(0)
    space.take(0, "a")
    assert space.holder(0) == "a"
    assert space.free == 1


@BOTH
def test_an_ipv6_group_costs_no_more_than_a_small_one(
    make: type[SequentialSpace | AggregateSpace],
) -> None:
    space = make(2**74)
    space.block(0, 2**70)
    assert space.free == 2**74 - 2**70
    assert len(set(grow(space, "a", 100) + grow(space, "b", 100))) == 200


class TestSequential:
    def test_goes_on_after_the_highest_ever_used(self) -> None:
        space = SequentialSpace(16)
        space.take(7, "a")
        assert grow(space, "a", 2) == [8, 9]

    def test_takes_what_came_back_first_oldest_first(self) -> None:
        space = SequentialSpace(16)
        grow(space, "a", 5)
        space.give_back(3, "a", 1)
        space.give_back(1, "a", 2)
        assert grow(space, "b", 3) == [3, 1, 5]

    def test_falls_back_to_the_lowest_at_the_end(self) -> None:
        space = SequentialSpace(4)
        space.take(3, "a")
        assert grow(space, "b", 3) == [0, 1, 2]

    def test_skips_what_is_blocked(self) -> None:
        space = SequentialSpace(8)
        space.block(0, 2)
        space.block(3)
        assert grow(space, "a", 3) == [2, 4, 5]
        space.unblock(3)
        assert grow(space, "a", 3) == [6, 7, 3]

    def test_a_returned_slot_keeps_its_place_while_it_is_blocked(self) -> None:
        space = SequentialSpace(8)
        grow(space, "a", 4)
        space.give_back(2, "a", 1)
        space.give_back(0, "a", 2)
        space.block(2)
        assert space.choose("a") == 0
        space.unblock(2)
        assert space.choose("a") == 2

    def test_undoing_a_take_restores_the_place_in_the_queue(self) -> None:
        space = SequentialSpace(8)
        grow(space, "a", 4)
        space.give_back(2, "a", 1)
        space.give_back(0, "a", 2)
        came = space.take(2, "b")
        assert came == 1
        space.untake(2, "b", came)
        assert grow(space, "b", 2) == [2, 0]

    def test_undoing_a_take_restores_the_highest_ever_used(self) -> None:
        space = SequentialSpace(8)
        grow(space, "a", 2)
        space.untake(6, "b", space.take(6, "b"))
        assert space.choose("b") == 2

    def test_a_start_learns_what_came_back_in_any_order(self) -> None:
        space = SequentialSpace(8)
        space.note_returned(5, 9)
        space.note_returned(1, 3)
        space.take(2, "a")
        assert grow(space, "b", 3) == [1, 5, 6]

    def test_what_is_held_cannot_have_come_back(self) -> None:
        space = SequentialSpace(8)
        space.take(2, "a")
        with pytest.raises(ValueError, match="slot 2 is held"):
            space.note_returned(2, 1)


class TestAggregate:
    def test_nodes_start_in_the_middle_of_the_largest_gap(self) -> None:
        space = AggregateSpace(64)
        assert [grow(space, node)[0] for node in "abcdefgh"] == [0, 32, 16, 48, 8, 24, 40, 56]

    def test_a_node_grows_side_by_side(self) -> None:
        space = AggregateSpace(64)
        grow(space, "a")
        grow(space, "b")
        assert grow(space, "b", 4) == [33, 34, 35, 36]

    def test_a_node_completes_its_aligned_range_before_it_opens_a_larger_one(self) -> None:
        space = AggregateSpace(64)
        space.take(22, "a")
        assert grow(space, "a", 8) == [23, 21, 20, 19, 18, 17, 16, 24]

    def test_a_hole_is_filled_first(self) -> None:
        space = AggregateSpace(64)
        grow(space, "a", 9)
        space.give_back(5, "a", 1)
        assert space.choose("a") == 5

    def test_a_node_that_is_hemmed_in_starts_again_in_the_largest_gap(self) -> None:
        space = AggregateSpace(64)
        space.take(0, "a")
        space.take(1, "b")
        assert grow(space, "a", 2) == [32, 33]

    def test_it_does_not_grow_into_what_is_blocked(self) -> None:
        space = AggregateSpace(16)
        grow(space, "a", 4)
        space.block(4, 2)
        assert space.choose("a") == 8
        space.unblock(4, 2)
        assert space.choose("a") == 4
