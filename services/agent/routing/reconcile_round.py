"""One round of reconciliation: read, plan, compare, apply, until nothing is left to be done.

Runs in the kernel's thread, on values only; `services.agent.routing.reconcile` decides when and
keeps what comes out for the next round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from services.agent.kernel import route_bytes
from services.agent.kernel.diff import KindChange, diff, done
from services.agent.kernel.layered import Layered
from services.agent.kernel.numbers import Numbers
from services.agent.kernel.state import Interface, KernelState, Key, Kind, Look, Objects, Proxy
from services.agent.routing.plan import Desired, Planner, Wanted
from services.agent.routing.prefixes import Changed

PASSES: Final = 4
"""Links make indexes, which routes need: two passes are usual, and one more to see it is done."""


class Refusal(Protocol):
    """Why an operation failed."""

    @property
    def reason(self) -> str:
        """An upper-case word for programs."""

    def __str__(self) -> str: ...


class Kernel(Protocol):
    """What a round needs of the kernel, or of a fake."""

    def interfaces(self, look: Look | None = None, /) -> Mapping[str, Interface]:
        """All interfaces, anybody's; with `look`, all but those may be as they were."""

    def read(self, state: KernelState, kinds: frozenset[Kind]) -> KernelState:
        """The state with these kinds read anew."""

    def apply(self, step: KindChange) -> Mapping[Key, Refusal]:
        """Performs a step; returns what was refused."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """An object that the kernel refused."""

    resource: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Task:
    """What a round starts from."""

    wanted: Wanted
    changed: Changed
    """See `plan`."""
    dirty: frozenset[Kind]
    """Kinds to read before anything else."""
    down: frozenset[int]
    """Interfaces that went down or away since the last round."""
    actual: KernelState
    """As of the last round."""
    desired: Desired | None
    """Of the last round; None: there was none."""
    waiting: frozenset[tuple[Kind, Key]]
    """What failed and is not to be tried yet."""
    failing: bool = False
    """Something failed, and may be to be tried."""
    look: Look | None = None
    """Which interfaces may not be as in the last round; None: any."""
    keep_links: bool = False
    """Whether links of ours that nobody asks for stay, since it is not known who may."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    desired: Desired
    actual: KernelState
    numbers: Numbers
    refused: Mapping[tuple[Kind, Key], Trouble]
    repaired: int
    """Objects that somebody else had changed."""
    operations: Mapping[Kind, int]


def perform(
    kernel: Kernel, task: Task, planner: Planner, keep: Callable[[Numbers], None]
) -> Outcome:
    """Makes the kernel equal to what is wanted.

    Args:
        kernel: The drivers.
        task: Where to start from.
        planner: Used by one round at a time.
        keep: Writes numbers to disk, before they are used.
    """
    wanted = planner.numbered(task.wanted, keep)
    dirty, down, changed = task.dirty, task.down, task.changed
    actual, refused = task.actual, dict[tuple[Kind, Key], Trouble]()
    operations: dict[Kind, int] = dict.fromkeys(Kind, 0)
    repaired = 0
    for turn in range(PASSES):
        wanted = replace(wanted, interfaces=kernel.interfaces(task.look if turn == 0 else None))
        desired = planner.plan(wanted, changed, keep)
        wanted = replace(wanted, numbers=desired.numbers)
        if down:
            actual, dirty = _without(
                actual, down, dirty, wanted.interfaces, (task.desired, desired)
            )
        actual = kernel.read(actual, dirty)
        limits = _limits(desired, dirty, task) if turn == 0 else None
        steps = diff(desired.state, actual, limits)
        if turn == 0 and task.desired is not None:
            repaired = sum(_drifted(step, task) for step in steps)
        dirty, down, changed = frozenset(), frozenset(), ()
        for step in _to_do(steps, task, refused):
            problems = kernel.apply(step)
            operations[step.kind] += len(step)
            actual = done(actual, step, set(problems))
            for key, problem in problems.items():
                refused[step.kind, key] = Trouble(
                    desired.owner(step.kind, key), problem.reason, str(problem)
                )
            if step.kind is Kind.LINK:
                dirty |= {Kind.LINK}
                if step.additions:
                    break  # what is by the old ones goes on until it can be by the new ones
        if not dirty:
            break
    return Outcome(desired, actual, wanted.numbers, refused, repaired, operations)


