"""Changes on their way to the nodes: who needs each, who has applied it, and how long it took."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

KEPT: Final = 500
"""Changes; older ones are forgotten."""
NAMED_MOST: Final = 20
"""Nodes or details of a change."""
AUTHORS_MOST: Final = 5
"""Of one change."""

Kind = Literal["topology", "node", "blocks", "policy", "tenant"]
SERVICES: Final[Mapping[Kind, str]] = {
    "topology": "topology",
    "node": "topology",
    "policy": "policy",
    "tenant": "policy",
}
"""That make such changes; blocks are taken and given back by themselves."""


@dataclass(frozen=True, slots=True)
class Lagging:
    """A node that has not applied a change."""

    node: str
    reason: str
    """Empty: it only takes its time."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who made a change, as its record says."""

    revision: int
    """Of the store, which `romana audit show` takes."""
    service: str
    identity: str
    client: str
    """The program; empty: it did not say."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that changed, and how far it is."""

    number: int
    """Ascends; tells changes apart."""
    kind: Kind
    what: str
    """One line."""
    details: Sequence[str]
    """At most 20 lines more."""
    revision: int
    """Of the store."""
    noticed: float
    """Seconds since 1970, when this process heard of it."""
    after: int
    """The revision up to which was known what was before."""
    authors: Sequence[Author] = ()
    """Several, if several changes were heard of together. None: nobody asked for it, or it is not
    known yet."""
    needed: int | None = None
    """Nodes that it concerns and that have a stream. None: not known yet."""
    applied: int = 0
    lagging: Sequence[Lagging] = ()
    seconds: float | None = None
    """From then until the last of them had applied it. None: not yet."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long the changes took that are done and needed a node."""

    changes: int
    p50: float
    p99: float


class ChangeLog:
    """The last ones, the newest first when they are read."""

    def __init__(self, on_add: Callable[[], None]) -> None:
        """`on_add` is called after each change that was noted."""
        self._on_add = on_add
        self._changes: OrderedDict[int, Change] = OrderedDict()
        self._number = 0
        self._authors: deque[Author] = deque(maxlen=KEPT)

    def add(
        self,
        kind: Kind,
        what: str,
        revision: int,
        now: float,
        details: Sequence[str] = (),
        *,
        after: int | None = None,
    ) -> Change:
        """Notes a change; returns it. `after`: the revision known before; None: the one before."""
        self._number += 1
        shown = [*details[:NAMED_MOST]]
        if len(details) > NAMED_MOST:
            shown.append(f"and {len(details) - NAMED_MOST} more")
        change = Change(
            self._number, kind, what, shown, revision, now, revision - 1 if after is None else after
        )
        change = replace(change, authors=_authors(change, self._authors))
        self._changes[change.number] = change
        while len(self._changes) > KEPT:
            self._changes.popitem(last=False)
        self._on_add()
        return change

    def pending(self) -> list[Change]:
        """Those that not all have applied, the oldest first."""
        return [change for change in self._changes.values() if change.seconds is None]

    def progress(self, number: int, lagging: Mapping[str, str], needed: int, now: float) -> bool:
        """Says who still lacks it, by node with the reason; returns whether that is news."""
        change = self._changes.get(number)
        if change is None or change.seconds is not None:
            return False
        names = sorted(lagging, key=lambda node: (not lagging[node], node))[:NAMED_MOST]
        new = replace(
            change,
            needed=needed,
            applied=needed - len(lagging),
            lagging=[Lagging(name, lagging[name]) for name in names],
            seconds=None if lagging else max(0.0, now - change.noticed),
        )
        self._changes[number] = new
        return new != change

    def made_by(self, authors: Iterable[Author]) -> bool:
        """Says who made changes, of those that are known and those to come; returns whether that
        is news."""
        self._authors.extend(sorted(authors, key=lambda one: one.revision))
        news = False
        for number, change in self._changes.items():
            if not change.authors and (found := _authors(change, self._authors)):
                self._changes[number] = replace(change, authors=found)
                news = True
        return news

    def latest(self, most: int = KEPT) -> list[Change]:
        """The newest first."""
        return [self._changes[number] for number in list(reversed(self._changes))[:most]]

    def latency(self) -> Latency | None:
        """Of those that are kept; None: none was needed by a node and is done."""
        times = sorted(
            change.seconds
            for change in self._changes.values()
            if change.seconds is not None and change.needed
        )
        if not times:
            return None
        return Latency(len(times), _quantile(times, 0.5), _quantile(times, 0.99))


def _authors(change: Change, authors: Iterable[Author]) -> Sequence[Author]:
    service = SERVICES.get(change.kind)
    return [
        one
        for one in authors
        if one.service == service and change.after < one.revision <= change.revision
    ][:AUTHORS_MOST]


def _quantile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that this share of them does not exceed."""
    place = -(-len(ascending) * share // 1)
    return ascending[max(0, int(place) - 1)]
