"""Keeps something going that should never end: after a defect it is begun again, and that is shown.

An agent that ended instead would be started anew, and meet the same again: with it would go the
routes and rules that have nothing to do with it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Final

import structlog

from services.common.backoff import Backoff, BackoffPolicy

log = structlog.get_logger(__name__)

RETRY: Final = BackoffPolicy(initial=0.5, maximum=30.0)
CALM_SECONDS: Final = 60.0
"""Without another failure, after which the last is over."""


class Kept:
    """One task of an agent."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Coroutine[object, object, None]],
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Does nothing before `run`; `work` runs for ever, `draw` is for the back-off."""
        self._name = name
        self._work = work
        self._backoff = Backoff(RETRY, draw)
        self._failed_at: float | None = None
        self._error = ""

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the agent is not ready, for people."""
        if self._failed_at is None:
            return ()
        if asyncio.get_running_loop().time() - self._failed_at > CALM_SECONDS:
            return ()
        return (self._error,)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            try:
                await self._work()
            except Exception as error:
                log.exception("task_failed", task=self._name)
                if self._failed_at is not None and clock() - self._failed_at > CALM_SECONDS:
                    self._backoff.succeeded()
                self._failed_at = clock()
                self._error = defect(self._name, error)
                await asyncio.sleep(self._backoff.failed())
            else:
                raise RuntimeError(f"{self._name} has ended")  # it has no way to


def defect(where: str, error: Exception) -> str:
    """For people, what nobody expected."""
    return f"{where}: a defect in the agent: {type(error).__name__}: {error}"
