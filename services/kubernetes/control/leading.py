"""What the one replica does that is elected: it tells Romana's services what the cluster has.

Each service has a loop of its own, so that one that is away keeps nobody else waiting. A loop
begins with everything, and with what the service has that the cluster has not; then come changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Final, Protocol, TypeVar

import structlog

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import RomanaError
from services.kubernetes.cluster.lease import LeaseElection
from services.kubernetes.control.followed import Followed

log = structlog.get_logger(__name__)

RETRY: Final = BackoffPolicy(initial=0.1, maximum=5.0)
ALL_SECONDS: Final = 600.0
"""Between two comparisons of everything without a reason."""
POSTPONED_SECONDS: Final = 10.0
"""Until what was postponed is tried again, however much else there is to tell."""


class Teller(Protocol):
    """Tells one service. What fails for good is postponed; what fails for now is raised."""

    def mark_all(self) -> None:
        """Everything has to be told anew."""

    async def mark_strays(self) -> None:
        """What the service has of ours and the cluster has not has to be taken back. Something else
        may be told meanwhile."""

    def mark_postponed(self) -> None:
        """What was postponed has to be tried again."""

    def stand_by(self) -> None:
        """Another replica tells now: nothing is kept of what it has to, since a term begins with
        everything."""

    async def tell(self) -> bool:
        """Tells some of it; whether there is more."""
        ...


T = TypeVar("T", bound=Teller)


class Leading:
    """The loops of the elected replica."""

    def __init__(self, election: LeaseElection, followed: Followed) -> None:
        self._election = election
        self._followed = followed
        self._tellers: dict[str, tuple[Teller, asyncio.Event]] = {}
        self._others: dict[str, Callable[[], Coroutine[object, object, None]]] = {}
        self._leads = False

    def add(self, service: str, make: Callable[[Callable[[], None]], T]) -> T:
        """Adds a teller, which is made with what it calls when there is something to tell."""
        kick = asyncio.Event()

        def changed() -> None:
            if self._leads:
                kick.set()
            else:
                teller.stand_by()

        teller = make(changed)
        self._tellers[service] = (teller, kick)
        return teller

    def also(self, name: str, work: Callable[[], Coroutine[object, object, None]]) -> None:
        """Has something else done by the elected replica, for ever."""
        self._others[name] = work

    def kick(self) -> None:
        """Looks whether there is something to tell. Returns at once."""
        for _, kick in self._tellers.values():
            kick.set()

    async def run(self) -> None:
        """Leads whenever it is this replica's turn, for ever."""
        await self._followed.in_sync()
        while True:
            await self._election.until(leading=True)
            self._leads = True
            lead = asyncio.create_task(self._lead())
            over = asyncio.create_task(self._election.until(leading=False))
            try:
                await asyncio.wait({lead, over}, return_when=asyncio.FIRST_COMPLETED)
                if lead.done():
                    await lead  # a defect
            finally:
                lead.cancel()
                over.cancel()
                await asyncio.gather(lead, over, return_exceptions=True)
                self._leads = False
                for teller, _ in self._tellers.values():
                    teller.stand_by()

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as group:
            for service, (teller, kick) in self._tellers.items():
                group.create_task(self._tell(service, teller, kick), name=f"tell {service}")
            for name, work in self._others.items():
                group.create_task(work(), name=name)

    async def _tell(self, service: str, teller: Teller, kick: asyncio.Event) -> None:
        await self._compare(service, teller)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_changes(service, teller, kick))
            group.create_task(self._compare_again(service, teller, kick))

    async def _compare(self, service: str, teller: Teller) -> None:
        backoff = Backoff(RETRY, random.random)
        while True:
            try:
                teller.mark_all()
                await teller.mark_strays()
            except RomanaError as error:
                log.warning("not_compared", service=service, message=error.message)
                await asyncio.sleep(backoff.failed())
            else:
                return

    async def _compare_again(self, service: str, teller: Teller, kick: asyncio.Event) -> None:
        """Beside what is told: to read all that a service has takes seconds in a large cluster."""
        while True:
            await asyncio.sleep(ALL_SECONDS)
            await self._compare(service, teller)
            kick.set()

    async def _tell_changes(self, service: str, teller: Teller, kick: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff(RETRY, random.random)
        postponed = loop.time() + POSTPONED_SECONDS
        while True:
            kick.clear()
            try:
                if loop.time() >= postponed:
                    teller.mark_postponed()
                    postponed = loop.time() + POSTPONED_SECONDS
                more = await teller.tell()
            except RomanaError as error:
                log.warning("not_told", service=service, message=error.message)
                await asyncio.sleep(backoff.failed())
                continue
            backoff.succeeded()
            if more:
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(postponed):
                    await kick.wait()
