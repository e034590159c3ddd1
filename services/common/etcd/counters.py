"""What the client counts, for a metrics collector to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class StoreCounters:
    """Totals since the client was made."""

    requests: int = 0
    """Calls of the client's methods; a retried one counts once."""
    failures: int = 0
    """Of these, those that raised."""
    reconnects: int = 0
    """Moves to another endpoint, and streams that had to be opened again."""
    regressions: int = 0
    """Answers that were not believed: another cluster's, or from before what was seen."""


class Observer(Protocol):
    """Told of every request as it ends."""

    def observe(self, operation: str, seconds: float, *, ok: bool) -> None:
        """Takes the client's method name and how long it took, retries included."""


class NoObserver:
    """Nobody is interested."""

    def observe(self, operation: str, seconds: float, *, ok: bool) -> None:
        """Does nothing."""
