"""Life of a process: start, run until told to stop, stop in order.

    run(main) -> main(life): builds everything, starts tasks, registers stop steps, returns
                 then: wait for SIGTERM, SIGINT or the end of a task
                 then: hand over > not serving > drain streams > stop loops > release leases >
                       close channels

Tasks are eternal: one that ends, for whatever reason, is an error that ends the process, in the
same order, with a non-zero status; a supervisor starts it anew. A second signal ends it at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

import structlog
import uvloop as uvloop_library

from services.common.errors import RomanaError
from services.common.process import supervisor

log = structlog.get_logger(__name__)

LAST_CHANCE = 1.0
"""Seconds that a step still gets when those before it have used up the bound: leases are worth
releasing even after a drain that took too long."""


class Phase(enum.IntEnum):
    """When a stop step runs. Tasks are cancelled in LOOPS, before its steps."""

    HAND_OVER = 1
    NOT_SERVING = 2
    DRAIN = 3
    LOOPS = 4
    RELEASE = 5
    CLOSE = 6


@dataclass(frozen=True, slots=True)
class _Step:
    phase: Phase
    name: str
    action: Callable[[], Awaitable[None]]


class Lifecycle:
    """The tasks and the stop steps of one process."""

    def __init__(self, *, stop_timeout: float = 30.0) -> None:
        """Bounds the whole stop to `stop_timeout` seconds, and LAST_CHANCE for each late step."""
        self.stopping = asyncio.Event()
        """Set when the stop begins."""
        self._stop_timeout = stop_timeout
        self._steps: list[_Step] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._failed = False
        self._ready = False

    @property
    def failed(self) -> bool:
        return self._failed

    def start(self, name: str, work: Coroutine[object, object, None]) -> None:
        """Runs an eternal task until the LOOPS phase."""
        if self._group is None:
            work.close()
            raise RuntimeError("tasks are started by the main that is given to run")
        self._tasks[name] = self._group.create_task(self._supervise(name, work), name=name)

    def on_stop(self, phase: Phase, name: str, action: Callable[[], Awaitable[None]]) -> None:
        """Registers a stop step; within a phase the last registered runs first."""
        self._steps.append(_Step(phase, name, action))

    def ready(self) -> None:
        """Tells the supervisor, once, that this process does what it was started for."""
        if not self._ready:
            self._ready = True
            supervisor.tell(supervisor.READY)

    def request_stop(self, reason: str, *, failed: bool = False) -> None:
        """Begins the stop; returns at once."""
        self._failed = self._failed or failed
        if not self.stopping.is_set():
            log.info("stop_requested", reason=reason)
            supervisor.tell(supervisor.STOPPING)
            self.stopping.set()

    async def serve(self, main: Callable[[Lifecycle], Awaitable[None]]) -> None:
        """Runs `main`, waits for the stop and performs it. Errors are logged, not raised."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await self._set_up(main)
                await self.stopping.wait()
            finally:
                await self._stop()

    async def _set_up(self, main: Callable[[Lifecycle], Awaitable[None]]) -> None:
        setup = asyncio.ensure_future(main(self))
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({setup, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not setup.done():
                setup.cancel()
            await setup
        except asyncio.CancelledError:
            if not setup.cancelled() or not self.stopping.is_set():
                setup.cancel()
                raise
        except RomanaError as error:
            log.error("start_failed", message=error.message, reason=error.reason)  # noqa: TRY400
            self.request_stop("start_failed", failed=True)
        except Exception:
            log.exception("start_failed")
            self.request_stop("start_failed", failed=True)
        finally:
            stop.cancel()

    async def _supervise(self, name: str, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("task_failed", task=name)
        else:
            log.error("task_ended", task=name)
        self.request_stop(f"task {name}", failed=True)

    async def _stop(self) -> None:
        deadline = asyncio.get_running_loop().time() + self._stop_timeout
        for phase in Phase:
            if phase is Phase.LOOPS:
                await self._stop_tasks(deadline)
            for step in reversed([step for step in self._steps if step.phase is phase]):
                await self._perform(step, deadline)
        log.info("stopped", failed=self._failed)

    async def _perform(self, step: _Step, deadline: float) -> None:
        remaining = deadline - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(remaining, LAST_CHANCE)):
                await step.action()
        except TimeoutError:
            log.error("stop_step_timed_out", step=step.name, phase=step.phase.name)  # noqa: TRY400
            self._failed = True
        except Exception:
            log.exception("stop_step_failed", step=step.name, phase=step.phase.name)
            self._failed = True
        else:
            log.debug("stop_step_done", step=step.name, phase=step.phase.name)

    async def _stop_tasks(self, deadline: float) -> None:
        running = {task for task in self._tasks.values() if not task.done()}
        for task in running:
            task.cancel()
        if not running:
            return
        remaining = deadline - asyncio.get_running_loop().time()
        _, stuck = await asyncio.wait(running, timeout=max(remaining, LAST_CHANCE))
        for task in stuck:
            log.error("task_does_not_stop", task=task.get_name())
            self._failed = True


def run(
    main: Callable[[Lifecycle], Awaitable[None]],
    *,
    uvloop: bool = False,
    stop_timeout: float = 30.0,
) -> int:
    """Runs a process to its end.

    Returns:
        The exit status: 0 after an orderly stop on a signal, 1 when anything failed.
    """
    factory = uvloop_library.new_event_loop if uvloop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_run(main, stop_timeout))


async def _run(main: Callable[[Lifecycle], Awaitable[None]], stop_timeout: float) -> int:
    life = Lifecycle(stop_timeout=stop_timeout)
    loop = asyncio.get_running_loop()

    def received(number: signal.Signals) -> None:
        if life.stopping.is_set():
            log.warning("stop_forced", signal=number.name)
            os._exit(128 + number)
        life.request_stop(number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received, number)
    try:
        await life.serve(main)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(RuntimeError):
                loop.remove_signal_handler(number)
    return 1 if life.failed else 0
