"""Makes the table `inet romana` equal to what endpoints and rules ask for, and keeps it so.

Endpoints (`put`, `close_to`), the stream of rules (`update`), notifications of the kernel and the
clock are taken in at once; `services.agent.loop` has what they ask done in rounds, each of which
applies what is different in one transaction. Connections that are no longer allowed are ended in
rounds of their own. When the kernel does not take a transaction, what it held still holds, and
after a pause all of it is read and compared.

Until the rules are known (from the service or the disk), a table that is there stays as it is, and
only new endpoints are closed in it; where there is none, all endpoints are closed.

Who wakes whom: each of these touches the loop, and a change of the table by others (`NftWatch`)
wakes it; the loop wakes attaches that wait in `opened` and the stream that waits in `reached`, and,
if connections may be denied now, the loop of `connections`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

import structlog

from services.agent.kernel.conntrack import TcpConnection
from services.agent.kernel.nftables.table import Changes
from services.agent.kernel.nftables.watch import NftWatch
from services.agent.loop import Loop, Occasion, Pace
from services.agent.model import LocalEndpoint
from services.agent.rules import connections
from services.agent.rules.compose import Composer, LocalInterface, TableChange
from services.agent.rules.connections import Connections
from services.agent.rules.device_chains import LegCounted, RuleCopied, RuleLed
from services.agent.rules.device_legs import Around
from services.agent.rules.ending import Ending
from services.agent.rules.firewall import Firewall
from services.agent.rules.in_kernel import InKernel, compare
from services.agent.rules.render_rules import Counted, Logging
from services.agent.rules.resources import Resource
from services.agent.rules.round import Counts, Outcome, Task, perform
from services.common.backoff import BackoffPolicy
from services.common.errors import WrongState
from services.common.model.devices import DeviceGroupName, DeviceRules
from services.common.model.failsafe import Failsafe
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


class EnforcementObserver(Protocol):
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
        ending: Ending,
        failsafe: Failsafe,
        logging: Logging | None = None,
        observer: EnforcementObserver | None = None,
        *,
        check: float = CHECK_SECONDS,
        quick: float = QUICK_SECONDS,
    ) -> None:
        """Does nothing before `run`."""
        self._firewall = firewall
        self._ending = ending
        self._connections = Connections(
            ending,
            observer.cut if observer else lambda _: None,
            observer.enforcement_failed if observer else lambda: None,
        )
        self._part = _Rules(firewall, Composer(failsafe, logging), self._connections, observer)
        pace = Pace(quick, check, RETRY)
        self._loop: Loop[Task, Outcome] = Loop("rules", self._part, firewall.run, pace)
        self._part.wake = self._loop.wake
        self._parts: dict[str, Resource | None] = {}
        """Of a change that is not whole; None: gone."""

    # What others say ------------------------------------------------------------------------------

    async def close_to(self, name: EndpointName, interface: str) -> None:
        """Closes an interface that is about to be made; it is closed when this returns.

        Raises:
            WrongState: The kernel does not take it: do not make the interface.
        """
        self._part.composer.put_local(name, LocalInterface(interface))
        self._loop.touch()
        if error := await self._loop.tried():
            raise WrongState(
                f"the interface of {name!r} cannot be closed, so it is not made: {error}",
                "NOT_ENFORCED",
            )

    def put(self, name: EndpointName, endpoint: LocalEndpoint | None) -> None:
        """An endpoint is here, or None: not any more. Returns at once.

        The interface of one that is not here any more stays closed until `forget`.
        """
        if endpoint is None:
            self._part.composer.shut_local(name)
        else:
            addresses = tuple(item.address for item in endpoint.addresses)
            local = LocalInterface(
                endpoint.host_interface,
                addresses,
                endpoint.mac,
                endpoint.instance,
                dhcp=endpoint.dhcp,
            )
            self._part.composer.put_local(name, local)
        self._loop.touch()

    def forget(self, name: EndpointName) -> None:
        """The interface of an endpoint is gone, or somebody else's. Returns at once."""
        self._part.composer.drop_local(name)
        self._loop.touch()

    def set_around(self, around: Around) -> None:
        """What is known of networks' links, and of the devices there. Returns at once."""
        self._part.composer.set_around(around)
        self._loop.touch()

    def update(
        self, updated: Mapping[str, Resource], removed: Collection[str], *, whole: bool
    ) -> None:
        """Takes in what the policy service says. Returns at once.

        Args:
            updated: New or changed resources by id.
            removed: Ids of those that are gone.
            whole: Nothing is missing now: the kernel may be told.
        """
        self._parts.update(dict.fromkeys(removed))
        self._parts.update(updated)
        if not whole:
            return  # no round may see a part
        parts, self._parts = self._parts, {}
        self._part.composer.update(
            {name: value for name, value in parts.items() if value is not None},
            [name for name, value in parts.items() if value is None],
        )
        self._part.known = True
        self._loop.touch()

    def replace(self, resources: Mapping[str, Resource]) -> None:
        """Takes in all that the policy service has said, whatever was taken in. Returns at once."""
        self._parts = {}
        self._part.begin_anew(resources)
        self._part.known = True
        self._loop.touch()

    # What others ask ------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the kernel holds what is asked for."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not ready, for people."""
        if self.error:
            return (self.error,)
        if not self._part.known:
            return ("no rules from policy yet: new endpoints are closed",)
        if not self._loop.settled:
            return ("the table of rules is being compared",)
        return ()

    @property
    def known(self) -> bool:
        """Whether it is known what the rules are."""
        return self._part.known

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Messages by id of resources that this agent does not understand."""
        return self._part.composer.unreadable

    @property
    def error(self) -> str:
        """What the kernel refused last, if it still does."""
        if self._loop.error:
            return f"rules are not enforced: {self._loop.error}"
        if self._connections.error:
            return f"connections are not ended: {self._connections.error}"
        return ""

    @property
    def devices(self) -> Sequence[DeviceRules]:
        """Groups of devices that are known."""
        return self._part.composer.devices

    @property
    def copied_groups(self) -> Collection[DeviceGroupName]:
        """Groups of devices that get copies."""
        return self._part.composer.copied_groups

    @property
    def unknown_devices(self) -> int:
        """How many devices on networks of this node have never answered."""
        return self._part.composer.unknown_devices

    @property
    def open_endpoints(self) -> int:
        """Endpoints that have their rules."""
        return self._part.composer.opened

    @property
    def rule_sets(self) -> int:
        """Rule sets that are known."""
        return self._part.composer.rule_sets

    @property
    def groups(self) -> int:
        """Address groups with members."""
        return self._part.composer.groups

    @property
    def counts(self) -> Mapping[str, tuple[int, int]]:
        """Packets and bytes by counter, some seconds old at most."""
        return self._part.counts

    @property
    def counted(self) -> Mapping[str, Counted | LegCounted | RuleLed | RuleCopied | None]:
        """What the counters count."""
        return self._part.composer.counters

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls it after every round, in the event loop."""
        self._loop.on_change(listener)
        self._connections.on_change(listener)

    async def reached(self) -> None:
        """Waits until the kernel holds all that was put and taken before the call, and what it does
        not allow has ended.

        It waits for ever while no rules are known: give it a deadline.
        """
        await self._loop.reached()
        await self._connections.reached()

    async def opened(self, name: EndpointName) -> None:
        """Waits until an endpoint has its rules. Give it a deadline."""
        while not (self._loop.quiet and self._part.composer.is_open(name)):
            await self._loop.next()

    async def connections_of(self, addresses: Collection[Address]) -> Sequence[TcpConnection]:
        """What the kernel tracks of endpoints; raises KernelUnavailable."""
        return await self._ending.run(lambda: self._ending.tcp_of(frozenset(addresses)))

    async def go_on(self, connections: Sequence[TcpConnection]) -> None:
        """Goes on with connections that other kernels tracked, if the rules that are known now
        allow them; raises KernelUnavailable.

        What rules deny that come meanwhile is ended after that, in the same thread.
        """
        judge = self._part.composer.judge()
        await self._ending.run(lambda: self._ending.go_on(judge, connections))

    async def in_kernel(self) -> InKernel | None:
        """What the kernel has, beside what it shall have as of the last round; raises
        KernelUnavailable. None: it is not known yet what that is."""
        firewall, composer = self._firewall, self._part.composer
        image, counted = composer.image(), dict(composer.counters)
        if not self._part.known or not image.chains:
            return None
        # in turn with rounds, so that what is seen is never half of one
        found, counts = await firewall.run(lambda: (firewall.read(), firewall.counts()))
        return await asyncio.to_thread(compare, image, counted, found, counts)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._loop.run())
                group.create_task(self._connections.run())
        finally:
            self._part.close()
            await asyncio.shield(self._close())

    async def _close(self) -> None:
        await self._ending.close()
        await self._firewall.close()


