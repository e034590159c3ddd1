"""What has to be done to get from one state to another, in which order.

Additions and replacements go up the dependencies, removals down: a route exists before the rule
that leads to it, and an object is removed after everything that refers to it. What differs is
replaced in place, so that no packet sees a hole.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from services.agent.kernel.state import Key, Kind, Objects, State, Value


@dataclass(frozen=True, slots=True)
class Step:
    """Operations of one kind: either puts or removals."""

    kind: Kind
    additions: Objects
    """Objects that are not there."""
    replacements: Objects
    """Objects that are there with another value."""
    removals: Objects
    """With the values that they have."""

    def __len__(self) -> int:
        return len(self.additions) + len(self.replacements) + len(self.removals)


def diff(desired: State, actual: State, routes: Collection[Key] | None = None) -> tuple[Step, ...]:
    """The steps, none of them empty; none at all when the states are equal.

    Args:
        desired: What shall be.
        actual: What is.
        routes: Keys of the only routes that can differ, if that is known.
    """
    up: list[Step] = []
    down: list[Step] = []
    for kind in Kind:
        wanted, found = desired.of(kind), actual.of(kind)
        if kind is Kind.ROUTE and routes is not None:
            wanted, found = _only(wanted, routes), _only(found, routes)
        if wanted == found:
            continue
        additions, replacements = _puts(wanted, found)
        if additions or replacements:
            up.append(Step(kind, additions, replacements, {}))
        removals = {key: found[key] for key in found.keys() - wanted.keys()}
        if removals:
            down.append(Step(kind, {}, {}, removals))
    return (*up, *reversed(down))


def _only(objects: Objects, keys: Collection[Key]) -> Objects:
    return {key: objects[key] for key in keys if key in objects}


def _puts(wanted: Objects, found: Objects) -> tuple[dict[Key, Value], dict[Key, Value]]:
    additions: dict[Key, Value] = {}
    replacements: dict[Key, Value] = {}
    missing = object()
    for key, value in wanted.items():
        before: Value = found.get(key, missing)
        if before is missing:
            additions[key] = value
        elif before != value:
            replacements[key] = value
    return additions, replacements


def done(actual: State, step: Step, failed: frozenset[Key] | set[Key]) -> State:
    """The state after a step of which some keys failed."""
    objects = dict(actual.of(step.kind))
    for puts in (step.additions, step.replacements):
        if failed:
            objects.update((key, value) for key, value in puts.items() if key not in failed)
        else:
            objects.update(puts)
    for key in step.removals:
        if key not in failed:
            objects.pop(key, None)
    return actual.having(step.kind, objects)
