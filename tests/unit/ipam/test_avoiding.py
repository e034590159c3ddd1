"""Slots that are chosen last."""

from __future__ import annotations

import pytest

from services.ipam.slots.aggregate import AggregatePool
from services.ipam.slots.avoiding import AvoidingPool


@pytest.fixture
def pool() -> AvoidingPool:
    """Four slots, of which slot 0 is to be avoided."""
    pool = AvoidingPool(AggregatePool(4))
    pool.avoid(0)
    return pool


def fill(pool: AvoidingPool) -> list[int]:
    """Takes all that is left for one node; returns the slots in that order."""
    taken = []
    while (slot := pool.choose("n")) is not None:
        pool.take(slot, "n")
        taken.append(slot)
    return taken


def test_an_avoided_slot_is_chosen_when_no_other_is_left(pool: AvoidingPool) -> None:
    assert sorted(fill(pool)[:3]) == [1, 2, 3]
    assert pool.holder(0) == "n"


def test_it_counts_as_free_until_it_is_taken(pool: AvoidingPool) -> None:
    assert (pool.free, pool.is_free(0)) == (4, True)
    pool.take(0, "n")
    assert (pool.free, pool.is_free(0)) == (3, False)


def test_it_is_free_again_when_it_comes_back(pool: AvoidingPool) -> None:
    fill(pool)
    pool.give_back(0, "n", 1)
    assert (pool.free, pool.choose("m")) == (1, 0)


def test_undoing_a_take_restores_it(pool: AvoidingPool) -> None:
    came = pool.take(0, "n")
    pool.untake(0, "n", came)
    assert (pool.free, pool.is_free(0)) == (4, True)


def test_blocked_besides_it_is_never_chosen(pool: AvoidingPool) -> None:
    pool.withhold(0, 2)
    assert sorted(fill(pool)) == [2, 3]


def test_blocked_while_held_it_does_not_come_back(pool: AvoidingPool) -> None:
    pool.take(0, "n")
    pool.withhold(0)
    pool.give_back(0, "n", 1)
    assert not pool.is_free(0)


def test_a_blocked_slot_that_is_avoided_stays_blocked() -> None:
    pool = AvoidingPool(AggregatePool(4))
    pool.withhold(0)
    pool.avoid(0)
    assert sorted(fill(pool)) == [1, 2, 3]


def test_a_held_slot_that_is_avoided_comes_back_as_last() -> None:
    pool = AvoidingPool(AggregatePool(4))
    pool.take(0, "n")
    pool.avoid(0)
    pool.give_back(0, "n", 1)
    assert fill(pool)[-1] == 0
