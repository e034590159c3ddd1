"""Makes the kernel equal to what is asked for, and keeps it so.

Level-triggered: the stream (`set_remote`), endpoints (`put_endpoint`), notifications of the kernel
and the clock all say only "look again". One loop then plans, compares, applies and verifies; what
it does depends on the state now and never on how it came about.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Protocol

import structlog

from services.agent.kernel import endpoint_names
from services.agent.kernel.drivers import Kernel
from services.agent.kernel.numbers import Numbers
from services.agent.kernel.state import InterfaceAddress, Key, Kind, Look, State
from services.agent.kernel.watch import ALL, QUICK, Heard, Watch
from services.agent.model import LocalEndpoint, Myself, Remote
from services.agent.routing.plan import Desired, Wanted
from services.agent.routing.prefixes import Changed, PrefixRoutes
from services.agent.routing.reconcile_round import Outcome, Task, Trouble, perform
from services.agent.waiters import Waiters
from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import RomanaError
from services.common.model.names import EndpointName
from services.common.model.node import Attachment

log = structlog.get_logger(__name__)

RETRY: Final = BackoffPolicy(initial=0.5, maximum=30.0)
QUICK_SECONDS: Final = 5.0
"""How often what is cheap to read is read again: of some of it, such as proxy entries, the kernel
says nothing when they go."""
HEARD_SECONDS: Final = 0.05
"""From a notification of the kernel to the round for it: one link that is made or deleted makes a
dozen. What is asked for does not wait."""
ENDPOINT_SECONDS: Final = 0.5
"""The same for endpoints' links, which come and go all the time, mostly by our own threads' doing:
what is asked for with them has its round already."""


class Observer(Protocol):
    """Is told what was done."""

    def reconciled(self, outcome: Outcome, seconds: float, /) -> None:
        """A round is done."""

    def failed(self) -> None:
        """A round ended by an error."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds between looks at the kernel without a reason."""

    full: float = 30.0
    quick: float = QUICK_SECONDS


@dataclass(slots=True)
class _Retry:
    """An object that the kernel refused."""

    trouble: Trouble
    backoff: Backoff
    due: float


