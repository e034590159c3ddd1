"""The loop by which the kernel is made equal to what is asked for, of routes, rules and the rest.

    intake    in the event loop, at once: what is new becomes an immutable task
    perform   in a thread: the task meets the kernel; an outcome
    accept    in the event loop, at once: the outcome becomes what is known

Only the task and the outcome cross an await, so whatever is asked for meanwhile belongs to the next
round and changes nothing under this one's hands. Level-triggered: `touch` and `wake` say "look
again", never what to do. What is asked for is counted in generations, and one counts as settled
only when an outcome says that all of it is done. An error, expected or not, is told and shown, and
the round is tried again after a while: the loop itself never ends.

Who wakes whom: a part that was told something calls `touch`, one that heard something of the kernel
`wake`; either wakes the loop's task, which sleeps until then or until the next look is due. The
thread wakes it with the outcome, and that wakes all that wait in `reached`.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from services.agent.kept import defect
from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import RomanaError
from services.common.tracing import spans

log = structlog.get_logger(__name__)

T = TypeVar("T")
O = TypeVar("O")  # noqa: E741 - beside T


@dataclass(frozen=True, slots=True)
class Occasion:
    """When a round begins, and whether the clock asks for it."""

    now: float
    """By the event loop's clock."""
    quick: bool
    """It is time to look at what is cheap to read."""
    full: bool
    """It is time to look at everything."""


class Part(Protocol[T, O]):
    """What is done in rounds. Methods but `perform` and `listen` return at once."""

    @property
    def due(self) -> float:
        """When a round is wanted, by the event loop's clock; infinite: when somebody asks."""

    async def listen(self) -> None:
        """Opens what is needed, once; whatever it hears calls `Loop.wake`."""

    def intake(self, occasion: Occasion, /) -> T | None:
        """Takes in what is new as an immutable task; None: it is not known yet what shall be."""

    def perform(self, task: T, /) -> O:
        """Does it, in the thread; knows nothing but the task and what belongs to the thread."""

    def accept(self, task: T, outcome: O, /) -> bool:
        """Takes over what came of it; says whether all is done that was asked for before it."""

    def broke(self, *, defect: bool) -> None:
        """Nothing is known of what the kernel holds now; `defect`: nor whether what is remembered
        beside what was asked for is right."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between rounds that nobody asks for, and after errors."""

    quick: float
    full: float
    retry: BackoffPolicy


