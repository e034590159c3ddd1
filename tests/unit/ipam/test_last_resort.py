"""Slots that are chosen last."""

from __future__ import annotations

import pytest

from services.ipam.slots.avoided import LastResort
from services.ipam.slots.placement import AggregateSpace


@pytest.fixture
def space() -> LastResort:
    """Four slots, of which slot 0 is to be avoided."""
    space = LastResort(AggregateSpace(4))
    space.avoid(0)
    return space


def fill(space: LastResort) -> list[int]:
    """Takes all that is left for one node; returns the slots in that order."""
    taken = []
    while (slot := space.choose("n")) is not None:
        space.take(slot, "n")
        taken.append(slot)
    return taken


def test_an_avoided_slot_is_chosen_when_no_other_is_left(space: LastResort) -> None:
    assert sorted(fill(space)[:3]) == [1, 2, 3]
    assert space.holder(0) == "n"


def test_it_counts_as_free_until_it_is_taken(space: LastResort) -> None:
    assert (space.free, space.is_free(0)) == (4, True)
    space.take(0, "n")
    assert (space.free, space.is_free(0)) == (3, False)


def test_it_is_free_again_when_it_comes_back(space: LastResort) -> None:
    fill(space)
    space.give_back(0, "n", 1)
    assert (space.free, space.choose("m")) == (1, 0)


def test_undoing_a_take_restores_it(space: LastResort) -> None:
    came = space.take(0, "n")
    space.untake(0, "n", came)
    assert (space.free, space.is_free(0)) == (4, True)


def test_blocked_besides_it_is_never_chosen(space: LastResort) -> None:
    space.block(0, 2)
    assert sorted(fill(space)) == [2, 3]


def test_blocked_while_held_it_does_not_come_back(space: LastResort) -> None:
    space.take(0, "n")
    space.block(0)
    space.give_back(0, "n", 1)
    assert not space.is_free(0)


def test_a_blocked_slot_that_is_avoided_stays_blocked() -> None:
    space = LastResort(AggregateSpace(4))
    space.block(0)
    space.avoid(0)
    assert sorted(fill(space)) == [1, 2, 3]


def test_a_held_slot_that_is_avoided_comes_back_as_last() -> None:
    space = LastResort(AggregateSpace(4))
    space.take(0, "n")
    space.avoid(0)
    space.give_back(0, "n", 1)
    assert fill(space)[-1] == 0
