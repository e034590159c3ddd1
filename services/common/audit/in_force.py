"""Notes when all nodes had applied a change: asked of what agents acknowledge anyway.

A few of the latest changes are looked at, and not for ever: so it costs nothing when nothing
changes, and a bounded amount when much does. Every replica looks, a moment after a change, so as
not to stand in the way of telling agents of it; the first one writes it down.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from services.common.audit.record import InForceRecord
from services.common.audit.trail import AuditTrail, Change
from services.common.errors import RomanaError
from services.common.etcd.types import Revision

log = structlog.get_logger(__name__)

PAUSE_SECONDS: Final = 0.25
"""From a change to the first look, and between looks while it is on its way; longer as it takes
longer."""
PAUSE_SECONDS_MOST: Final = 5.0
LOOKED_AT_MOST: Final = 16
"""Changes, the latest ones."""
SEEN_MOST: Final = 64
"""Changes among which those are looked for."""
GIVE_UP_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a change is."""

    nodes: int
    """That it concerns."""
    late: int
    """Of these, that have not applied it."""


Ask = Callable[[Sequence[Revision]], Awaitable[Sequence[Reach]]]
"""How far changes are; raises RomanaError."""


class InForceNotes:
    """Notes it for the changes of some services."""

    def __init__(
        self,
        trail: AuditTrail,
        services: Collection[str],
        ask: Ask,
        on_note: Callable[[Revision, InForceRecord], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`on_note` is told of what this replica wrote down."""
        self._trail = trail
        self._services = frozenset(services)
        self._ask = ask
        self._on_note = on_note
        self._clock = clock

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            changed = asyncio.ensure_future(self._trail.changed())
            try:
                pause = await self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await changed
                    await asyncio.sleep(PAUSE_SECONDS)  # agents are being told of it just now
            finally:
                changed.cancel()

    async def _look(self) -> float | None:
        """Notes what is in force; returns when to look again, None: when something changes."""
        waiting = self._waiting()
        if not waiting:
            return None
        try:
            reached = await self._ask([one.revision for one in waiting])
            now = self._clock()
            for change, reach in zip(waiting, reached, strict=True):
                if not reach.late:
                    record = InForceRecord(int(now * 1000), reach.nodes)
                    if await self._trail.note_in_force(change.revision, record):
                        self._on_note(change.revision, record)
        except RomanaError as error:
            log.debug("in_force_not_asked", why=error.message)
        age = self._clock() - waiting[0].record.at / 1000
        return min(max(PAUSE_SECONDS, age / 10), PAUSE_SECONDS_MOST)

    def _waiting(self) -> list[Change]:
        """The newest first."""
        youngest = (self._clock() - GIVE_UP_SECONDS) * 1000
        found: list[Change] = []
        for change in itertools.islice(self._trail.newest_first(), SEEN_MOST):
            if change.record.at < youngest or len(found) == LOOKED_AT_MOST:
                break
            if change.service in self._services and self._trail.in_force(change.revision) is None:
                found.append(change)
        return found