class Reconciler:
    """The one who writes to the kernel: routes, rules, proxies, nexthops, sysctls, VLAN links."""

    def __init__(
        self,
        kernel: Kernel,
        myself: Myself,
        *,
        attachments_known: bool = True,
        made_addresses: Mapping[str, frozenset[InterfaceAddress]] | None = None,
        numbers: Numbers | None = None,
        keep_numbers: Callable[[Numbers], None] = lambda _: None,
        timing: Timing | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Does nothing before `run`.

        Args:
            kernel: Not started yet.
            myself: This node.
            attachments_known: Whether `myself` has all attachments; else no link is removed before
                `set_attachments`.
            made_addresses: Addresses of links that we make, by interface.
            numbers: Table numbers and nexthop ids from before.
            keep_numbers: Writes them to disk; called in the kernel's thread.
            timing: When to look at the kernel without being told.
            observer: Is told how it goes.
        """
        self._kernel = kernel
        self._myself = myself
        self._attachments_known = attachments_known
        self._made_addresses = made_addresses or {}
        self._numbers = numbers or Numbers.none()
        self._keep_numbers = keep_numbers
        self._timing = timing or Timing()
        self._observer = observer
        self._memory = PrefixRoutes()

        self._remote: Remote | None = None
        self._endpoints: dict[EndpointName, LocalEndpoint] = {}
        self._changed: Changed = None
        self._dirty = ALL
        self._down: frozenset[int] = frozenset()
        self._kick = asyncio.Event()
        self._kick_later: asyncio.TimerHandle | None = None
        self._heard_endpoints = False
        self._look: set[str] | None = None

        self._generation = 1
        self._settled = 0
        self._waiters = Waiters()
        self._actual = State()
        self._desired: Desired | None = None
        self._retries: dict[tuple[Kind, Key], _Retry] = {}
        self._error = ""
        self._listeners: list[Callable[[], None]] = []
        self._others_reasons: Callable[[], tuple[str, ...]] = lambda: ()
        self._tell: Callable[[EndpointName, LocalEndpoint | None], None] = lambda *_: None

    # What others say -----------------------------------------------------------------------------

    def set_remote(self, remote: Remote, changed: Changed = None) -> None:
        """Takes over what ipam says: from now on the kernel is written to. Returns at once.

        Args:
            remote: All of it; never changed afterwards.
            changed: Keys of `remote.routes` that are not as in the call before; None: any.
        """
        if changed is None or self._changed is None:
            self._changed = None
        else:
            self._changed = {*self._changed, *changed}
        self._remote = remote
        self._touch()

    def put_endpoint(self, endpoint: LocalEndpoint) -> None:
        """Adds or changes an endpoint; its host interface should be there. Returns at once."""
        self._look_at(endpoint)
        before = self._endpoints.get(endpoint.name)
        if before is not None:
            self._look_at(before)
        self._endpoints[endpoint.name] = endpoint
        self._tell(endpoint.name, endpoint)
        self._touch()

    def remove_endpoint(self, name: EndpointName) -> None:
        """Forgets an endpoint, if there is one. Returns at once."""
        before = self._endpoints.pop(name, None)
        if before is not None:
            self._look_at(before)
            self._touch()
        self._tell(name, None)

    def set_endpoints(self, endpoints: Mapping[EndpointName, LocalEndpoint]) -> None:
        """Replaces all endpoints, such as by those of the journal. Returns at once."""
        gone = self._endpoints.keys() - endpoints.keys()
        self._endpoints = dict(endpoints)
        self._look = None
        for name in gone:
            self._tell(name, None)
        for name, endpoint in endpoints.items():
            self._tell(name, endpoint)
        self._touch()

    def set_attachments(self, attachments: Sequence[Attachment]) -> None:
        """Replaces this node's interfaces and addresses on networks. Returns at once."""
        if tuple(attachments) != self._myself.attachments or not self._attachments_known:
            self._attachments_known = True
            self._look = None
            self._myself = replace(self._myself, attachments=tuple(attachments))
            self._touch()

    def look_again(self) -> None:
        """Compares everything with the kernel now. Returns at once."""
        self._dirty = ALL
        self._touch()

    # What others ask -----------------------------------------------------------------------------

    @property
    def remote(self) -> Remote:
        """What ipam said last; empty before the first snapshot."""
        return self._remote or Remote()

    @property
    def endpoints(self) -> Mapping[EndpointName, LocalEndpoint]:
        """What was put and not removed."""
        return MappingProxyType(self._endpoints)

    @property
    def attachments(self) -> Sequence[Attachment]:
        """This node's interfaces and addresses on networks, as found in the last round."""
        return () if self._desired is None else self._desired.attachments

    @property
    def in_sync(self) -> bool:
        """Whether the kernel is written to: a snapshot is complete, or was restored from disk."""
        return self._remote is not None

    @property
    def failures(self) -> Mapping[str, str]:
        """What the kernel does not hold: messages by resource id, such as `endpoint/NAME`."""
        return {resource: trouble.message for resource, trouble in self.troubles.items()}

    @property
    def troubles(self) -> Mapping[str, Trouble]:
        """The same with reasons for programs."""
        found: dict[str, Trouble] = {}
        if self._desired is not None:
            for resource, message in self._desired.problems.items():
                found[resource] = Trouble(resource, "NOT_POSSIBLE", message)
        for retry in self._retries.values():
            found.setdefault(retry.trouble.resource, retry.trouble)
        return found

    @property
    def ready(self) -> bool:
        """Whether the kernel holds what is asked for."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not ready, for people; with those of `require`."""
        return (*self._own_reasons, *self._others_reasons())

    def require(self, reasons: Callable[[], tuple[str, ...]]) -> None:
        """Has it count as ready only without these reasons not to be, of another part."""
        self._others_reasons = reasons

    @property
    def _own_reasons(self) -> tuple[str, ...]:
        if self._remote is None:
            return ("no snapshot from ipam yet",)
        if self._error:
            return (self._error,)
        if self._settled == 0:
            return ("the kernel is being read",)
        return tuple(f"{resource}: {message}" for resource, message in self.failures.items())

    @property
    def routes(self) -> int:
        """How many routes of ours the kernel holds."""
        return len(self._actual.routes)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls it after every round, in the event loop."""
        self._listeners.append(listener)

    def on_endpoint(self, listener: Callable[[EndpointName, LocalEndpoint | None], None]) -> None:
        """Has it told of every endpoint that is put, with None of every one that is removed."""
        self._tell = listener

    async def reached(self) -> Mapping[str, str]:
        """Waits until the kernel holds all that was put and removed before the call.

        It waits for ever while nothing is in-sync: give it a deadline.

        Returns:
            What could not be applied: messages by resource id, such as `endpoint/NAME`,
            `route/NETWORK/PREFIX`, `peer/NETWORK/NODE` and `network/NAME`. Those are retried.
        """
        if self._settled < self._generation:
            await self._waiters.wait(self._generation)
        return self.failures

    # The loop ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until it is cancelled.

        Raises:
            KernelUnavailable: There is no netlink at all.
        """
        port = await self._kernel.start()
        watch = await self._kernel.run(lambda: Watch(port))
        watch.start(self._heard)
        loop = asyncio.get_running_loop()
        quick = full = loop.time()
        broken = Backoff(RETRY, random.random)
        try:
            while True:
                await self._wait(min(quick, full))
                reading_all = loop.time() >= full
                if reading_all:
                    self._dirty = ALL
                elif loop.time() >= quick:
                    self._dirty |= QUICK
                if self._remote is None:
                    quick = full = loop.time() + self._timing.quick
                    continue
                try:
                    await self._round(self._remote)
                except (RomanaError, OSError) as error:  # a full disk is one, too
                    self._broke(error)
                    await asyncio.sleep(broken.failed())
                    continue
                broken.succeeded()
                quick = loop.time() + self._timing.quick
                if reading_all:
                    full = loop.time() + self._timing.full
        finally:
            if self._kick_later is not None:
                self._kick_later.cancel()
            watch.close()
            await asyncio.shield(self._kernel.close())

    async def _wait(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        due = min([due, *(retry.due for retry in self._retries.values())])
        try:
            async with asyncio.timeout_at(max(due, loop.time())):
                await self._kick.wait()
        except TimeoutError:
            pass
        self._kick.clear()

    async def _round(self, remote: Remote) -> None:
        loop = asyncio.get_running_loop()
        begun, generation = loop.time(), self._generation
        look = self._what_to_look_at()
        task = Task(
            Wanted(
                self._myself, remote, dict(self._endpoints), {}, self._numbers, self._made_addresses
            ),
            self._changed,
            self._dirty,
            self._down,
            self._actual,
            self._desired,
            frozenset(key for key, retry in self._retries.items() if retry.due > begun),
            look,
            keep_links=not self._attachments_known,
        )
        self._changed, self._dirty, self._down = (), frozenset(), frozenset()
        self._look = set()
        if look is None:
            self._heard_endpoints = False
        outcome = await self._kernel.run(
            lambda: perform(self._kernel, task, self._memory, self._keep_numbers)
        )
        self._take(outcome, task)
        seconds = loop.time() - begun
        if self._observer is not None:
            self._observer.reconciled(outcome, seconds)
        if any(outcome.operations.values()):
            log.info(
                "kernel_changed",
                repaired=outcome.repaired,
                refused=len(outcome.refused),
                seconds=round(seconds, 4),
                **{kind.value: count for kind, count in outcome.operations.items() if count},
            )
        self._settle(generation)

    def _take(self, outcome: Outcome, task: Task) -> None:
        """Keeps what came out, and when to try again what was refused."""
        self._numbers, self._actual = outcome.numbers, outcome.actual
        self._desired = outcome.desired
        now = asyncio.get_running_loop().time()
        retries: dict[tuple[Kind, Key], _Retry] = {}
        for key, trouble in outcome.refused.items():
            before = self._retries.get(key)
            backoff = before.backoff if before else Backoff(RETRY, random.random)
            retries[key] = _Retry(trouble, backoff, now + backoff.failed())
            if before is None:
                log.warning(
                    "kernel_refused",
                    kind=key[0].value,
                    resource=trouble.resource,
                    reason=trouble.reason,
                    message=trouble.message,
                )
        for key in task.waiting - retries.keys():
            if _wanting(outcome, key):
                retries[key] = self._retries[key]
        self._retries = retries
        if any(key[0] in {Kind.NEXTHOP, Kind.ROUTE} for key in outcome.refused):
            # What we believe of the kernel may be wrong: read it before the next attempt.
            self._dirty |= {Kind.NEXTHOP, Kind.ROUTE}

    def _settle(self, generation: int) -> None:
        self._error = ""
        self._settled = generation
        self._waiters.settle(generation)
        for listener in self._listeners:
            listener()

    def _broke(self, error: RomanaError | OSError) -> None:
        """The kernel or the disk does not answer: nothing that is believed of it holds."""
        log.error("reconcile_failed", message=str(error))
        self._error = str(error)
        self._dirty, self._changed = ALL, None
        self._kick.set()
        if self._observer is not None:
            self._observer.failed()

    def _look_at(self, endpoint: LocalEndpoint) -> None:
        """Has the next round look at an endpoint's interface, if it looks at no more than some.

        That of a VM is made by others, with whatever they want: then it looks at all.
        """
        if self._look is not None:
            if endpoint_names.is_host_interface(endpoint.host_interface):
                self._look.add(endpoint.host_interface)
            else:
                self._look = None

    def _what_to_look_at(self) -> Look | None:
        if self._look is None or self._dirty:
            return None
        needed = {endpoint.host_interface for endpoint in self._endpoints.values()}
        return Look(frozenset(self._look & needed), frozenset(self._look - needed))

    def _touch(self) -> None:
        self._generation += 1
        self._kick.set()

    def _heard(self, heard: Heard) -> None:
        self._dirty |= heard.kinds
        self._down |= heard.down
        now = asyncio.get_running_loop().time()
        for retry in self._retries.values():  # an interface may have come that they waited for
            retry.due = min(retry.due, now + RETRY.initial)
        self._heard_endpoints |= heard.endpoints
        self._kick_within(HEARD_SECONDS if heard.kinds else ENDPOINT_SECONDS)

    def _kick_within(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._kick_later is not None:
            if self._kick_later.when() <= loop.time() + seconds:
                return
            self._kick_later.cancel()
        self._kick_later = loop.call_later(seconds, self._look_at_heard)

    def _look_at_heard(self) -> None:
        self._kick_later = None
        if self._heard_endpoints:
            self._look = None
        if self._dirty or self._down or self._heard_endpoints:  # else a round has seen to it
            self._kick.set()


def _wanting(outcome: Outcome, key: tuple[Kind, Key]) -> bool:
    """Whether an object that failed is still not as it should be."""
    kind, one = key
    missing = object()
    wanted: object = outcome.desired.state.of(kind).get(one, missing)
    found: object = outcome.actual.of(kind).get(one, missing)
    return wanted != found
