"""Attach, detach and check: what happens to one endpoint, from the request to the kernel.

    attach   begun > allocated > linked > placed > attached
    detach   detaching > unlinked > released

*Begun* and *detaching* are written before the next step is taken, and *attached* before the caller
is answered. The rest needs no record: links are named by the endpoint's name and ipam allocates by
it, so that whoever finds *begun* after a crash can undo all of it, and whoever finds *detaching*
can finish. One name is worked on by one task at a time, and a task goes on when its caller has
gone.

A container waits for its attach, so what can go on at once does: the pair is made while ipam
allocates, and *attached* is written while the routes are. Whoever finds that after a crash in
between finds an endpoint that is whole but for them.

A loss of power takes all links and namespaces with it, so only two records have to survive one:
*attached*, since its caller was answered, and *detaching* before the addresses are given back: an
old *attached* must not come back for an address that is another's. That one is synced while the
kernel takes the link away.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.agent.endpoints.addressing import Addressing
from services.agent.endpoints.observers import EndpointObserver, Nobody, Operation, watched
from services.agent.endpoints.ownership import Ownership
from services.agent.endpoints.per_name_lock import Alone
from services.agent.endpoints.records import Records
from services.agent.endpoints.spec import (
    EndpointSpec,
    Record,
    Step,
    local_endpoint,
    unknown,
    violations,
    wiring,
)
from services.agent.endpoints.standing import Standing
from services.agent.endpoints.view import STATES, Attached, Guard, State, View
from services.agent.kernel import endpoint_names
from services.agent.kernel.concurrency import meanwhile
from services.agent.kernel.veth import Links
from services.agent.model import EndpointAddress, LocalEndpoint
from services.agent.routing.reconcile import Reconciler
from services.common.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    RomanaError,
    Unavailable,
    WrongState,
)
from services.common.model.names import EndpointName, NetworkName

log = structlog.get_logger(__name__)

UNDO_SECONDS: Final = 3.0
"""For giving addresses back in a failed attach or a detach; later it goes on by itself."""
HELD_MOST: Final = 5
"""Addresses in a row that are in use on this node and that ipam gives to somebody else."""
SETTLE_SECONDS: Final = 2.0
"""For the reconciler: to take away routes before their address is given back, and for a check."""


class Endpoints:
    """The endpoints of this node. Deadlines are times of the running loop's clock."""

    def __init__(
        self,
        records: Records,
        links: Links,
        addressing: Addressing,
        reconciler: Reconciler,
        standing: Standing,
        ownership: Ownership,
        *,
        observer: EndpointObserver | None = None,
        guard: Guard | None = None,
        keeps: Callable[[EndpointName], bool] | None = None,
        passed: Callable[[str], None] = lambda _: None,
        now: Callable[[], float] = time.time,
        draw: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        """Does nothing.

        Args:
            records: Where it is written down.
            links: The kernel's links.
            addressing: Gives addresses.
            reconciler: Puts routes into the kernel.
            standing: How attached endpoints stand.
            ownership: What ipam has for them.
            observer: Is told how it went.
            guard: Keeps endpoints closed until their rules are in force.
            keeps: Says whose addresses are kept when it is detached, for the next time.
            passed: Is told the name of every step that is done; tests end the process there.
            now: The wall clock.
        """
        self._kept = records
        self._links = links
        self._addressing = addressing
        self._reconciler = reconciler
        self._standing = standing
        self._ownership = ownership
        self._observer = observer or Nobody()
        self._guard = guard
        self._keeps = keeps or (lambda _: False)
        self._passed = passed
        self._now = now
        self._draw = draw
        self._alone = Alone()
        self.unfinished = asyncio.Event()
        """Set when something is left for `services.agent.endpoints.recovery`."""
        self.doubtful: set[EndpointName] = set()
        """Attached endpoints that `services.agent.endpoints.upkeep` shall look at."""

    # What callers see.

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def records(self) -> Mapping[EndpointName, Record]:
        """What is in the journal."""
        return self._kept.all

    def view(self, name: EndpointName) -> View | None:
        """One endpoint; None: there is none."""
        record = self.records.get(name)
        if record is None:
            return None
        if record.step is Step.ATTACHED and (problem := self._standing.problem(name)):
            return View(record, State.DEGRADED, problem)
        return View(record, STATES[record.step])

    async def attach(self, spec: EndpointSpec, deadline: float) -> Attached:
        """Attaches an endpoint, or returns the one that the same request made before.

        Raises:
            InvalidInput: The request is wrong, or its MTU too large.
            NotFound: The namespace, the interface, the node or the network is not there.
            AlreadyExists: The name, or the interface in the namespace, is taken.
            Exhausted: There is no address.
            WrongState: The kernel refused, or somebody else has the address.
            Unavailable: The deadline passed. Whatever was begun is undone.
        """
        return await self._alone.do(spec.name, lambda: self._attach(spec, deadline))

    async def detach(self, name: EndpointName, container: str = "") -> tuple[str, ...]:
        """Detaches an endpoint, if there is one, and gives its addresses back.

        The link is gone when it returns. While ipam is away, the addresses are given back later.
        With a container nothing is done if the endpoint is in another one by now.
        """
        return await self._alone.do(name, lambda: self._detach(name, container))

    async def check(self, name: EndpointName) -> tuple[View, list[str]]:
        """The endpoint, and what the kernel lacks of it; NotFound if there is none."""
        return await self._alone.do(name, lambda: self._check(name))

    async def close(self, seconds: float) -> None:
        """Lets what is being done come to its end."""
        await self._alone.close(seconds)
        self._links.close()

    # Attaching.

    async def _attach(self, spec: EndpointSpec, deadline: float) -> Attached:
        with watched(self._observer, Operation.ATTACH):
            found = list(violations(spec))
            if found:
                raise InvalidInput.of(found)
            return await self._attach_valid(spec, deadline)

    async def _attach_valid(self, spec: EndpointSpec, deadline: float) -> Attached:
        before = self.records.get(spec.name)
        if before is not None and before.spec.container != spec.container:
            # the sandbox before, which its runtime has given up
            await self._detach_known(spec.name)
            before = self.records.get(spec.name)
        if before is not None and before.step is Step.ATTACHED:
            if before.spec == spec and await self._is_whole(before):
                view = self.view(spec.name)
                assert view is not None
                return Attached(view, existed=True)
            if before.spec != spec:
                await self._replace(before, spec)
            self._standing.drop(spec.name)  # with what was wrong with it
        self._check_target(spec)
        claims = _Claims()
        try:
            async with asyncio.timeout_at(deadline):
                await self._in_sync()
                await self._kept.write(Record(spec, Step.BEGUN), durable=False)
                self._passed("begun")
                endpoint = await self._build(spec, claims, deadline)
                record = Record(spec, Step.ATTACHED, endpoint)
                claims.record = True
                async with meanwhile(self._kept.keep(record)):
                    await self._place(endpoint)
                    self._passed("placed")
                    if self._guard is not None:
                        await self._guard.opened(endpoint.name)
                    await self._addressing.announce(endpoint.addresses)
        except TimeoutError as error:
            await self._undo(spec, claims)
            raise Unavailable(
                f"{spec.name!r} could not be attached in time: "
                + ("; ".join(self._reconciler.reasons) or "the node is busy"),
                "ATTACH_TIMEOUT",
            ) from error
        except RomanaError:
            await self._undo(spec, claims)
            raise
        self._kept.take(record)
        self._passed("attached")
        log.info(
            "endpoint_attached",
            endpoint=spec.name,
            interface=endpoint.host_interface,
            addresses=[str(item.address) for item in endpoint.addresses],
        )
        return Attached(View(record, State.ATTACHED), existed=False)

    async def _build(self, spec: EndpointSpec, claims: _Claims, deadline: float) -> LocalEndpoint:
        """Gets the addresses and makes the link."""
        expected = self._addressing.networks(spec) if spec.namespace else frozenset()
        if not expected:
            addresses = await self._allocate(spec, claims, deadline)
            networks = frozenset(item.network for item in addresses)
        else:
            claims.link = True
            async with meanwhile(self._prepare(spec, expected)) as preparing:
                addresses = await self._allocate(spec, claims, deadline)
            networks = frozenset(item.network for item in addresses)
            if networks == expected:
                endpoint = self._endpoint(spec, addresses, preparing.result())
                beside = await self._links.complete(wiring(endpoint))
                self._passed("linked")
                return replace(endpoint, beside=beside)
        mtu = await self._addressing.mtu(spec.mtu, networks)
        endpoint = self._endpoint(spec, addresses, mtu)
        claims.link = True
        endpoint = await self.link(endpoint)
        self._passed("linked")
        return endpoint

    async def _allocate(
        self, spec: EndpointSpec, claims: _Claims, deadline: float
    ) -> tuple[EndpointAddress, ...]:
        """Addresses that no other endpoint on this node has in use, whatever ipam knows of that."""
        for _ in range(HELD_MOST):
            claims.addresses = True
            try:
                addresses = await self._addressing.give(spec, deadline)
            except Unavailable:
                raise  # it may have been done all the same
            except RomanaError:
                claims.addresses = False
                raise
            holders = self._standing.holders(addresses, spec.name)
            if not holders:
                self._passed("allocated")
                return addresses
            if any(holder.allocation_name == spec.allocation_name for holder in holders):
                claims.addresses = False  # they are both's
                raise Conflict(
                    f"the addresses of {spec.name!r} are still those of {holders[0].name!r}",
                    "ADDRESS_HELD",
                    {"name": holders[0].name},
                )
            await self._addressing.ipam.release(spec, deadline)
            for holder in holders:
                log.warning("address_held", endpoint=holder.name, wanted_by=spec.name)
                await self._ownership.claim(holder)
        raise WrongState(
            f"ipam gives addresses to {spec.name!r} that {holders[0].name!r} has on this node",
            "ADDRESS_HELD",
            {"name": holders[0].name},
        )

    async def _prepare(self, spec: EndpointSpec, networks: frozenset[NetworkName]) -> int:
        """Makes the pair of an endpoint whose addresses are not known yet; returns its MTU."""
        mtu = await self._addressing.mtu(spec.mtu, networks)
        endpoint = self._endpoint(spec, (), mtu)
        if self._guard is not None:
            await self._guard.close_to(endpoint.name, endpoint.host_interface)
        await self._links.prepare(wiring(endpoint))
        return mtu

    def _endpoint(
        self, spec: EndpointSpec, addresses: tuple[EndpointAddress, ...], mtu: int
    ) -> LocalEndpoint:
        pair = bool(spec.namespace)
        return local_endpoint(
            spec,
            addresses,
            host_interface=endpoint_names.host_interface(spec.name) if pair else spec.interface,
            mac=endpoint_names.mac_address(spec.name) if pair else "",
            mtu=mtu,
            create_time=int(self._now()),
            instance=self._draw(),
        )

    async def link(self, endpoint: LocalEndpoint) -> LocalEndpoint:
        """Makes the link of an endpoint, or prepares that of a VM; closed, if there is policy."""
        if self._guard is not None:
            await self._guard.close_to(endpoint.name, endpoint.host_interface)
        if endpoint.namespace:
            return replace(endpoint, beside=await self._links.make(wiring(endpoint)))
        await self._links.adopt(wiring(endpoint))
        return endpoint

    async def _place(self, endpoint: LocalEndpoint) -> None:
        self._standing.put(endpoint)
        failures = await self._reconciler.reached()
        failure = failures.get(f"endpoint/{endpoint.name}")
        if failure is not None:
            raise WrongState(
                f"the kernel does not take {endpoint.name!r}: {failure}", "NOT_REALIZED"
            )

    def _check_target(self, spec: EndpointSpec) -> None:
        """A VM's interface belongs to one endpoint."""
        for record in self.records.values():
            if (
                not spec.namespace
                and record.endpoint is not None
                and record.endpoint.host_interface == spec.interface
                and record.spec.name != spec.name
            ):
                raise AlreadyExists(
                    f"interface {spec.interface!r} is that of {record.spec.name!r}",
                    "INTERFACE_TAKEN",
                    {"interface": spec.interface, "name": record.spec.name},
                )

    async def _in_sync(self) -> None:
        """Waits until the node's networks are known."""
        if not self._reconciler.in_sync:
            await self._reconciler.reached()

    async def _is_whole(self, record: Record) -> bool:
        """Whether an attached endpoint's link is there, with its other end where it should be."""
        endpoint = record.endpoint
        assert endpoint is not None
        if self._standing.is_withdrawn(endpoint.name):
            return False
        return not any(each.gone for each in await self._links.differences(wiring(endpoint)))

    async def _replace(self, before: Record, spec: EndpointSpec) -> None:
        """Makes way for a container that is started again under its name, in another namespace.

        It keeps its addresses, if it asks for the same ones.

        Raises:
            AlreadyExists: The one of before is still there.
        """
        if await self._lives(before):
            raise AlreadyExists(
                f"{spec.name!r} is attached already, and not as asked for now",
                "ENDPOINT_EXISTS",
                {"name": spec.name},
            )
        log.info("endpoint_replaced", endpoint=spec.name, namespace=spec.namespace)
        if _allocation(before.spec) == _allocation(spec):
            await self._unlink(before)
        else:
            await self._detach_known(spec.name)

    async def _lives(self, record: Record) -> bool:
        """Whether there is something that an endpoint could belong to."""
        endpoint = record.endpoint
        assert endpoint is not None
        if not endpoint.namespace:
            return await self._links.find(endpoint.host_interface) is not None
        return await self._links.leads_to(wiring(endpoint))

    async def _undo(self, spec: EndpointSpec, claims: _Claims) -> None:
        """Takes away what an attach has made so far."""
        record = self.records.get(spec.name)
        if record is None or record.step is not Step.BEGUN:
            return  # not even begun
        self._standing.drop(spec.name)
        if claims.link:
            await self._unlink(record)
        if claims.record:
            # the disk may say that it is attached: not while its addresses are given back
            with contextlib.suppress(WrongState):  # dropping the record works
                await self._kept.write(Record(spec, Step.DETACHING))
        if claims.addresses:
            await self._give_back(Record(spec, Step.DETACHING))
        else:
            await self._kept.forget(spec.name)

    # Detaching.

    async def _detach(self, name: EndpointName, container: str) -> tuple[str, ...]:
        with watched(self._observer, Operation.DETACH):
            record = self.records.get(name)
            if record is not None and container not in {"", record.spec.container}:
                return ()
            return await self._detach_known(name)

    async def _detach_known(self, name: EndpointName) -> tuple[str, ...]:
        record = self.records.get(name)
        if record is None:
            # a journal that was lost: the link's name and ipam still know it
            await self._links.delete(endpoint_names.host_interface(name))
            self._standing.drop(name)
            return await self._give_back(Record(unknown(name), Step.DETACHING))
        if record.step is not Step.DETACHING:
            record = Record(record.spec, Step.DETACHING, record.endpoint)
            try:
                await self._kept.write(record, durable=False)
            except WrongState as error:  # a disk that is broken must not keep a container
                log.error("detach_not_noted", endpoint=name, message=error.message)  # noqa: TRY400
                self._kept.take(record)
        self._passed("detaching")
        released = await self.finish_detach(record)
        log.info("endpoint_detached", endpoint=name, released=released)
        return released

    async def finish_detach(self, record: Record) -> tuple[str, ...]:
        """Does what remains of a detach; repeatable."""
        name = record.spec.name
        self._standing.drop(name)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kept.sync(name))
            group.create_task(self._unlink(record))
        self._passed("unlinked")
        self._doubt_those_beside(record)
        if self._reconciler.in_sync:
            # an address that is handed out again must not be answered for here any more
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self._reconciler.reached()
        if self._guard is not None:
            await self._guard.ended()  # whoever has the address next begins its own
        return await self._give_back(record)

    def _doubt_those_beside(self, record: Record) -> None:
        """Others in the namespace may have been beside this one's default route."""
        found = [
            endpoint.name
            for endpoint in self._standing.endpoints.values()
            if endpoint.beside and endpoint.namespace == record.spec.namespace
        ]
        if found:
            self.doubtful.update(found)
            self.unfinished.set()

    async def _unlink(self, record: Record) -> None:
        spec, endpoint = record.spec, record.endpoint
        if spec.namespace:
            await self._links.delete(endpoint_names.host_interface(spec.name))
            if endpoint is not None and endpoint.beside:
                await self._links.unroute(wiring(endpoint))
        elif spec.interface:
            await self._links.disown(spec.interface)
        if self._guard is not None:
            self._guard.gone(spec.name)

    async def _give_back(self, record: Record) -> tuple[str, ...]:
        """Releases in ipam and forgets; keeps the record for later if ipam is away."""
        name = record.spec.name
        if self._keeps(name):
            await self._kept.forget(name)
            return ()
        deadline = asyncio.get_running_loop().time() + UNDO_SECONDS
        try:
            released = await self._addressing.ipam.release(record.spec, deadline)
        except WrongState:
            released = ()  # another node's, or another owner's: not ours to release
        except RomanaError as error:
            log.warning("release_postponed", endpoint=name, message=error.message)
            if self.records.get(name) != record:
                await self._kept.write(record)
            self.unfinished.set()
            return ()
        self._passed("released")
        await self._kept.forget(name)
        return released

    # Checking.

    async def _check(self, name: EndpointName) -> tuple[View, list[str]]:
        view = self.view(name)
        if view is None:
            raise NotFound(
                f"there is no endpoint {name!r} on this node", "ENDPOINT_NOT_FOUND", {"name": name}
            )
        endpoint = view.record.endpoint
        if endpoint is None or view.record.step is not Step.ATTACHED:
            return view, [f"it is {view.state}"]
        problems = [each.text for each in await self._links.differences(wiring(endpoint))]
        if problem := await self._ownership.problem(endpoint):
            problems.append(problem)
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                failures = await self._reconciler.reached()
        except TimeoutError:
            return view, [*problems, *self._reconciler.reasons]
        concerns = [f"endpoint/{name}", *(f"network/{item.network}" for item in endpoint.addresses)]
        problems += [failures[resource] for resource in concerns if resource in failures]
        if view.problem and not problems:
            problems.append(view.problem)
        return view, problems

    # For recovery and upkeep.

    async def alone(
        self, name: EndpointName, work: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        """Does something with an endpoint while nothing else is done with it."""
        await self._alone.do(name, work)

    async def announce(self, endpoint: LocalEndpoint) -> None:
        """Tells the links of `onlink` networks where an endpoint is."""
        await self._addressing.announce(endpoint.addresses)

    async def retry(self, name: EndpointName) -> None:
        """Goes on with what was left unfinished."""

        async def work() -> None:
            record = self.records.get(name)
            if record is not None and record.step is Step.DETACHING:
                await self.finish_detach(record)

        await self._alone.do(name, work)


@dataclass
class _Claims:
    """What an attach may have made."""

    addresses: bool = False
    link: bool = False
    record: bool = False
    """That it is attached."""


def _allocation(spec: EndpointSpec) -> tuple[object, ...]:
    """What of a specification ipam allocates by."""
    return (
        spec.allocation_name,
        spec.tenant,
        spec.segment,
        spec.addresses,
        bool(spec.namespace),
    )
