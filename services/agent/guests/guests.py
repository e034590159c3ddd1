"""Keeps guests of VMs told who they are: dnsmasq runs while there is one, and only then.

Level-triggered: each round says what dnsmasq shall be told and compares. A round begins when an
endpoint comes or goes, when dnsmasq ends, and every second while there are guests, for their
networks' name servers may change, and what dnsmasq complains of is read. What goes wrong is shown
at the endpoints that it concerns, and tried again.

Who wakes whom: `put` and the end of the process wake the loop.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog

from services.agent.endpoints.standing import Concern
from services.agent.guests import dnsmasq
from services.agent.guests.dnsmasq import Dnsmasq
from services.agent.guests.dnsmasq_config import render
from services.agent.guests.guest import Guest, guest_of
from services.agent.model import LocalEndpoint
from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import RomanaError
from services.common.model.names import EndpointName, NetworkName
from services.common.model.network import Network

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 1.0
FORGET_SECONDS: Final = 5.0
"""Between two times that the lease of one guest is dropped: a guest may make up MAC addresses."""


class Troubles(Protocol):
    """Shows what is wrong with endpoints: `Standing`."""

    def note(self, name: EndpointName, concern: Concern, text: str, *, withdraw: bool) -> None:
        """Something is."""

    def clear(self, name: EndpointName, concern: Concern) -> bool:
        """It is not, or no more."""


class Guests:
    """Of the VMs of one node."""

    def __init__(
        self,
        process: Dnsmasq,
        networks: Callable[[], Mapping[NetworkName, Network] | None],
        troubles: Troubles,
    ) -> None:
        """`networks`: those of this node; None: it is not known yet what there is."""
        self._process = process
        self._networks = networks
        self._troubles = troubles
        self._endpoints: dict[EndpointName, LocalEndpoint] = {}
        self._kick = asyncio.Event()
        self._running: int | None = None
        self._forgotten: dict[str, float] = {}
        self._backoff = Backoff(BackoffPolicy(initial=LOOK_SECONDS, maximum=30.0), random.random)

    def put(self, name: EndpointName, endpoint: LocalEndpoint | None) -> None:
        """An endpoint is here, or None: not any more. Returns at once."""
        before = self._endpoints.pop(name, None)
        if endpoint is not None and endpoint.dhcp:
            self._endpoints[name] = endpoint
        if self._endpoints.get(name) != before:
            self._kick.set()

    async def run(self) -> None:
        """Runs until it is cancelled; dnsmasq runs on."""
        self._kick.set()
        try:
            while True:
                pause = await self._round()
                try:
                    async with asyncio.timeout(pause):
                        await self._kick.wait()
                except TimeoutError:
                    pass
                self._kick.clear()
        finally:
            self._unwatch()

    async def _round(self) -> float | None:
        """Seconds until the next; None: there is none before something happens."""
        networks = self._networks()
        if networks is None:
            return LOOK_SECONDS
        guests = {name: guest_of(item, networks) for name, item in self._endpoints.items()}
        if not guests:
            self._unwatch()
            await asyncio.to_thread(self._process.stop)
            return None
        try:
            await self._serve(list(guests.values()))
        except (RomanaError, OSError) as error:
            for name in guests:
                self._troubles.note(name, Concern.GUEST, str(error), withdraw=False)
            return self._backoff.failed()
        self._backoff.succeeded()
        for name in guests:
            self._troubles.clear(name, Concern.GUEST)
        return LOOK_SECONDS

    async def _serve(self, guests: list[Guest]) -> None:
        forgetting = self._to_forget(await asyncio.to_thread(self._process.refused))
        wanted = {told.address for guest in guests for told in guest.addresses}
        forgotten = {
            told.address
            for guest in guests
            if guest.interface in forgetting
            for told in guest.addresses
        }
        if forgotten:
            log.info("leases_forgotten", addresses=sorted(map(str, forgotten)))
        config = render(guests, self._process.folder)
        self._unwatch()  # it may be replaced
        self._running = await asyncio.to_thread(self._process.serve, config, wanted, forgotten)
        asyncio.get_running_loop().add_reader(self._running, self._ended)

    def _to_forget(self, refused: frozenset[str]) -> frozenset[str]:
        now = asyncio.get_running_loop().time()
        found = {
            interface
            for interface in refused
            if now - self._forgotten.get(interface, -FORGET_SECONDS) >= FORGET_SECONDS
        }
        self._forgotten = {
            interface: time
            for interface, time in self._forgotten.items()
            if now - time < FORGET_SECONDS
        } | dict.fromkeys(found, now)
        return frozenset(found)

    def _unwatch(self) -> None:
        if self._running is not None:
            asyncio.get_running_loop().remove_reader(self._running)
            dnsmasq.close(self._running)
            self._running = None

    def _ended(self) -> None:
        log.warning("dnsmasq_ended")
        self._unwatch()
        self._kick.set()