class _Rules:
    """What is done in rounds: see `services.agent.loop.Part`."""

    def __init__(
        self,
        firewall: Firewall,
        composer: Composer,
        judging: Connections,
        observer: EnforcementObserver | None,
    ) -> None:
        self._firewall = firewall
        self.composer = composer
        self._connections = judging
        self._observer = observer
        self._watch: NftWatch | None = None
        self._others = -1
        self._stands = False
        self._judged: connections.Task | None = None
        self._count_due = 0.0
        self._settled = False
        self.wake: Callable[[], None] = lambda: None
        self.known = False
        """It is known what the rules are."""
        self.read = True
        """The table is not known to be what was said last."""
        self.counts: Counts = {}

    @property
    def due(self) -> float:
        return -math.inf if self.read else math.inf

    async def listen(self) -> None:
        self._watch = await self._firewall.run(lambda: NftWatch(self._firewall.nft.port))
        self._watch.start(self._heard)

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()

    def intake(self, occasion: Occasion) -> Task:
        composer = self.composer
        read = self.read or (self._stands and self.known)
        changes = Changes()
        if not self._stands or self.known:
            refreshed = composer.refresh()
            changes = refreshed.changes
            self._note(refreshed)
        self.read = False
        return Task(
            changes,
            composer.image() if read else None,
            self.known,
            () if self.known else composer.interfaces(),
            self._others if occasion.full else None,
            occasion.now >= self._count_due,
        )

    def _note(self, done: TableChange) -> None:
        """Has connections judged once the table is what is asked for."""
        if done.restricted or done.relaxed or done.gone:
            concerned = map(frozenset, (done.restricted, done.relaxed, done.gone))
            task = connections.Task(self.composer.judge(), *concerned)
            self._judged = task if self._judged is None else task.and_before(self._judged)

    def perform(self, task: Task) -> Outcome:
        return perform(self._firewall, task)

    def accept(self, task: Task, outcome: Outcome) -> bool:
        self.read = self.read or outcome.strange
        self._stands = outcome.stands
        if outcome.others is not None:
            self._others = outcome.others
        if outcome.repaired and self._settled:
            log.warning("table_repaired")
            if self._observer is not None:
                self._observer.table_repaired()
        if outcome.applied is not None and self._observer is not None:
            self._observer.enforced(outcome.applied)
        if outcome.counts is not None:
            self.counts = outcome.counts
            self._count_due = asyncio.get_running_loop().time() + COUNT_SECONDS
        if self._judged is not None:
            self._connections.judge(self._judged)
            self._judged = None
        self._settled = self._settled or task.known
        return task.known

    def broke(self, *, defect: bool) -> None:
        """What is in the kernel stays; all of it is compared at the next attempt."""
        if defect:
            self.begin_anew(self.composer.resources)
        self.read = True
        if self._observer is not None:
            self._observer.enforcement_failed()

    def begin_anew(self, resources: Mapping[str, Resource]) -> None:
        """Forgets all but endpoints and these resources."""
        self.composer = self.composer.anew(resources)
        self.read = True

    def _heard(self) -> None:
        self.read = True
        self.wake()
