"""Makes the kernel's routes equal to what is asked for, and keeps them so.

The stream (`set_remote`), endpoints (`put_endpoint`), notifications of the kernel and the clock are
taken in by `inputs`; `services.agent.loop` has what they ask done in rounds, each of which plans,
compares, applies and verifies. What a round does depends on the state now and never on how it came
about.

Who wakes whom: whoever calls a method here that changes `inputs` touches the loop, and so does the
kernel's notification (`watch`, by `_heard`); the loop runs a round in the kernel's thread; when its
outcome is accepted, the loop wakes all that wait in `reached`: attaches, detaches, and the streams
that acknowledge what they brought.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

import structlog

from services.agent.kernel.drivers import KernelDrivers
from services.agent.kernel.heard import ALL, Heard
from services.agent.kernel.numbers import Numbers
from services.agent.kernel.state import InterfaceAddress, KernelState, Kind
from services.agent.kernel.watch import Watch
from services.agent.loop import Loop, Occasion, Pace
from services.agent.model import DeviceWay, LocalEndpoint, Myself, Remote
from services.agent.routing.in_kernel import InKernel, compare
from services.agent.routing.inputs import QUICK, RouteInputs
from services.agent.routing.plan import Desired, Planner, Wanted
from services.agent.routing.prefixes import Changed
from services.agent.routing.reconcile_round import Outcome, Task, Trouble, perform
from services.agent.routing.retries import RETRY, Retries
from services.common.model.names import EndpointName
from services.common.model.node import Attachment

log = structlog.get_logger(__name__)

LOOKS: Final = 5
"""At the kernel for who asks, until there was no round meanwhile."""
QUICK_SECONDS: Final = 5.0
"""How often what is cheap to read is read again: of some of it, such as proxy entries, the kernel
says nothing when they go."""


class RoundObserver(Protocol):
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


class Reconciler:
    """The one who writes to the kernel: routes, rules, proxies, nexthops, sysctls, VLAN links."""

    def __init__(
        self,
        kernel: KernelDrivers,
        myself: Myself,
        *,
        attachments_known: bool = True,
        made_addresses: Mapping[str, frozenset[InterfaceAddress]] | None = None,
        numbers: Numbers | None = None,
        keep_numbers: Callable[[Numbers], None] = lambda _: None,
        timing: Timing | None = None,
        observer: RoundObserver | None = None,
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
        self._inputs = RouteInputs(myself, attachments_known=attachments_known)
        self._part = _Routing(
            self._inputs,
            kernel,
            made_addresses or {},
            numbers or Numbers.none(),
            keep_numbers,
            observer,
        )
        timing = timing or Timing()
        pace = Pace(timing.quick, timing.full, RETRY)
        self._loop: Loop[Task, Outcome] = Loop("routes", self._part, kernel.run, pace)
        self._part.wake = self._loop.wake
        self._kernel = kernel
        self._others: list[Callable[[], tuple[str, ...]]] = []
        self._told: list[Callable[[EndpointName, LocalEndpoint | None], None]] = []

    # What others say -----------------------------------------------------------------------------

    def set_remote(self, remote: Remote, changed: Changed = None) -> None:
        """Takes over what ipam says: from now on the kernel is written to. Returns at once.

        Args:
            remote: All of it; never changed afterwards.
            changed: Keys of `remote.routes` that are not as in the call before; None: any.
        """
        self._inputs.set_remote(remote, changed)
        self._loop.touch()

    def put_endpoint(self, endpoint: LocalEndpoint) -> None:
        """Adds or changes an endpoint; its host interface should be there. Returns at once."""
        self._inputs.put_endpoint(endpoint)
        self._tell(endpoint.name, endpoint)
        self._loop.touch()

    def remove_endpoint(self, name: EndpointName) -> None:
        """Forgets an endpoint, if there is one. Returns at once."""
        if self._inputs.remove_endpoint(name):
            self._loop.touch()
        self._tell(name, None)

    def set_attachments(self, attachments: Sequence[Attachment]) -> None:
        """Replaces this node's interfaces and addresses on networks. Returns at once."""
        if self._inputs.set_attachments(attachments):
            self._loop.touch()

    def set_devices(self, devices: Sequence[DeviceWay]) -> None:
        """Replaces the ways to devices that packets are marked for. Returns at once."""
        if self._inputs.set_devices(devices):
            self._loop.touch()

    # What others ask -----------------------------------------------------------------------------

    @property
    def remote(self) -> Remote:
        """What ipam said last; empty before the first snapshot."""
        return self._inputs.remote or Remote()

    @property
    def endpoints(self) -> Mapping[EndpointName, LocalEndpoint]:
        """What was put and not removed."""
        return MappingProxyType(self._inputs.endpoints)

    @property
    def attachments(self) -> Sequence[Attachment]:
        """This node's interfaces and addresses on networks, as found in the last round."""
        return () if self._part.desired is None else self._part.desired.attachments

    @property
    def in_sync(self) -> bool:
        """Whether the kernel is written to: a snapshot is complete, or was restored from disk."""
        return self._inputs.remote is not None

    @property
    def failures(self) -> Mapping[str, str]:
        """What the kernel does not hold: messages by resource id, such as `endpoint/NAME`."""
        return {resource: trouble.message for resource, trouble in self.troubles.items()}

    @property
    def troubles(self) -> Mapping[str, Trouble]:
        """The same with reasons for programs."""
        return self._part.troubles

    @property
    def ready(self) -> bool:
        """Whether the kernel holds what is asked for."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not ready, for people; with those of `require`."""
        return (*self._own_reasons, *(reason for others in self._others for reason in others()))

    def require(self, reasons: Callable[[], tuple[str, ...]]) -> None:
        """Has it count as ready only without these reasons not to be, of another part."""
        self._others.append(reasons)

    @property
    def _own_reasons(self) -> tuple[str, ...]:
        if self._inputs.remote is None:
            return ("no snapshot from ipam yet",)
        if self._loop.error:
            return (self._loop.error,)
        if not self._loop.settled:
            return ("the kernel is being read",)
        return tuple(
            f"{resource}: {message}"
            for resource, message in self.failures.items()
            if not resource.startswith("endpoint/")  # its own trouble, not the node's
        )

    @property
    def routes(self) -> int:
        """How many routes of ours the kernel holds."""
        return len(self._part.actual.routes)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls it after every round, in the event loop."""
        self._loop.on_change(listener)

    def on_endpoint(self, listener: Callable[[EndpointName, LocalEndpoint | None], None]) -> None:
        """Has it told of every endpoint that is put, with None of every one that is removed."""
        self._told.append(listener)

    def _tell(self, name: EndpointName, endpoint: LocalEndpoint | None) -> None:
        for listener in self._told:
            listener(name, endpoint)

    async def reached(self) -> Mapping[str, str]:
        """Waits until the kernel holds all that was put and removed before the call.

        It waits for ever while nothing is in-sync: give it a deadline.

        Returns:
            What could not be applied: messages by resource id, such as `endpoint/NAME`,
            `route/NETWORK/PREFIX`, `peer/NETWORK/NODE` and `network/NAME`. Those are retried.
        """
        await self._loop.reached()
        return self.failures

    async def in_kernel(self) -> InKernel | None:
        """What the kernel has, beside what it shall have as of the last round; raises
        KernelUnavailable. None: it is not known yet what that is."""
        kernel = self._kernel
        looks = 0
        while True:
            remote, desired = self._inputs.remote, self._part.desired
            if remote is None or desired is None:
                return None
            actual = await kernel.run(lambda: kernel.read(KernelState(), frozenset(Kind)))
            looks += 1
            if self._part.desired is desired or looks == LOOKS:
                break  # else there was a round meanwhile
        names = {one.index: one.name for one in await kernel.look()}
        return await asyncio.to_thread(compare, remote, desired, actual, names)

    async def run(self) -> None:
        """Runs until it is cancelled."""
        try:
            await self._loop.run()
        finally:
            self._part.close()
            await asyncio.shield(self._kernel.close())


class _Routing:
    """What is done in rounds: see `services.agent.loop.Part`."""

    def __init__(
        self,
        inputs: RouteInputs,
        kernel: KernelDrivers,
        made_addresses: Mapping[str, frozenset[InterfaceAddress]],
        numbers: Numbers,
        keep_numbers: Callable[[Numbers], None],
        observer: RoundObserver | None,
    ) -> None:
        self._inputs = inputs
        self._kernel = kernel
        self._made_addresses = made_addresses
        self._numbers = numbers
        self._keep_numbers = keep_numbers
        self._observer = observer
        self._planner = Planner()  # of the thread
        self._retries = Retries(random.random)
        self._begun = 0.0
        self._watch: Watch | None = None
        self.wake: Callable[[], None] = lambda: None
        self.actual = KernelState()
        """What the kernel holds, as of the last round."""
        self.desired: Desired | None = None

    @property
    def due(self) -> float:
        return min(self._inputs.due, self._retries.due)

    @property
    def troubles(self) -> Mapping[str, Trouble]:
        """What the kernel does not hold, by resource id."""
        found: dict[str, Trouble] = {}
        if self.desired is not None:
            for resource, message in self.desired.problems.items():
                found[resource] = Trouble(resource, "NOT_POSSIBLE", message)
        for trouble in self._retries.troubles:
            found.setdefault(trouble.resource, trouble)
        return found

    async def listen(self) -> None:
        ports = await self._kernel.start()
        self._watch = watch = await self._kernel.run(lambda: Watch(ports))
        watch.start(self._heard)

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()

    def intake(self, occasion: Occasion) -> Task | None:
        inputs = self._inputs
        if occasion.full:
            inputs.read(ALL)
        elif occasion.quick:
            inputs.read(QUICK)
        if inputs.remote is None:
            return None
        self._begun = occasion.now
        noted = inputs.noted(occasion.now)
        return Task(
            Wanted(
                inputs.myself,
                inputs.remote,
                dict(inputs.endpoints),
                {},
                self._numbers,
                self._made_addresses,
                inputs.devices,
            ),
            noted.changed,
            noted.dirty,
            noted.down,
            self.actual,
            self.desired,
            self._retries.waiting(occasion.now),
            failing=bool(self._retries),
            look=noted.look,
            keep_links=not inputs.attachments_known,
        )

    def perform(self, task: Task) -> Outcome:
        return perform(self._kernel, task, self._planner, self._keep_numbers)

    def accept(self, task: Task, outcome: Outcome) -> bool:
        now = asyncio.get_running_loop().time()
        self._numbers, self.actual = outcome.numbers, outcome.actual
        self.desired = outcome.desired
        for (kind, _), trouble in self._retries.note(outcome, task.waiting, now).items():
            log.warning(
                "kernel_refused",
                kind=kind.value,
                resource=trouble.resource,
                reason=trouble.reason,
                message=trouble.message,
            )
        if any(kind in {Kind.NEXTHOP, Kind.ROUTE} for kind, _ in outcome.refused):
            # What we believe of the kernel may be wrong: read it before the next attempt.
            self._inputs.read(frozenset({Kind.NEXTHOP, Kind.ROUTE}))
        seconds = now - self._begun
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
        return True

    def broke(self, *, defect: bool) -> None:
        if defect:
            self._planner, self.desired = Planner(), None
        self._inputs.forget_kernel()
        if self._observer is not None:
            self._observer.failed()

    def _heard(self, heard: Heard) -> None:
        now = asyncio.get_running_loop().time()
        self._inputs.hear(heard, now)
        self._retries.hasten(now)  # an interface may have come that they waited for
        self.wake()
