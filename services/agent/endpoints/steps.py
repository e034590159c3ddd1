"""Steps in order, and back in reverse when one fails.

A step that fails or is cut off has perhaps done a part, so its own undo runs too: an undo is right
whatever the step has come to, and repeatable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from services.agent.kernel.concurrency import meanwhile
from services.common.errors import RomanaError
from services.common.tracing import spans

log = structlog.get_logger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Step(Generic[_T]):
    """One step of a piece of work."""

    reached: str
    """Where the work is when it is done."""
    do: Callable[[_T], Awaitable[None]]
    undo: Callable[[_T], Awaitable[None]]
    ahead: Callable[[_T], Coroutine[object, object, None]] | None = None
    """What of it needs nothing of the step before: it is done at the same time as that."""


async def take_steps(
    steps: Sequence[Step[_T]], work: _T, deadline: float, passed: Callable[[str], None]
) -> None:
    """Takes all steps; when one fails, undoes what was begun, the last first, and raises.

    When an undo fails, those of the steps before are left to whoever reads the journal. It is not
    undone when the task is cancelled: that is the end of the process.

    Args:
        steps: In order.
        work: What they work on.
        deadline: When they are cut off, with TimeoutError; by the loop's clock. Undoing is not.
        passed: Is told what is reached.
    """
    begun: list[Step[_T]] = []
    try:
        async with asyncio.timeout_at(deadline):
            for number, step in enumerate(steps):
                begun += [step] if step not in begun else []
                following = steps[number + 1] if number + 1 < len(steps) else None
                if following is None or following.ahead is None:
                    with spans.child(step.reached):
                        await step.do(work)
                    passed(step.reached)
                    continue
                begun.append(following)
                async with meanwhile(_ahead(following.reached, following.ahead(work))):
                    with spans.child(step.reached):
                        await step.do(work)
                    passed(step.reached)
    except Exception:
        await _back(begun, work)
        raise


async def _ahead(reached: str, work: Coroutine[object, object, None]) -> None:
    with spans.child(f"{reached}, ahead"):
        await work


async def _back(begun: Sequence[Step[_T]], work: _T) -> None:
    for step in reversed(begun):
        try:
            await step.undo(work)
        except RomanaError as error:
            log.warning("not_undone", step=step.reached, message=error.message)
            return  # the undos before it rely on this one
