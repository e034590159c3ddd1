"""Spans of what is done for somebody's sake, if tracing is asked for; else nothing, at no cost.

    with spans.span("AttachEndpoint", parent=given):   # goes on with the caller's, or begins one
        with spans.child("etcd transact"): ...         # only inside of a span
        spans.current()                                # goes along with what is asked of others
    with spans.shared("commit", [parent, parent]): ... # one piece of work for several

What says which span something belongs to is W3C's `traceparent`: in the metadata of calls, in the
value of the key that every transaction of a service writes, and in the messages of agents' streams.
So a change is followed from whoever asked for it to the kernels of the nodes. Which spans there are
is decided here; `services.common.tracing.export` has the library that sends them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

KEY: Final = "traceparent"
"""In the metadata of calls."""
_START: Final = "00-"
_LENGTH: Final = 55
_CHANGES_KEPT: Final = 256
LINKS_MOST: Final = 32


class Open(Protocol):
    """A span that is ended by somebody else than who began it."""

    @property
    def parent(self) -> str:
        """For what belongs to it."""

    def end(self) -> None:
        """It is done."""


class Tracer(Protocol):
    def span(
        self, name: str, parent: str, links: Sequence[str], begun: float | None, *, serves: bool
    ) -> AbstractContextManager[None]:
        """Of the current span if no parent is given; since `begun`, Unix time, if that is given."""

    def begin(self, name: str, parent: str, links: Sequence[str]) -> Open:
        """One that is not the current one of anybody."""

    def current(self) -> str:
        """The current span; empty if there is none, or it is not recorded."""

    def stop(self) -> None:
        """Sends what is left, within a bound."""


_tracers: list[Tracer] = []
"""At most one: of this process."""
_changes: deque[tuple[int, str]] = deque(maxlen=_CHANGES_KEPT)
"""Changes of the store that somebody traces, by revision."""
_NOTHING: Final[AbstractContextManager[None]] = nullcontext()


def use(tracer: Tracer | None) -> None:
    """Traces by it from now on, or no more."""
    _tracers[:] = [] if tracer is None else [tracer]
    _changes.clear()


def stop() -> None:
    for tracer in _tracers:
        tracer.stop()
    use(None)


def is_on() -> bool:
    return bool(_tracers)


def current() -> str:
    return _tracers[0].current() if _tracers else ""


def carried() -> tuple[tuple[str, str], ...]:
    """Metadata for a call that is made for the current span's sake."""
    found = current()
    return ((KEY, found),) if found else ()


def span(
    name: str, *, parent: str = "", begun: float | None = None, serves: bool = False
) -> AbstractContextManager[None]:
    """What somebody asked for: of the span that the caller says, of the current one, or the first
    of a trace. `serves`: the caller is another process."""
    if not _tracers:
        return _NOTHING
    return _tracers[0].span(name, parent, (), begun, serves=serves)


def child(name: str) -> AbstractContextManager[None]:
    """A part of the current span; nothing if there is none."""
    return span(name) if current() else _NOTHING


def shared(name: str, parents: Iterable[str]) -> AbstractContextManager[None]:
    """One piece of work for several spans: of the first of them, with links to the others."""
    if not _tracers:
        return _NOTHING
    first, *others = [*_distinct(parents), ""]
    if not first:
        return _NOTHING
    return _tracers[0].span(name, first, others[:-1][:LINKS_MOST], None, serves=False)


def begin(name: str, parents: Iterable[str]) -> Open | None:
    """As `shared`, until it is ended."""
    if not _tracers:
        return None
    first, *others = [*_distinct(parents), ""]
    return _tracers[0].begin(name, first, others[:-1][:LINKS_MOST]) if first else None


def heard(revision: int, value: bytes) -> None:
    """A transaction's own key was written with this value: somebody may trace the change."""
    if _tracers and len(value) == _LENGTH and value.startswith(_START.encode()):
        _changes.append((revision, value.decode(errors="replace")))


def changes(after: int, until: int) -> list[str]:
    """The spans of changes after a revision, up to another."""
    return [parent for revision, parent in _changes if after < revision <= until]


def of_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """What a caller says; empty if it says nothing of use."""
    for key, value in metadata or ():
        if key == KEY and isinstance(value, str) and len(value) == _LENGTH:
            return value
    return ""


def _distinct(parents: Iterable[str]) -> list[str]:
    return [parent for parent in dict.fromkeys(parents) if parent]
