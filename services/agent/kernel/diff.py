"""What has to be done to get from one state to another, in which order.

Additions and replacements go up the dependencies, removals down: a route exists before the rule
that leads to it, and an object is removed after everything that refers to it. What differs is
replaced in place, so that no packet sees a hole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from services.agent.kernel.layered import Layered, flat
from services.agent.kernel.state import KernelState, Key, Kind, Objects, Value


@dataclass(frozen=True, slots=True)
class KindChange:
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


def diff(
    desired: KernelState, actual: KernelState, limits: Mapping[Kind, Collection[Key]] | None = None
) -> tuple[KindChange, ...]:
    """The steps, none of them empty; none at all when the states are equal.

    Args:
        desired: What shall be.
        actual: What is.
        limits: Keys of the only objects that can differ, for those kinds of which that is known.
    """
    up: list[KindChange] = []
    down: list[KindChange] = []
    for kind in Kind:
        wanted, found = desired.of(kind), actual.of(kind)
        keys = None if limits is None else limits.get(kind)
        if keys is None:
            wanted, found = flat(wanted), flat(found)
        else:
            wanted, found = _only(wanted, keys), _only(found, keys)
        if wanted == found:
            continue
        additions, replacements = _puts(wanted, found)
        if additions or replacements:
            up.append(KindChange(kind, additions, replacements, {}))
        removals = {key: found[key] for key in found.keys() - wanted.keys()}
        if removals:
            down.append(KindChange(kind, {}, {}, removals))
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


def done(actual: KernelState, step: KindChange, failed: Collection[Key]) -> KernelState:
    """The state after a step of which some keys failed."""
    puts = {**step.additions, **step.replacements}
    removals = list(step.removals)
    if failed:
        puts = {key: value for key, value in puts.items() if key not in failed}
        removals = [key for key in removals if key not in failed]
    objects = Layered.of(actual.of(step.kind))
    return actual.having(step.kind, objects.changed(puts, removals))