class Loop(Generic[T, O]):
    """Runs the rounds of one part."""

    def __init__(
        self,
        name: str,
        part: Part[T, O],
        thread: Callable[[Callable[[], O]], Coroutine[object, object, O]],
        pace: Pace,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Does nothing before `run`.

        Args:
            name: For the log.
            part: What is done.
            thread: Does something in the part's thread; when cancelled, it ends after that.
            pace: How often.
            draw: Numbers of [0, 1) for the back-off.
        """
        self._name = name
        self._part = part
        self._thread = thread
        self._pace = pace
        self._backoff = Backoff(pace.retry, draw)
        self._kick = asyncio.Event()
        self._asked = 1
        self._asked_by: dict[str, None] = {}
        """Spans that something was asked for in."""
        self._begun = 0
        self._settled = 0
        self._rounds = 0
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._urgent = False
        self._performing = False
        self._error = ""
        self._listeners: list[Callable[[], None]] = []

    # Asking ---------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Something is asked for that was not before. Returns at once."""
        self._asked += 1
        if span := spans.current():
            self._asked_by[span] = None
        self._kick.set()

    def wake(self) -> None:
        """Looks anew when the next round is due. Returns at once."""
        self._kick.set()

    # Knowing --------------------------------------------------------------------------------------

    @property
    def error(self) -> str:
        """Why the last round failed; empty: it did not."""
        return self._error

    @property
    def settled(self) -> bool:
        """Whether all that was asked for at some time was done."""
        return self._settled > 0

    @property
    def quiet(self) -> bool:
        """Whether what was taken in last is done: no round is under way or failed."""
        return self._begun > 0 and not self._performing and not self._error

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls it after every round, in the event loop."""
        self._listeners.append(listener)

    async def reached(self) -> None:
        """Waits until all is done that was asked for before the call. Give it a deadline."""
        asked = self._asked
        await self._until(lambda: self._settled >= asked)

    async def tried(self) -> str:
        """Waits for a round that begins after the call, now and not after any back-off.

        Returns:
            Why it failed; empty: it did not.
        """
        needed = self._rounds + (2 if self._performing else 1)
        self._urgent = True
        self._kick.set()
        await self._until(lambda: self._rounds >= needed)
        return self._error

    async def next(self) -> None:
        """Waits for the end of a round, whatever comes of it. Give it a deadline."""
        rounds = self._rounds
        await self._until(lambda: self._rounds > rounds)

    async def _until(self, holds: Callable[[], bool]) -> None:
        if not holds():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((holds, future))
            await future

    # The loop -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until it is cancelled; then what is being performed has come to its end."""
        clock = asyncio.get_running_loop().time
        quick = full = not_before = clock()
        listening = idle = False
        while True:
            await self._pause(quick, full, not_before, idle=idle)
            occasion = Occasion(clock(), clock() >= quick, clock() >= full)
            try:
                if not listening:
                    await self._part.listen()
                    listening = True
                idle = await self._round(occasion)
            except Exception as error:  # noqa: BLE001 - the top of the loop: shown, counted, tried again
                not_before = clock() + self._backoff.failed()
                self._broke(error)
                continue
            self._backoff.succeeded()
            quick = clock() + self._pace.quick
            if idle:
                full = quick
            elif occasion.full:
                full = clock() + self._pace.full

    async def _pause(self, quick: float, full: float, not_before: float, *, idle: bool) -> None:
        """Waits until a round is wanted.

        `idle`: the part did not know yet what shall be. When it was due may long be past, and
        would be so for ever: it has to be asked.
        """
        clock = asyncio.get_running_loop().time
        while not self._urgent:
            asked = -math.inf if self._asked > self._begun else math.inf
            wanted = math.inf if idle else self._part.due
            due = max(not_before, min(quick, full, wanted, asked))
            if due <= clock():
                return
            self._kick.clear()
            try:
                async with asyncio.timeout_at(due):
                    await self._kick.wait()
            except TimeoutError:
                pass

    async def _round(self, occasion: Occasion) -> bool:
        """One round; says whether there is nothing to be done as yet."""
        self._urgent = False
        asked = self._begun = self._asked
        task = self._part.intake(occasion)
        if task is None:
            self._ended()
            return True
        self._performing = True
        asked_by, self._asked_by = self._asked_by, {}
        try:
            with spans.shared(f"kernel: {self._name}", asked_by):
                outcome = await self._thread(lambda: self._part.perform(task))
        finally:
            self._performing = False
        if self._part.accept(task, outcome):
            self._settled = asked
        if self._error:
            log.info("recovered", loop=self._name)
            self._error = ""
        self._ended()
        return False

    def _broke(self, error: Exception) -> None:
        unexpected = not isinstance(error, (RomanaError, OSError))
        if unexpected:
            log.error("round_failed", loop=self._name, exc_info=error)
            self._error = defect(self._name, error)
        else:
            log.error("round_failed", loop=self._name, message=str(error))
            self._error = str(error)
        self._begun = 0
        self._part.broke(defect=unexpected)
        self._ended()

    def _ended(self) -> None:
        self._rounds += 1
        waiting, self._waiting = self._waiting, []
        for holds, future in waiting:
            if future.done():
                continue
            if holds():
                future.set_result(None)
            else:
                self._waiting.append((holds, future))
        for listener in self._listeners:
            try:
                listener()
            except Exception:
                log.exception("listener_failed", loop=self._name)