def _to_do(
    steps: Iterable[KindChange], task: Task, refused: Mapping[tuple[Kind, Key], Trouble]
) -> Iterator[KindChange]:
    """The steps, each without what is not to be tried; `refused` grows as they are performed."""
    waiting = task.waiting | refused.keys()
    for step in steps:
        if task.keep_links and step.kind is Kind.LINK and step.removals:
            continue
        useful = _useful(step, waiting, refused)
        if len(useful):
            yield useful


def _limits(
    now: Desired, dirty: frozenset[Kind], task: Task
) -> Mapping[Kind, frozenset[Key]] | None:
    """Which objects can differ, if all were as planned after the round before."""
    if task.desired is None or now.touched is None or task.failing:
        return None
    return {kind: keys for kind, keys in now.touched.items() if kind not in dirty}


def _without(
    actual: KernelState,
    down: frozenset[int],
    dirty: frozenset[Kind],
    interfaces: Mapping[str, Interface],
    plans: tuple[Desired | None, Desired],
) -> tuple[KernelState, frozenset[Kind]]:
    """What the kernel removed by itself with interfaces.

    Of one that is up again, or was only just made, it is not known what was removed: it is read.
    Endpoints' interfaces come and go; what was by them is forgotten without reading 100,000 others.
    """
    before, now = plans
    up = {interface.index for interface in interfaces.values() if interface.up}
    if before is None or now.touched is None or down & (up | before.links | now.links):
        return actual, dirty | {Kind.NEXTHOP, Kind.ROUTE, Kind.PROXY}
    # what was by them was planned by them, and is not any more
    gone = {route_bytes.on_link(version, index) for version in (4, 6) for index in down}
    routes = [
        key for key in now.touched.get(Kind.ROUTE, ()) if actual.of(Kind.ROUTE).get(key) in gone
    ]
    proxies = [
        key
        for key in now.touched.get(Kind.PROXY, ())
        if isinstance(key, Proxy) and key.interface in down
    ]
    for kind, keys in ((Kind.ROUTE, routes), (Kind.PROXY, proxies)):
        if keys:
            actual = actual.having(kind, Layered.of(actual.of(kind)).changed({}, keys))
    return actual, dirty


def _useful(
    step: KindChange,
    waiting: frozenset[tuple[Kind, Key]],
    refused: Mapping[tuple[Kind, Key], Trouble],
) -> KindChange:
    """Without what failed just now, and routes by nexthops that failed."""
    if not waiting:
        return step
    kind = step.kind
    nexthops = {
        route_bytes.by_nexthop(number)
        for failed, number in (*waiting, *refused)
        if failed is Kind.NEXTHOP and isinstance(number, int)
    }

    def kept(objects: Objects) -> Objects:
        return {
            key: value
            for key, value in objects.items()
            if (kind, key) not in waiting and (kind is not Kind.ROUTE or value not in nexthops)
        }

    return KindChange(kind, kept(step.additions), kept(step.replacements), kept(step.removals))


def _drifted(step: KindChange, task: Task) -> int:
    """How much of a step undoes what somebody else did: nothing of ours had changed there."""
    assert task.desired is not None
    before, had = task.desired.state.of(step.kind), task.actual.of(step.kind)
    count = 0
    missing = object()
    for key, value in (*step.additions.items(), *step.replacements.items()):
        if before.get(key, missing) == value and had.get(key, missing) == value:
            count += 1
    return count + sum(key not in had and key not in before for key in step.removals)
