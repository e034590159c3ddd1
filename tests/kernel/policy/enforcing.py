"""The part of an agent that enforces, on a site, and connections that it may end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping

from services.agent.kernel.nftables.driver import Nft
from services.agent.model import EndpointAddress, LocalEndpoint
from services.agent.rules.ending import Ending
from services.agent.rules.enforce import Enforcement
from services.agent.rules.firewall import Firewall
from services.agent.rules.render_rules import Logging
from services.agent.rules.resources import Resource
from services.common.model.failsafe import Failsafe
from services.common.model.names import NetworkName, Segment, Tenant
from services.common.model.rules import EndpointRules, RuleSet
from tests.kernel.policy.site import Host, Site, identity, profile
from tests.support.ipam_process import poll
from tests.support.netns import Namespace, enter
from tests.support.waiting import PATIENCE

AWHILE = 0.3
"""Seconds in which what must not come would have come."""


class Agent:
    """The part of an agent that enforces, on a site."""

    def __init__(
        self, site: Site, failsafe: Failsafe | None = None, logging: Logging | None = None
    ) -> None:
        self.site = site
        self.firewall = Firewall(enter=lambda: enter(site.node.path))
        self.enforcement = Enforcement(
            self.firewall,
            Ending(self.firewall, enter=lambda: enter(site.node.path)),
            failsafe or Failsafe(),
            logging,
            quick=0.3,
            check=0.3,
        )
        self.task: asyncio.Task[None] | None = None

    def put(self, *hosts: Host) -> None:
        for host in hosts:
            endpoint = LocalEndpoint(
                host.name,
                Tenant("t"),
                Segment(""),
                host.interface,
                tuple(EndpointAddress(one, NetworkName("net")) for one in host.addresses),
            )
            self.enforcement.put(host.name, endpoint)

    def take(self, *resources: Resource, removed: tuple[str, ...] = ()) -> None:
        found: Mapping[str, Resource] = {identity(one): one for one in resources}
        self.enforcement.update(found, removed, whole=True)

    def give(self, host: Host, *sets: RuleSet) -> None:
        ordered = sorted(sets, key=lambda one: one.order)
        self.take(*sets, EndpointRules(host.name, host.addresses, profile(ordered)))

    def start(self) -> None:
        self.task = asyncio.create_task(self.enforcement.run())

    async def settle(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.enforcement.reached()

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None


def remove_table() -> None:
    nft = Nft()
    nft.remove()
    nft.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    async def holds() -> bool:
        return condition()

    try:
        await poll(holds, PATIENCE)
    except TimeoutError:
        raise AssertionError(what) from None


class Ends:
    """Two sockets that speak to each other."""

    near: socket.socket
    far: socket.socket

    def passes(self, sender: socket.socket, receiver: socket.socket) -> bool:
        """Whether what one says comes to the other, on however busy a machine."""
        return self._comes(sender, receiver, PATIENCE)

    def is_cut(self, sender: socket.socket, receiver: socket.socket) -> bool:
        """Whether it does not come for much longer than it takes."""
        return not self._comes(sender, receiver, AWHILE)

    def _comes(self, sender: socket.socket, receiver: socket.socket, seconds: float) -> bool:
        sender.sendall(b"x")
        receiver.settimeout(seconds)
        try:
            return bool(receiver.recv(16))
        except TimeoutError:
            return False

    def close(self) -> None:
        self.near.close()
        self.far.close()


class Connection(Ends):
    """A real TCP connection from one host to another."""

    def __init__(self, source: Host, target: Host, port: int) -> None:
        self._connect(source.home, target.home, str(target.addresses[0]), port)

    def _connect(self, source: Namespace, target: Namespace, address: str, port: int) -> None:
        self.ear = target.call(lambda: socket.create_server((address, port)))
        self.near = source.call(lambda: socket.create_connection((address, port), PATIENCE))
        self.far, _ = self.ear.accept()

    def close(self) -> None:
        super().close()
        self.ear.close()
