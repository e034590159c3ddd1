"""Ends connections that rules do not allow any more, and lets go on what they allow again.

In rounds of its own, so that an endpoint that comes does not wait for it. Each round judges by a
judge: who may speak to whom by the rules that were in force when it was made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from services.agent.loop import Loop, Occasion, Pace
from services.agent.rules.ending import Ending
from services.agent.rules.judge import Judge
from services.common.backoff import BackoffPolicy
from services.common.model.network import Address

log = structlog.get_logger(__name__)

PACE: Final = Pace(math.inf, math.inf, BackoffPolicy(initial=0.25, maximum=15.0))


@dataclass(frozen=True, slots=True)
class Task:
    """What a round judges."""

    judge: Judge
    restricted: frozenset[Address] = frozenset()
    """Whose connections may be denied now."""
    relaxed: frozenset[Address] = frozenset()
    """Whose connections may be allowed now."""
    gone: frozenset[Address] = frozenset()
    """Addresses that are nobody's any more: their connections end."""

    def and_before(self, other: Task) -> Task:
        """All that both ask for, by this one's judge."""
        return Task(
            self.judge,
            self.restricted | other.restricted,
            self.relaxed | other.relaxed,
            self.gone | other.gone,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    ended: int


class Connections:
    """Those of this node's endpoints."""

    def __init__(
        self, driver: Ending, ended: Callable[[int], None], failed: Callable[[], None]
    ) -> None:
        """Does nothing before `run`.

        Args:
            driver: Ends them.
            ended: Is told how many connections a round has ended.
            failed: Is told of a round that failed.
        """
        self._part = _Judging(driver, ended, failed)
        self._loop: Loop[Task, Outcome] = Loop("connections", self._part, driver.run, PACE)

    def judge(self, task: Task) -> None:
        """Has connections judged by rules that are in force now. Returns at once."""
        self._part.owe(task)
        self._loop.touch()

    @property
    def error(self) -> str:
        """Why connections are not ended; empty: they are."""
        return self._loop.error

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls it after every round, in the event loop."""
        self._loop.on_change(listener)

    async def reached(self) -> None:
        """Waits until all are judged that were to be before the call. Give it a deadline."""
        if self._part.owed is not None or self._part.doing is not None:
            await self._loop.reached()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        await self._loop.run()


class _Judging:
    """What is done in rounds: see `services.agent.loop.Part`."""

    def __init__(
        self, driver: Ending, ended: Callable[[int], None], failed: Callable[[], None]
    ) -> None:
        self._driver = driver
        self._ended = ended
        self._failed = failed
        self.owed: Task | None = None
        self.doing: Task | None = None

    def owe(self, task: Task) -> None:
        """What was to be judged still is, by the newer rules."""
        self.owed = task if self.owed is None else task.and_before(self.owed)

    @property
    def due(self) -> float:
        return math.inf

    async def listen(self) -> None:
        return

    def intake(self, occasion: Occasion) -> Task | None:  # noqa: ARG002 - whenever it is
        self.doing, self.owed = self.owed, None
        return self.doing

    def perform(self, task: Task) -> Outcome:
        if task.relaxed:
            self._driver.relax(task.judge, task.relaxed)
        if not (task.restricted or task.gone):
            return Outcome(0)
        return Outcome(self._driver.sweep(task.judge, task.restricted, task.gone))

    def accept(self, task: Task, outcome: Outcome) -> bool:  # noqa: ARG002 - the outcome says it
        self.doing = None
        if outcome.ended:
            log.info("connections_cut", connections=outcome.ended)
            self._ended(outcome.ended)
        return True

    def broke(self, *, defect: bool) -> None:  # noqa: ARG002 - the same for both
        newer, self.owed, self.doing = self.owed, self.doing, None
        if newer is not None:
            self.owe(newer)
        self._failed()
