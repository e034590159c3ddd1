"""The endpoints of this node, as callers see them: attach, detach and check.

One name is worked on by one task at a time, and a task goes on when its caller has gone. What is
done in an attach is in `attach`, in a detach in `detach`; what an attach finds of the same name is
dealt with here before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping

import structlog

from services.agent.endpoints import detach
from services.agent.endpoints.attach import attach, make_link
from services.agent.endpoints.observers import EndpointObserver, NoObserver, Operation, watched
from services.agent.endpoints.parts import Parts
from services.agent.endpoints.per_name_lock import PerNameLock
from services.agent.endpoints.spec import EndpointSpec, Record, Stage, violations, wiring
from services.agent.endpoints.view import STATES, Attached, EndpointState, EndpointView
from services.agent.model import LocalEndpoint
from services.common.errors import AlreadyExists, InvalidInput, NotFound, RomanaError
from services.common.model.names import EndpointName

log = structlog.get_logger(__name__)


class Endpoints:
    """The endpoints of this node. Deadlines are times of the running loop's clock."""

    def __init__(self, parts: Parts, *, observer: EndpointObserver | None = None) -> None:
        """`observer` is told how it went."""
        self._parts = parts
        self._observer = observer or NoObserver()
        self._locks = PerNameLock()

    def __len__(self) -> int:
        return len(self._parts.records)

    @property
    def records(self) -> Mapping[EndpointName, Record]:
        return self._parts.records.all

    @property
    def unfinished(self) -> asyncio.Event:
        """Set when something is left for `services.agent.endpoints.recovery`."""
        return self._parts.unfinished

    def view(self, name: EndpointName) -> EndpointView | None:
        record = self.records.get(name)
        if record is None:
            return None
        if record.stage is Stage.ATTACHED and (problem := self._parts.standing.problem(name)):
            return EndpointView(record, EndpointState.DEGRADED, problem)
        return EndpointView(record, STATES[record.stage])

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

        async def work() -> Attached:
            with watched(self._observer, Operation.ATTACH):
                found = list(violations(spec))
                if found:
                    raise InvalidInput.of(found)
                return await self._attach(spec, deadline)

        return await self._locks.do(spec.name, work)

    async def detach(self, name: EndpointName, container: str = "") -> tuple[str, ...]:
        """Detaches an endpoint, if there is one, and gives its addresses back.

        The link is gone when it returns. While ipam is away, the addresses are given back later.
        With a container nothing is done if the endpoint is in another one by now.
        """

        async def work() -> tuple[str, ...]:
            with watched(self._observer, Operation.DETACH):
                record = self.records.get(name)
                if record is not None and container not in {"", record.spec.container}:
                    return ()
                return await detach.detach(self._parts, name)

        return await self._locks.do(name, work)

    async def check(self, name: EndpointName) -> tuple[EndpointView, list[str]]:
        """The endpoint, and what the kernel lacks of it; NotFound if there is none."""
        return await self._locks.do(name, lambda: self._check(name))

    async def close(self, seconds: float) -> None:
        """Lets what is being done come to its end."""
        await self._locks.close(seconds)
        self._parts.links.close()

    async def _attach(self, spec: EndpointSpec, deadline: float) -> Attached:
        before = self.records.get(spec.name)
        if before is not None and before.spec.container != spec.container:
            # the sandbox before, which its runtime has given up
            await detach.detach(self._parts, spec.name)
            before = self.records.get(spec.name)
        if before is not None and before.stage is Stage.ATTACHED:
            if before.spec == spec and await self._is_whole(before):
                view = self.view(spec.name)
                assert view is not None
                return Attached(view, existed=True)
            if before.spec != spec:
                await self._make_way(before, spec)
            self._parts.standing.drop(spec.name)  # with what was wrong with it
        self._check_target(spec)
        record = await attach(self._parts, spec, deadline)
        if record.endpoint is not None and record.endpoint.moves:
            self._parts.moving.set()  # now that the disk has it: what is undone is given back
        return Attached(EndpointView(record, EndpointState.ATTACHED), existed=False)

    async def _is_whole(self, record: Record) -> bool:
        """Whether an attached endpoint's link is there, with its other end where it should be.

        What else is not as it shall be is put right as far as that goes.
        """
        endpoint = record.endpoint
        assert endpoint is not None
        if self._parts.standing.is_withdrawn(endpoint.name):
            return False
        found = await self._parts.links.differences(wiring(endpoint))
        if any(each.gone for each in found):
            return False
        if found:
            await self._put_right(endpoint)
        return True

    async def _put_right(self, endpoint: LocalEndpoint) -> None:
        """As where a VM's interface was made anew under its name: it is another one."""
        try:
            await self._parts.links.mend(wiring(endpoint))
        except RomanaError as error:
            log.warning("link_not_mended", endpoint=endpoint.name, message=error.message)
            return
        self._parts.standing.put(endpoint)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(detach.SETTLE_SECONDS):
                await self._parts.reconciler.reached()

    async def _make_way(self, before: Record, spec: EndpointSpec) -> None:
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
        if _asked_of_ipam(before.spec) == _asked_of_ipam(spec):
            await detach.unlink(self._parts, before)
        else:
            await detach.detach(self._parts, spec.name)

    async def _lives(self, record: Record) -> bool:
        """Whether there is something that an endpoint could belong to."""
        endpoint = record.endpoint
        assert endpoint is not None
        if not endpoint.namespace:
            return await self._parts.links.find(endpoint.host_interface) is not None
        return await self._parts.links.leads_to(wiring(endpoint))

    def _check_target(self, spec: EndpointSpec) -> None:
        """A VM's interface belongs to one endpoint, from its attach to the end of its detach."""
        for record in self.records.values():
            if (
                not (spec.namespace or record.spec.namespace)
                and record.spec.interface == spec.interface
                and record.spec.name != spec.name
            ):
                raise AlreadyExists(
                    f"interface {spec.interface!r} is that of {record.spec.name!r}",
                    "INTERFACE_TAKEN",
                    {"interface": spec.interface, "name": record.spec.name},
                )

    async def _check(self, name: EndpointName) -> tuple[EndpointView, list[str]]:
        view = self.view(name)
        if view is None:
            raise NotFound(
                f"there is no endpoint {name!r} on this node", "ENDPOINT_NOT_FOUND", {"name": name}
            )
        endpoint = view.record.endpoint
        if endpoint is None or view.record.stage is not Stage.ATTACHED:
            return view, [f"it is {view.state}"]
        parts = self._parts
        problems = [each.text for each in await parts.links.differences(wiring(endpoint))]
        if problem := await parts.ownership.problem(endpoint):
            problems.append(problem)
        try:
            async with asyncio.timeout(detach.SETTLE_SECONDS):
                failures = await parts.reconciler.reached()
        except TimeoutError:
            return view, [*problems, *parts.reconciler.reasons]
        concerns = [f"endpoint/{name}", *(f"network/{item.network}" for item in endpoint.addresses)]
        problems += [failures[resource] for resource in concerns if resource in failures]
        if view.problem and not problems:
            problems.append(view.problem)
        return view, problems

    # For recovery and upkeep.

    async def exclusively(
        self, name: EndpointName, work: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        """Does something with an endpoint while nothing else is done with it."""
        await self._locks.do(name, work)

    def doubtful(self) -> frozenset[EndpointName]:
        """Attached endpoints that have to be looked at; they are told once."""
        found = frozenset(self._parts.doubtful)
        self._parts.doubtful.clear()
        return found

    async def link(self, endpoint: LocalEndpoint) -> LocalEndpoint:
        """Makes the link of an attached endpoint anew."""
        return await make_link(self._parts, endpoint)

    async def retry(self, name: EndpointName) -> None:
        """Goes on with a detach that was left unfinished."""

        async def work() -> None:
            record = self.records.get(name)
            if record is not None and record.stage is Stage.DETACHING:
                await detach.finish(self._parts, record)

        await self._locks.do(name, work)


def _asked_of_ipam(spec: EndpointSpec) -> tuple[object, ...]:
    """What of a specification ipam allocates by."""
    return (
        spec.allocation_name,
        spec.tenant,
        spec.segment,
        spec.addresses,
        bool(spec.namespace),
    )
