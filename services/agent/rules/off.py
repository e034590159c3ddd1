"""Takes the table `inet romana` away where no policy is to be enforced.

What an agent enforced before must not go on, since nobody would change it any more.

The agent is not ready before it is gone.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

import structlog

from services.agent.kernel.netlink import KernelUnavailable
from services.agent.loop import Loop, Occasion, Pace
from services.agent.rules.firewall import Firewall
from services.common.backoff import BackoffPolicy

log = structlog.get_logger(__name__)

PACE: Final = Pace(math.inf, math.inf, BackoffPolicy(initial=0.25, maximum=15.0))


class Off:
    """The part of an agent that enforces nothing."""

    def __init__(self, firewall: Firewall, forget: Callable[[], None]) -> None:
        """Does nothing before `run`.

        Args:
            firewall: For its thread.
            forget: Removes what is on disk of rules; called in the thread, may raise OSError.
        """
        self._firewall = firewall
        self._loop: Loop[Occasion, bool] = Loop(
            "no rules", _Removing(firewall, forget), firewall.run, PACE
        )

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the agent is not ready, for people."""
        if self._loop.error:
            return (f"policies are off, and the table of rules stays: {self._loop.error}",)
        return () if self._loop.settled else ("the table of rules is being removed",)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls it after every round, in the event loop."""
        self._loop.on_change(listener)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        try:
            await self._loop.run()
        finally:
            await asyncio.shield(self._firewall.close())


class _Removing:
    """What is done in rounds: see `services.agent.loop.Part`."""

    def __init__(self, firewall: Firewall, forget: Callable[[], None]) -> None:
        self._firewall = firewall
        self._forget = forget

    @property
    def due(self) -> float:
        return math.inf

    async def listen(self) -> None:
        return

    def intake(self, occasion: Occasion) -> Occasion:
        return occasion

    def perform(self, task: Occasion) -> bool:  # noqa: ARG002 - the same at any time
        self._forget()
        try:
            nft = self._firewall.nft
        except KernelUnavailable:
            return False  # without nf_tables there is none
        return nft.remove()

    def accept(self, task: Occasion, outcome: bool) -> bool:  # noqa: ARG002, FBT001 - of a loop
        if outcome:
            log.warning("table_removed", reason="policies are off")
        return True

    def broke(self, *, defect: bool) -> None:  # noqa: ARG002 - nothing is remembered
        return
