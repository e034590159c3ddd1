"""A guest that arrives is heard, whatever has happened to its interface and to who listens."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import Any, cast

from services.agent.endpoints.moving import Moving
from services.agent.kernel.announce import GuestEar
from services.agent.model import EndpointAddress, LocalEndpoint, Remote, Visit
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from tests.support.netns import Namespace, Namespaces, enter

SECONDS = 20.0
RARP = b"\xff" * 6 + bytes.fromhex("020000000001") + b"\x80\x35" + bytes(28)
N, VM = NetworkName("n"), EndpointName("vm")
ME, OTHER = NodeName("me"), NodeName("other")
ADDRESS = EndpointAddress(ip_address("10.0.0.1"), N)


def tap(home: Namespace, guest: Namespace) -> None:
    """The interface, with a guest behind it."""
    home.run(f"ip link add tap0 type veth peer name eth0 netns {guest.name}")
    home.run("ip link set tap0 up")
    guest.run("ip link set eth0 up")


def announce(guest: Namespace) -> None:
    """As qemu does, for a guest that goes on."""

    def send() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("eth0", 0))
            wire.send(RARP)

    guest.call(send)


async def until(done: Callable[[], bool], guest: Namespace) -> None:
    """Announces it until somebody has heard."""
    async with asyncio.timeout(SECONDS):
        while not done():
            await asyncio.to_thread(announce, guest)
            await asyncio.sleep(0.05)


def inside(home: Namespace, work: Callable[[], Any]) -> None:
    def run() -> None:
        enter(home.path)
        asyncio.run(work())

    home.call(run)


async def test_an_interface_that_is_made_anew_is_listened_on() -> None:
    with Namespaces() as made:
        home, guest, later = made.new("home"), made.new("guest"), made.new("later")

        async def work() -> None:
            with GuestEar("tap0") as ear:
                hearing = asyncio.create_task(ear.heard([ADDRESS.address]))
                await asyncio.sleep(0)
                home.run("ip link del tap0")
                await asyncio.sleep(0.2)
                assert not hearing.done()
                tap(home, later)
                await until(hearing.done, later)

        tap(home, guest)
        await asyncio.to_thread(inside, home, work)


async def test_who_begins_anew_after_a_defect_listens_again() -> None:
    """As `services.agent.kept` has it done."""
    with Namespaces() as made:
        home, guest = made.new("home"), made.new("guest")
        activated: list[str] = []
        failing = [True]

        class Ipam:
            async def report_ready(self, _name: str, _deadline: float) -> None:
                if failing:
                    failing.pop()
                    raise LookupError("a defect")

            async def activate(self, name: str, _deadline: float) -> None:
                activated.append(name)

        async def work() -> None:
            endpoint = LocalEndpoint(VM, Tenant("t"), Segment(""), "tap0", (ADDRESS,), moves=True)
            visit = Visit(N, ADDRESS.address, VM, OTHER, ME)
            remote = Remote(
                routes={(N, ip_network("10.0.0.0/29")): OTHER},
                visits={(N, ADDRESS.address): visit},
            )
            parts = SimpleNamespace(
                records=SimpleNamespace(attached=lambda _name: endpoint),
                standing=SimpleNamespace(endpoints={VM: endpoint}),
                reconciler=SimpleNamespace(remote=remote),
                addressing=SimpleNamespace(ipam=Ipam()),
                guard=None,
                moving=asyncio.Event(),
            )
            moving = Moving(ME, cast("Any", None), cast("Any", parts))
            with contextlib.suppress(LookupError):
                await moving.run()
            assert not failing
            task = asyncio.create_task(moving.run())
            await until(lambda: bool(activated), guest)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        tap(home, guest)
        await asyncio.to_thread(inside, home, work)
