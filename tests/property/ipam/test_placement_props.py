"""Spaces against a naive model that keeps plain sets, and against themselves before an undo."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ipam.slots.placement import AggregateSpace, GroupSpace, SequentialSpace

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
SPACES = pytest.mark.parametrize("make", [SequentialSpace, AggregateSpace])


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

    def rebuilt(self, make: type[SequentialSpace | AggregateSpace]) -> GroupSpace:
        """The same state, as a service that starts learns it: in another order."""
        space = make(SLOTS)
        for slot, count in sorted(self.ranges, reverse=True):
            space.block(slot, count)
        for slot in sorted(self.held, key=lambda s: (s * 7) % SLOTS):
            space.take(slot, self.held[slot])
        for slot, returned in sorted(self.returned.items(), reverse=True):
            space.note_returned(slot, returned)
        return space


def behaviour(space: GroupSpace) -> list[tuple[str, int | None]]:
    """What a space chooses until it is full, leaving it as it was: all that can be seen of it."""
    seen: list[tuple[str, int | None]] = []
    taken: list[tuple[int, str, int | None]] = []
    while space.free:
        seen.extend((node, space.choose(node)) for node in NODES)
        node = NODES[len(taken) % len(NODES)]
        slot = space.choose(node)
        assert slot is not None
        taken.append((slot, node, space.take(slot, node)))
    for slot, node, came in reversed(taken):
        space.untake(slot, node, came)
    return seen


def play(space: GroupSpace, model: Model, step: Step) -> None:
    what, slot, extra = step
    node = NODES[extra % len(NODES)]
    if what in {"choose", "undo"}:
        chosen = checked_choice(space, model, node)
        if chosen is None:
            return
        slot = chosen
    match what:
        case "undo":
            undo(space, model, slot, node)
        case "choose" | "take":
            take(space, model, slot, node)
        case "give":
            give_back(space, model, slot, node)
        case "block":
            count = min(1 + extra, SLOTS - slot)
            space.block(slot, count)
            model.ranges.append((slot, count))
            model.blocked.update(range(slot, slot + count))
        case _ if model.ranges:
            first, count = model.ranges.pop(slot % len(model.ranges))
            space.unblock(first, count)
            model.blocked.subtract(range(first, first + count))


def checked_choice(space: GroupSpace, model: Model, node: str) -> int | None:
    chosen = space.choose(node)
    assert (chosen is None) == (not model.free())
    assert chosen is None or chosen in model.free()
    if isinstance(space, SequentialSpace):
        assert chosen == model.sequential()
    return chosen


def undo(space: GroupSpace, model: Model, slot: int, node: str) -> None:
    before = behaviour(space)
    came = space.take(slot, node)
    space.untake(slot, node, came)
    assert behaviour(space) == before
    for held, holder in list(model.held.items())[:2]:
        space.give_back(held, holder, model.clock + 1)
        space.take(held, holder)
        assert behaviour(space) == before


def take(space: GroupSpace, model: Model, slot: int, node: str) -> None:
    if slot in model.held:
        with pytest.raises(ValueError, match="held"):
            space.take(slot, node)
        return
    came = space.take(slot, node)
    if isinstance(space, SequentialSpace):
        assert came == model.returned.get(slot)
    model.held[slot] = node
    model.returned.pop(slot, None)


def give_back(space: GroupSpace, model: Model, slot: int, node: str) -> None:
    if slot not in model.held:
        with pytest.raises(ValueError, match="not held"):
            space.give_back(slot, node, 0)
        return
    model.clock += 1
    space.give_back(slot, model.held.pop(slot), model.clock)
    model.returned[slot] = model.clock


@SPACES
@settings(max_examples=300, deadline=None)
@given(steps=STEPS)
def test_agrees_with_a_naive_model_under_any_interleaving(
    make: type[SequentialSpace | AggregateSpace], steps: list[Step]
) -> None:
    space, model = make(SLOTS), Model()
    for step in steps:
        play(space, model, step)
        free = model.free()
        assert space.free == len(free)
        assert {s for s in range(-1, SLOTS + 1) if space.is_free(s)} == free
        assert {s: space.holder(s) for s in range(SLOTS) if space.holder(s)} == model.held


@SPACES
@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_behaviour_depends_on_the_state_and_not_on_its_history(
    make: type[SequentialSpace | AggregateSpace], steps: list[Step]
) -> None:
    space, model = make(SLOTS), Model()
    for step in steps:
        play(space, model, step)
    assert behaviour(space) == behaviour(model.rebuilt(make))


@SPACES
@settings(max_examples=200, deadline=None)
@given(steps=STEPS, tail=st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=12))
def test_a_failed_transaction_is_undone_in_reverse_order(
    make: type[SequentialSpace | AggregateSpace],
    steps: list[Step],
    tail: list[tuple[bool, int]],
) -> None:
    space, model = make(SLOTS), Model()
    for step in steps:
        play(space, model, step)
    before = behaviour(space)
    done: list[tuple[bool, int, str, int | None]] = []
    for number, (taking, pick) in enumerate(tail):
        held = sorted(s for s in range(SLOTS) if space.holder(s))
        node = NODES[pick % len(NODES)]
        if taking and len(held) < SLOTS:
            slot = sorted(set(range(SLOTS)) - set(held))[pick % (SLOTS - len(held))]
            done.append((True, slot, node, space.take(slot, node)))
        elif held:
            slot = held[pick % len(held)]
            holder = space.holder(slot)
            assert holder is not None
            space.give_back(slot, holder, model.clock + 1 + number)
            done.append((False, slot, holder, None))
    for taking, slot, node, came in reversed(done):
        if taking:
            space.untake(slot, node, came)
        else:
            space.take(slot, node)
    assert behaviour(space) == before
