"""Coverage against plain counters, and slots to avoid against the pool that they are in."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ipam.slots.aggregate import AggregatePool
from services.ipam.slots.avoiding import AvoidingPool
from services.ipam.slots.coverage import Coverage

END = 20
ranges = st.tuples(st.integers(0, END - 1), st.integers(1, END)).map(
    lambda item: (item[0], min(item[0] + item[1], END))
)


def members(runs: list[tuple[int, int]]) -> set[int]:
    return {value for first, end in runs for value in range(first, end)}


def looks(coverage: Coverage) -> tuple[object, ...]:
    return tuple(coverage._at), tuple(coverage._counts), coverage.total


@given(st.lists(ranges, max_size=15), st.data())
def test_it_agrees_with_a_counter_and_forgets_how_it_came_about(
    added: list[tuple[int, int]], data: st.DataObject
) -> None:
    coverage, counts = Coverage(), Counter[int]()
    for first, end in added:
        fresh = {value for value in range(first, end) if not counts[value]}
        assert members(coverage.add(first, end)) == fresh
        counts.update(range(first, end))
    left = list(added)
    for first, end in data.draw(st.permutations(added))[: len(added) // 2]:
        left.remove((first, end))
        counts.subtract(range(first, end))
        gone = {value for value in range(first, end) if not counts[value]}
        assert members(coverage.remove(first, end)) == gone
    there = {value for value in range(END) if counts[value]}
    assert members(list(coverage)) == there
    assert {value for value in range(-1, END + 1) if value in coverage} == there
    assert coverage.total == len(there)
    anew = Coverage()
    for item in sorted(left):
        anew.add(*item)
    assert looks(anew) == looks(coverage)


@given(st.lists(ranges, max_size=6), ranges)
def test_what_is_not_covered_cannot_be_taken_back(
    added: list[tuple[int, int]], wrong: tuple[int, int]
) -> None:
    coverage = Coverage()
    for item in added:
        coverage.add(*item)
    before = looks(coverage)
    if all(value in coverage for value in range(*wrong)):
        return
    with pytest.raises(ValueError, match="not all covered"):
        coverage.remove(*wrong)
    assert looks(coverage) == before


SLOTS = 11
NODES = ("a", "b")
steps = st.lists(
    st.tuples(
        st.sampled_from(("take", "give", "block", "unblock", "avoid", "unavoid")),
        st.integers(0, SLOTS - 1),
        st.integers(0, 4),
    ),
    max_size=50,
)


def choices(pool: AvoidingPool) -> list[int]:
    """What is chosen until nothing is left, leaving it as it was."""
    taken = []
    while (slot := pool.choose("a")) is not None:
        taken.append((slot, pool.take(slot, "a")))
    for slot, came in reversed(taken):
        pool.untake(slot, "a", came)
    return [slot for slot, _ in taken]


@settings(deadline=None)
@given(steps)
def test_avoided_slots_depend_on_the_state_alone(  # noqa: C901 - a table
    taken: list[tuple[str, int, int]],
) -> None:
    pool = AvoidingPool(AggregatePool(SLOTS))
    held: dict[int, str] = {}
    blocked: list[tuple[int, int]] = []
    avoided: set[int] = set()
    for what, slot, extra in taken:
        match what:
            case "take" if slot not in held:
                held[slot] = NODES[extra % 2]
                pool.take(slot, held[slot])
            case "give" if slot in held:
                pool.give_back(slot, held.pop(slot), 1)
            case "block":
                blocked.append((slot, min(1 + extra, SLOTS - slot)))
                pool.withhold(*blocked[-1])
            case "unblock" if blocked:
                pool.restore(*blocked.pop(slot % len(blocked)))
            case "avoid" if slot not in avoided:
                avoided.add(slot)
                pool.avoid(slot)
            case "unavoid" if slot in avoided:
                avoided.remove(slot)
                pool.unavoid(slot)
    shut = {slot for first, count in blocked for slot in range(first, first + count)}
    free = set(range(SLOTS)) - set(held) - shut
    assert {slot for slot in range(SLOTS) if pool.is_free(slot)} == free
    assert {slot for slot in range(SLOTS) if pool.is_withheld(slot)} == shut
    assert pool.free == len(free)
    chosen = choices(pool)
    assert set(chosen) == free
    assert chosen[len(free - avoided) :] == sorted(free & avoided)
    anew = AvoidingPool(AggregatePool(SLOTS))
    for slot in sorted(avoided):
        anew.avoid(slot)
    for slot, node in held.items():
        anew.take(slot, node)
    for item in blocked:
        anew.withhold(*item)
    assert choices(anew) == chosen
