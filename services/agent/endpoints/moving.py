"""Endpoints that move while they run: what this node does when ipam says where one is.

    arriving    attached and closed to everybody: told to ipam once its rules are in force; a VM's
                own announcement (RARP of qemu, gratuitous ARP) on its interface makes the switch
    here        routes lead to it (`services.agent.routing.whereabouts`), its links are told, and
                its connections go on as they were on the node before
    leaving     here as before; ipam is told that this is known
    elsewhere   asked of ipam once more, and then let go of: its connections are handed over, its
                addresses are not given back

All of it follows from what ipam says and what is attached, and is repeatable.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine, Mapping
from typing import Final

import structlog

from services.agent.endpoints.handing_over import hand_over, stay, take_over
from services.agent.endpoints.lifecycle import Endpoints
from services.agent.endpoints.parts import Parts
from services.agent.endpoints.standing import Concern
from services.agent.kernel.announce import GuestEar
from services.agent.model import LocalEndpoint, Visit
from services.agent.routing.whereabouts import Whereabouts, is_here, whereabouts
from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import NotFound, RomanaError, WrongState
from services.common.model.names import EndpointName, NodeName

log = structlog.get_logger(__name__)

CALL_SECONDS: Final = 3.0
TAKE_OVER_SECONDS: Final = 6.0
"""For which connections are waited for."""
SWITCH_SECONDS: Final = 5.0
"""For which a detach waits for the switch; libvirt waits for its hook."""
RETRY: Final = BackoffPolicy(initial=0.1, maximum=2.0)
ANNOUNCEMENTS: Final = (0.0, 0.1, 1.0)
"""Seconds before each: who misses the first goes on sending to the node before, which passes it on
while it is there."""


class Moving:
    """Of the endpoints of one node."""

    def __init__(self, node: NodeName, endpoints: Endpoints, parts: Parts) -> None:
        """Does nothing before `run`."""
        self._node = node
        self._endpoints = endpoints
        self._parts = parts
        self._known: dict[EndpointName, tuple[LocalEndpoint, Whereabouts]] = {}
        self._listening: dict[EndpointName, asyncio.Task[None]] = {}
        self._at_arrival: set[asyncio.Task[None]] = set()
        self._looked = asyncio.Event()

    def look(self) -> None:
        """Something of routes or endpoints may be another. Returns at once."""
        self._parts.moving.set()

    async def run(self) -> None:
        """For ever."""
        backoff = Backoff(RETRY, random.random)
        try:
            while True:
                pause = None if await self._look() else backoff.failed()
                if pause is None:
                    backoff.succeeded()
                try:
                    async with asyncio.timeout(pause):
                        await self._parts.moving.wait()
                except TimeoutError:
                    continue
                self._parts.moving.clear()
        finally:
            for task in (*self._listening.values(), *self._at_arrival):
                task.cancel()
            self._listening.clear()  # it may be run again
            self._known.clear()

    async def gone(self, name: EndpointName) -> None:
        """Waits a while for the switch if a VM's endpoint is about to be on another node, which has
        it attached: whoever detaches it here may do so since its guest has migrated, and its
        connections go along only if they are handed over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SWITCH_SECONDS):
                while self._is_about_to_leave(name):
                    self._looked.clear()
                    await self._looked.wait()

    def _is_about_to_leave(self, name: EndpointName) -> bool:
        endpoint = self._parts.standing.endpoints.get(name)
        if endpoint is None or endpoint.namespace:
            return False
        where = whereabouts(endpoint, self._parts.reconciler.remote, self._node)
        is_ready = all(visit is not None and visit.ready for visit in self._visits(endpoint))
        return where is Whereabouts.ELSEWHERE or (where is Whereabouts.LEAVING and is_ready)

    async def _look(self) -> bool:
        """Whether all is done."""
        found = self._found()
        for name in [name for name in self._known if name not in found]:
            del self._known[name]
        for name in [name for name in self._listening if not _is_arriving(found.get(name))]:
            self._listening.pop(name).cancel()
        done = True
        for name, (endpoint, where) in found.items():
            if self._known.get(name) == (endpoint, where) and self._is_heard(endpoint):
                continue
            try:
                is_done = await self._act(endpoint, where)
            except (RomanaError, TimeoutError) as error:
                log.warning("move_unfinished", endpoint=name, message=str(error))
                is_done = False
            if is_done:
                self._known[name] = (endpoint, where)
            else:
                self._known.pop(name, None)
            done = done and is_done
        self._looked.set()
        return done

    def _found(self) -> Mapping[EndpointName, tuple[LocalEndpoint, Whereabouts]]:
        """Attached endpoints that move, or did."""
        remote = self._parts.reconciler.remote
        names = {visit.name for visit in remote.visits.values()}
        return {
            name: (endpoint, whereabouts(endpoint, remote, self._node))
            for name, endpoint in self._parts.standing.endpoints.items()
            if (endpoint.moves or endpoint.allocation_name in names)
            and self._parts.records.attached(name) is not None
        }

    def _is_heard(self, endpoint: LocalEndpoint) -> bool:
        """Whether ipam says what it was told of a move: of one that was aborted and prepared again
        meanwhile it was not."""
        return all(
            visit.known if visit.node == self._node else visit.ready
            for visit in self._visits(endpoint)
            if visit is not None and self._node in {visit.node, visit.to} and visit.to is not None
        )

    def _visits(self, endpoint: LocalEndpoint) -> list[Visit | None]:
        """What ipam says of each of its addresses; None: it is in its block, and stays there."""
        visits = self._parts.reconciler.remote.visits
        return [visits.get((item.network, item.address)) for item in endpoint.addresses]

    async def _act(self, endpoint: LocalEndpoint, where: Whereabouts) -> bool:
        """Whether that is all."""
        deadline = asyncio.get_running_loop().time() + CALL_SECONDS
        match where:
            case Whereabouts.HERE:
                await self._arrived(endpoint)
            case Whereabouts.LEAVING:
                await self._parts.addressing.ipam.report_ready(endpoint.allocation_name, deadline)
            case Whereabouts.ARRIVING:
                self._listen(endpoint)
                await report_ready(self._parts, endpoint, deadline)
            case Whereabouts.ELSEWHERE:
                await self._let_go(endpoint, deadline)
        return self._is_heard(endpoint)

    async def _arrived(self, endpoint: LocalEndpoint) -> None:
        """Tells the links, when the kernel answers there, if it has come from elsewhere."""
        if not endpoint.moves:
            return
        self._begin(self._take_over(endpoint))
        async with asyncio.timeout(CALL_SECONDS):
            await self._parts.reconciler.reached()
        self._parts.passed("arrived")
        log.info("endpoint_arrived", endpoint=endpoint.name)
        self._begin(self._announce(endpoint))

    def _begin(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._at_arrival.add(task)
        task.add_done_callback(self._at_arrival.discard)

    async def _take_over(self, endpoint: LocalEndpoint) -> None:
        deadline = asyncio.get_running_loop().time() + TAKE_OVER_SECONDS
        await take_over(self._parts, endpoint, deadline)

    async def _announce(self, endpoint: LocalEndpoint) -> None:
        for pause in ANNOUNCEMENTS:
            await asyncio.sleep(pause)
            if not is_here(endpoint, self._parts.reconciler.remote, self._node):
                return
            addressing = self._parts.addressing
            if not endpoint.namespace:
                await addressing.announce_gateways(endpoint.host_interface, endpoint.addresses)
            await addressing.announce(endpoint.addresses)

    async def _let_go(self, endpoint: LocalEndpoint, deadline: float) -> None:
        try:
            await self._parts.addressing.ipam.report_ready(endpoint.allocation_name, deadline)
        except NotFound as error:
            text = error.message
            self._parts.standing.note(endpoint.name, Concern.OWNERSHIP, text, withdraw=True)
            return
        except WrongState as error:
            if error.reason != "NOT_MOVING":
                raise
        else:
            return  # what ipam says by its stream is older
        log.info("endpoint_let_go", endpoint=endpoint.name, reason="it is on another node")
        await hand_over(self._parts, endpoint, deadline)
        await stay(self._parts, endpoint, lambda: self._endpoints.detach(endpoint.name))
        self._parts.passed("let_go")

    def _listen(self, endpoint: LocalEndpoint) -> None:
        before = self._listening.get(endpoint.name)
        if not endpoint.namespace and (before is None or before.done()):
            guest = GuestEar(endpoint.host_interface)  # open before ipam is told that it is ready
            task = asyncio.create_task(self._activate_when_heard(endpoint, guest))
            self._listening[endpoint.name] = task

    async def _activate_when_heard(self, endpoint: LocalEndpoint, guest: GuestEar) -> None:
        backoff = Backoff(RETRY, random.random)
        addresses = [item.address for item in endpoint.addresses]
        with guest:
            await guest.heard(addresses)
        log.info("guest_announced", endpoint=endpoint.name)
        while True:
            try:
                deadline = asyncio.get_running_loop().time() + CALL_SECONDS
                await self._parts.addressing.ipam.activate(endpoint.allocation_name, deadline)
            except RomanaError as error:
                log.warning("guest_not_activated", endpoint=endpoint.name, message=error.message)
                await asyncio.sleep(backoff.failed())
            else:
                return


async def report_ready(parts: Parts, endpoint: LocalEndpoint, deadline: float) -> None:
    """Tells ipam that an endpoint that arrives has its rules; raises WrongState if not, or if it
    does not move here."""
    if parts.guard is not None and not await parts.guard.opened(endpoint.name):
        raise WrongState(f"{endpoint.name!r} has no rules yet", "NO_RULES")
    await parts.addressing.ipam.report_ready(endpoint.allocation_name, deadline)


def _is_arriving(found: tuple[LocalEndpoint, Whereabouts] | None) -> bool:
    return found is not None and found[1] is Whereabouts.ARRIVING
