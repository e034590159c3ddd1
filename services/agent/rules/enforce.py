"""Makes the table `inet romana` equal to what endpoints and rules ask for, and keeps it so.

Level-triggered like the reconciler of routes: endpoints (`put`, `close_to`), the stream of rules
(`take`), notifications of the kernel and the clock only say "look again". One loop brings the
composer up to date, applies what is different in one transaction, and ends connections that are no
longer allowed. When the kernel does not take it, what it held still holds, and after a pause all of
it is read and compared.

Until the rules are known (from the service or the disk), a table that is there stays as it is, and
only new endpoints are closed in it; where there is none, all endpoints are closed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

import structlog

from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import Changes, Found, interface_key
from services.agent.kernel.nftables.watch import NftWatch
from services.agent.model import LocalEndpoint
from services.agent.rules.compose import Composer, Local, Refreshed
from services.agent.rules.diff import diff
from services.agent.rules.failsafe import Failsafe
from services.agent.rules.firewall import Firewall
from services.agent.rules.render import FIXED_SETS
from services.agent.rules.render_rules import Counted, Logging
from services.agent.rules.resources import Resource
from services.agent.waiters import Waiters
from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import RomanaError, WrongState
from services.common.model.names import EndpointName
from services.common.model.network import Address

log = structlog.get_logger(__name__)

RETRY: Final = BackoffPolicy(initial=0.25, maximum=15.0)
CHECK_SECONDS: Final = 30.0
"""Between looks at all of the table without a reason."""
QUICK_SECONDS: Final = 5.0
"""Between looks at whether anybody has changed anything at all."""
COUNT_SECONDS: Final = 5.0
"""How old what counters say may be."""


class Observer(Protocol):
    """Is told what was done."""

    def enforced(self, seconds: float, /) -> None:
        """A transaction was applied."""

    def enforcement_failed(self) -> None:
        """One was refused."""

    def table_repaired(self) -> None:
        """Somebody had changed the table, and it was put right."""

    def cut(self, connections: int, /) -> None:
        """Connections were ended."""


class Enforcement:
    """The one who writes to the table."""

    def __init__(
        self,
        firewall: Firewall,
        failsafe: Failsafe,
        logging: Logging | None = None,
        observer: Observer | None = None,
        *,
        check: float = CHECK_SECONDS,
        quick: float = QUICK_SECONDS,
    ) -> None:
        """Does nothing before `run`."""
        self._firewall = firewall
        self._composer = Composer(failsafe, logging)
        self._observer = observer
        self._check, self._quick = check, quick
        self._kick = asyncio.Event()
        self._known = False
        self._read_first = True
        self._heard = False
        self._sweep = False
        self._gone: set[Address] = set()
        self._in_step = False
        """The table is what the composer says: it need not be read to be changed."""
        self._others = -1
        """How many transactions others had made when the table was read last."""
        self._busy = True
        self._reaching = 0
        self._count_due = 0.0
        self._put = 1
        self._settled = 0
        self._error = ""
        self._waiters = Waiters()
        self._listeners: list[Callable[[], None]] = []
        self._counts: Mapping[str, tuple[int, int]] = {}
        self._writing = asyncio.Lock()

    # What others say ------------------------------------------------------------------------------

    async def close_to(self, name: EndpointName, interface: str) -> None:
        """Closes an interface that is about to be made; it is closed when this returns.

        Raises:
            WrongState: The kernel does not take it: do not make the interface.
        """
        self._composer.put_local(name, Local(interface))
        key = interface_key(interface)
        try:
            async with self._writing:
                if self._read_first:
                    # the loop has not come to anything yet, or the kernel refused what it did
                    await self._look()
                shape = FIXED_SETS[table_names.INTERFACES]
                await self._firewall.run(
                    lambda: self._firewall.nft.add(table_names.INTERFACES, [key], shape)
                )
        except (RomanaError, OSError) as error:
            self._read_first = True
            self._touch()
            raise WrongState(
                f"the interface of {name!r} cannot be closed, so it is not made: {error}",
                "NOT_ENFORCED",
            ) from error

    def put(self, name: EndpointName, endpoint: LocalEndpoint | None) -> None:
        """An endpoint is here, or None: not any more. Returns at once.

        The interface of one that is not here any more stays closed until `forget`.
        """
        if endpoint is None:
            self._composer.shut_local(name)
        else:
            addresses = tuple(item.address for item in endpoint.addresses)
            self._composer.put_local(name, Local(endpoint.host_interface, addresses))
        self._touch()

    def forget(self, name: EndpointName) -> None:
        """The interface of an endpoint is gone, or somebody else's. Returns at once."""
        self._composer.drop_local(name)
        self._touch()

    def take(
        self, updated: Mapping[str, Resource], removed: Collection[str], *, whole: bool
    ) -> None:
        """Takes in what the policy service says. Returns at once.

        Args:
            updated: New or changed resources by id.
            removed: Ids of those that are gone.
            whole: Nothing is missing now: the kernel may be told. So it is when there is nothing.
        """
        self._composer.update(updated, removed)
        if whole or not self._composer.resources:
            self._known = True
            self._touch()

    def look_again(self) -> None:
        """Reads the table and compares all of it. Returns at once."""
        self._read_first = True
        self._kick.set()

    # What others ask ------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the kernel holds what is asked for."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not ready, for people."""
        if self._error:
            return (self._error,)
        if not self._known:
            return ("no rules from policy yet: new endpoints are closed",)
        if not self._settled:
            return ("the table of rules is being compared",)
        return ()

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Messages by id of resources that this agent does not understand."""
        return self._composer.unreadable

    @property
    def error(self) -> str:
        """What the kernel refused last, if it still does."""
        return self._error

    @property
    def open_endpoints(self) -> int:
        """Endpoints that have their rules."""
        return self._composer.opened

    @property
    def rule_sets(self) -> int:
        """Rule sets that are known."""
        return self._composer.rule_sets

    @property
    def groups(self) -> int:
        """Address groups with members."""
        return self._composer.groups

    @property
    def counts(self) -> Mapping[str, tuple[int, int]]:
        """Packets and bytes by counter, some seconds old at most."""
        return self._counts

    @property
    def counted(self) -> Mapping[str, Counted | None]:
        """What the counters count."""
        return self._composer.counters

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls it after every round, in the event loop."""
        self._listeners.append(listener)

    async def reached(self) -> None:
        """Waits until the kernel holds all that was put and taken before the call, or refused it.

        It waits for ever while no rules are known: give it a deadline.
        """
        if self._settled < self._put:
            await self._waiters.wait(self._put)

    async def opened(self, name: EndpointName) -> None:
        """Waits until an endpoint has its rules. Give it a deadline."""
        while self._busy or not self._composer.is_open(name):
            await self._waiters.wait(0)  # the next round may have opened it

    # The loop -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until it is cancelled."""
        backoff = Backoff(RETRY, random.random)
        watch: NftWatch | None = None
        loop = asyncio.get_running_loop()
        quick = full = loop.time() + self._quick
        try:
            while True:
                try:
                    if watch is None:
                        watch = await self._listen()
                    async with self._writing:
                        await self._round(everything=loop.time() >= full)
                except (RomanaError, OSError) as error:
                    self._broke(error)
                    await asyncio.sleep(backoff.failed())
                    continue
                backoff.succeeded()
                if loop.time() >= full:
                    full = loop.time() + self._check
                quick = loop.time() + self._quick
                self._settle()
                try:
                    async with asyncio.timeout_at(min(quick, full)):
                        await self._kick.wait()
                except TimeoutError:
                    pass
                self._kick.clear()
        finally:
            if watch is not None:
                watch.close()
            await asyncio.shield(self._firewall.close())

    async def _listen(self) -> NftWatch:
        watch = await self._firewall.run(lambda: NftWatch(self._firewall.nft.port))
        watch.start(self._hear)
        return watch

    async def _round(self, *, everything: bool) -> None:
        """Applies what is new, and puts right what somebody changed."""
        self._reaching, self._busy = self._put, True
        others = await self._firewall.run(self._firewall.others)
        if self._read_first or self._heard or (everything and others != self._others):
            self._heard = False
            await self._look()
        elif self._in_step:
            refreshed = self._composer.refresh()
            self._owe(refreshed)
            if refreshed.changes:
                await self._apply(refreshed.changes)
        if self._sweep or self._gone:
            await self._end_connections()
        await self._count()

    async def _look(self) -> None:
        """Reads the table and makes it what it shall be."""
        self._read_first = True  # until it is
        others = await self._firewall.run(self._firewall.others)
        found = await self._firewall.run(self._firewall.read)
        if self._known or self._in_step or found is None:
            self._owe(self._composer.refresh())
            changes = diff(self._composer.image(), found or Found())
            if changes:
                if found is not None and self._settled:
                    log.warning("table_repaired")
                    if self._observer is not None:
                        self._observer.table_repaired()
                await self._apply(changes)
            self._in_step = True
        self._others = others
        self._read_first = False

    def _owe(self, refreshed: Refreshed) -> None:
        self._sweep = self._sweep or refreshed.restricts
        self._gone |= refreshed.gone

    async def _apply(self, changes: Changes) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        self._read_first = True  # unless it works
        await self._firewall.run(lambda: self._firewall.nft.apply(changes))
        self._read_first = False
        if self._observer is not None:
            self._observer.enforced(loop.time() - begun)
        view = self._composer.view()
        await self._firewall.run(lambda: self._firewall.relax(view))

    async def _end_connections(self) -> None:
        view, gone = self._composer.view(), frozenset(self._gone)
        ended = await self._firewall.run(lambda: self._firewall.sweep(view, gone))
        self._sweep = False
        self._gone -= gone
        if ended:
            log.info("connections_cut", connections=ended)
            if self._observer is not None:
                self._observer.cut(ended)

    async def _count(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._count_due:
            return
        self._count_due = now + COUNT_SECONDS
        counts = await self._firewall.run(self._firewall.counters)
        self._counts = {name: (count.packets, count.size) for name, count in counts.items()}

    def _settle(self) -> None:
        if self._error:
            log.info("enforcement_recovered")
            self._error = ""
        self._busy = False
        if self._known:
            self._settled = self._reaching
        self._waiters.settle(self._settled)
        for listener in self._listeners:
            listener()

    def _broke(self, error: RomanaError | OSError) -> None:
        """What is in the kernel stays; all of it is compared at the next attempt."""
        log.error("enforcement_failed", message=str(error))
        self._error = f"rules are not enforced: {error}"
        self._read_first = True
        if self._observer is not None:
            self._observer.enforcement_failed()
        for listener in self._listeners:
            listener()

    def _hear(self) -> None:
        self._heard = True
        self._kick.set()

    def _touch(self) -> None:
        self._put += 1
        self._kick.set()
