"""What the kernel refused, and when each of it is tried again. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from services.agent.kernel.state import Key, Kind
from services.agent.routing.reconcile_round import Outcome, Trouble
from services.common.backoff import Backoff, BackoffPolicy

RETRY: Final = BackoffPolicy(initial=0.5, maximum=30.0)


@dataclass(frozen=True, slots=True)
class _Retry:
    trouble: Trouble
    backoff: Backoff
    due: float


class Retries:
    """By object. Times are those of any one clock."""

    def __init__(self, draw: Callable[[], float]) -> None:
        """Draws numbers of [0, 1)."""
        self._draw = draw
        self._retries: dict[tuple[Kind, Key], _Retry] = {}

    @property
    def due(self) -> float:
        """When the next is to be tried; infinite: there is none."""
        return min((retry.due for retry in self._retries.values()), default=math.inf)

    def __bool__(self) -> bool:
        return bool(self._retries)

    @property
    def troubles(self) -> Iterable[Trouble]:
        """What was refused."""
        return (retry.trouble for retry in self._retries.values())

    def waiting(self, now: float) -> frozenset[tuple[Kind, Key]]:
        """What is not to be tried yet."""
        return frozenset(key for key, retry in self._retries.items() if retry.due > now)

    def hasten(self, now: float) -> None:
        """Something has changed that they may have waited for."""
        soon = now + RETRY.initial
        self._retries = {
            key: _Retry(retry.trouble, retry.backoff, min(retry.due, soon))
            for key, retry in self._retries.items()
        }

    def note(
        self, outcome: Outcome, waited: frozenset[tuple[Kind, Key]], now: float
    ) -> Mapping[tuple[Kind, Key], Trouble]:
        """Takes over what a round refused, and forgets what is as it shall be.

        Args:
            outcome: Of the round.
            waited: What it did not try.
            now: When it ended.

        Returns:
            What had not been refused before.
        """
        before, self._retries = self._retries, {}
        for key, trouble in outcome.refused.items():
            backoff = before[key].backoff if key in before else Backoff(RETRY, self._draw)
            self._retries[key] = _Retry(trouble, backoff, now + backoff.failed())
        for key in waited - self._retries.keys():
            if key in before and _wanting(outcome, key):
                self._retries[key] = before[key]
        return {key: trouble for key, trouble in outcome.refused.items() if key not in before}


def _wanting(outcome: Outcome, key: tuple[Kind, Key]) -> bool:
    """Whether an object that failed is still not as it should be."""
    kind, one = key
    missing = object()
    wanted: object = outcome.desired.state.of(kind).get(one, missing)
    found: object = outcome.actual.of(kind).get(one, missing)
    return wanted != found
