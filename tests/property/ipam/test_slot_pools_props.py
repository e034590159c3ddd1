"""Spaces against a naive model that keeps plain sets, and against themselves before an undo."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ipam.slots.aggregate import AggregatePool
from services.ipam.slots.pool import SlotPool
from services.ipam.slots.sequential import SequentialPool

SLOTS = 13
NODES = ("a", "b", "c")

Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["choose", "choose", "choose", "take", "give", "block", "unblock", "undo"]),
        st.integers(0, SLOTS - 1),
        st.integers(0, 6),
    ),
    max_size=60,
)
POOLS = pytest.mark.parametrize("make", [SequentialPool, AggregatePool])


@dataclass
class Model:
    held: dict[int, str] = field(default_factory=dict)
    blocked: Counter[int] = field(default_factory=Counter)
    ranges: list[tuple[int, int]] = field(default_factory=list)
    returned: dict[int, int] = field(default_factory=dict)
    clock: int = 0

    def free(self) -> set[int]:
        return {s for s in range(SLOTS) if s not in self.held and not self.blocked[s]}

    def sequential(self) -> int | None:
        free = self.free()
        queue = [(self.returned[s], s) for s in free if s in self.returned]
        if queue:
            return min(queue)[1]
        high = max([*self.held, *self.returned], default=-1)
        return min((s for s in free if s > high), default=min(free, default=None))

    def rebuilt(self, make: type[SequentialPool | AggregatePool]) -> SlotPool:
        """The same state, as a service that starts learns it: in another order."""
        pool = make(SLOTS)
        for slot, count in sorted(self.ranges, reverse=True):
            pool.withhold(slot, count)
        for slot in sorted(self.held, key=lambda s: (s * 7) % SLOTS):
            pool.take(slot, self.held[slot])
        for slot, returned in sorted(self.returned.items(), reverse=True):
            pool.note_returned(slot, returned)
        return pool


def behaviour(pool: SlotPool) -> list[tuple[str, int | None]]:
    """What a pool chooses until it is full, leaving it as it was: all that can be seen of it."""
    seen: list[tuple[str, int | None]] = []
    taken: list[tuple[int, str, int | None]] = []
    while pool.free:
        seen.extend((node, pool.choose(node)) for node in NODES)
        node = NODES[len(taken) % len(NODES)]
        slot = pool.choose(node)
        assert slot is not None
        taken.append((slot, node, pool.take(slot, node)))
    for slot, node, came in reversed(taken):
        pool.untake(slot, node, came)
    return seen


def play(pool: SlotPool, model: Model, step: Step) -> None:
    what, slot, extra = step
    node = NODES[extra % len(NODES)]
    if what in {"choose", "undo"}:
        chosen = checked_choice(pool, model, node)
        if chosen is None:
            return
        slot = chosen
    match what:
        case "undo":
            undo(pool, model, slot, node)
        case "choose" | "take":
            take(pool, model, slot, node)
        case "give":
            give_back(pool, model, slot, node)
        case "block":
            count = min(1 + extra, SLOTS - slot)
            pool.withhold(slot, count)
            model.ranges.append((slot, count))
            model.blocked.update(range(slot, slot + count))
        case _ if model.ranges:
            first, count = model.ranges.pop(slot % len(model.ranges))
            pool.restore(first, count)
            model.blocked.subtract(range(first, first + count))


def checked_choice(pool: SlotPool, model: Model, node: str) -> int | None:
    chosen = pool.choose(node)
    assert (chosen is None) == (not model.free())
    assert chosen is None or chosen in model.free()
    if isinstance(pool, SequentialPool):
        assert chosen == model.sequential()
    return chosen


def undo(pool: SlotPool, model: Model, slot: int, node: str) -> None:
    before = behaviour(pool)
    came = pool.take(slot, node)
    pool.untake(slot, node, came)
    assert behaviour(pool) == before
    for held, holder in list(model.held.items())[:2]:
        pool.give_back(held, holder, model.clock + 1)
        pool.take(held, holder)
        assert behaviour(pool) == before


def take(pool: SlotPool, model: Model, slot: int, node: str) -> None:
    if slot in model.held:
        with pytest.raises(ValueError, match="held"):
            pool.take(slot, node)
        return
    came = pool.take(slot, node)
    if isinstance(pool, SequentialPool):
        assert came == model.returned.get(slot)
    model.held[slot] = node
    model.returned.pop(slot, None)


def give_back(pool: SlotPool, model: Model, slot: int, node: str) -> None:
    if slot not in model.held:
        with pytest.raises(ValueError, match="not held"):
            pool.give_back(slot, node, 0)
        return
    model.clock += 1
    pool.give_back(slot, model.held.pop(slot), model.clock)
    model.returned[slot] = model.clock


@POOLS
@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_agrees_with_a_naive_model_under_any_interleaving(
    make: type[SequentialPool | AggregatePool], steps: list[Step]
) -> None:
    pool, model = make(SLOTS), Model()
    for step in steps:
        play(pool, model, step)
        free = model.free()
        assert pool.free == len(free)
        assert {s for s in range(-1, SLOTS + 1) if pool.is_free(s)} == free
        assert {s: pool.holder(s) for s in range(SLOTS) if pool.holder(s)} == model.held


@POOLS
@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_behaviour_depends_on_the_state_and_not_on_its_history(
    make: type[SequentialPool | AggregatePool], steps: list[Step]
) -> None:
    pool, model = make(SLOTS), Model()
    for step in steps:
        play(pool, model, step)
    assert behaviour(pool) == behaviour(model.rebuilt(make))


@POOLS
@settings(max_examples=200, deadline=None)
@given(steps=STEPS, tail=st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=12))
def test_a_failed_transaction_is_undone_in_reverse_order(
    make: type[SequentialPool | AggregatePool],
    steps: list[Step],
    tail: list[tuple[bool, int]],
) -> None:
    pool, model = make(SLOTS), Model()
    for step in steps:
        play(pool, model, step)
    before = behaviour(pool)
    done: list[tuple[bool, int, str, int | None]] = []
    for number, (taking, pick) in enumerate(tail):
        held = sorted(s for s in range(SLOTS) if pool.holder(s))
        node = NODES[pick % len(NODES)]
        if taking and len(held) < SLOTS:
            slot = sorted(set(range(SLOTS)) - set(held))[pick % (SLOTS - len(held))]
            done.append((True, slot, node, pool.take(slot, node)))
        elif held:
            slot = held[pick % len(held)]
            holder = pool.holder(slot)
            assert holder is not None
            pool.give_back(slot, holder, model.clock + 1 + number)
            done.append((False, slot, holder, None))
    for taking, slot, node, came in reversed(done):
        if taking:
            pool.untake(slot, node, came)
        else:
            pool.take(slot, node)
    assert behaviour(pool) == before
