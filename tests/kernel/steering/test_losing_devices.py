"""Whole agents and the policy service: what becomes of connections when devices go."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from lab.namespaces import call, open_socket
from tests.kernel.steering.cluster_site import (
    FIREWALLS,
    PORT,
    PROBE,
    WAIT,
    Client,
    Server,
    Site,
    device,
    until,
)
from tests.kernel.steering.firewall import came_of, listener

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

PROBED = 8080


@contextlib.asynccontextmanager
async def connected(site: Site, count: int) -> AsyncIterator[Mapping[Client, str]]:
    """Connections to `web`, each with the device that it goes through."""
    clients = [Client(site, "web", PORT) for _ in range(count)]
    try:
        yield {client: await through(site, client) for client in clients}
    finally:
        for client in clients:
            client.close()


async def through(site: Site, client: Client) -> str:
    """Opens a connection; the device that it goes through."""
    assert await client.connect()
    assert await client.talk()
    (found,) = site.through(client)
    return found


async def still(site: Site, client: Client) -> list[str]:
    """Through which devices a connection goes now."""
    for one in site.firewalls:
        one.drain()
    assert await client.talk()
    return site.through(client)


async def test_a_connection_is_moved_to_a_device_that_knows_it(site: Site) -> None:
    for one in site.firewalls:
        one.set_loose(loose=True)  # as if they shared what they know
    try:
        async with Server(site, "web", PORT), connected(site, 40) as devices:
            gone = next(iter(devices.values()))
            site.kill(gone)
            await site.become("down", gone)
            new = {}
            for client, before in devices.items():
                (new[client],) = await still(site, client)
                assert new[client] != gone
                assert before in {gone, new[client]}
            site.revive(gone)
            await site.become("up", gone)
            for client in devices:
                assert await still(site, client) == [new[client]]
    finally:
        for one in site.firewalls:
            one.set_loose(loose=False)


async def test_a_connection_is_cut_until_its_device_is_back(site: Site) -> None:
    await site.group(onLoss="DEVICE_ON_LOSS_CUT")
    async with Server(site, "web", PORT), connected(site, 40) as devices:
        cut, gone = next(iter(devices.items()))
        site.kill(gone)
        await site.become("down", gone)
        for client, before in devices.items():
            if before != gone:
                assert await still(site, client) == [before]
        for one in site.firewalls:
            one.drain()
        with contextlib.closing(site.capture("web")) as web:
            assert not await cut.talk(1)
            assert not came_of(web, cut.port)
        assert not site.through(cut)
        site.revive(gone)
        await site.become("up", gone)
        assert await cut.hear()
        assert await still(site, cut) == [gone]


async def test_the_next_group_takes_what_finds_the_first_one_down(site: Site) -> None:
    first, second = FIREWALLS[:2], FIREWALLS[2:]
    await site.group(devices=[device(name) for name in first])
    await site.group(name="second", devices=[device(name) for name in second])
    try:
        await site.group(
            devices=[device(name) for name in first],
            whenDown="DEVICE_WHEN_DOWN_NEXT",
            next="second",
        )
        await site.become("up", *FIREWALLS)
        async with Server(site, "web", PORT), connected(site, 4) as before:
            assert set(before.values()) <= set(first)
            site.kill(*first)
            await site.become("down", *first)
            async with connected(site, 4) as meanwhile:
                assert set(meanwhile.values()) == set(second)
                site.revive(*first)
                await site.become("up", *first)
                for client in meanwhile:
                    assert await still(site, client) == list(second)
                async with connected(site, 4) as after:
                    assert set(after.values()) <= set(first)
    finally:
        await site.group(devices=[device(name) for name in first])
        await site.driver.call("DeleteDeviceGroup", {"name": "second"})


async def test_a_group_below_its_threshold_takes_nothing_new(site: Site) -> None:
    await site.group(thresholdPercent=60)
    async with Server(site, "web", PORT), connected(site, 40) as devices:
        assert set(devices.values()) == set(FIREWALLS)
        *gone, left = FIREWALLS
        site.kill(gone[0])
        await site.become("down", gone[0])
        async with connected(site, 2):
            pass
        site.kill(gone[1])
        await site.become("down", gone[1])
        with contextlib.closing(Client(site, "web", PORT)) as fresh:
            assert not await fresh.connect(1)
        for client, name in devices.items():
            if name == left:
                assert await still(site, client) == [left]
        site.revive(*gone)
        await site.become("up", *gone)
        async with connected(site, 2):
            pass


@pytest.mark.parametrize("kind", ["TCP", "HTTP"])
async def test_a_device_is_as_its_port_answers(site: Site, kind: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        answering = {
            name: await stack.enter_async_context(Probed(site, name)) for name in FIREWALLS
        }
        await site.group(
            probe={
                "kind": f"DEVICE_PROBE_KIND_{kind}",
                "port": PROBED,
                **PROBE,
            }
        )
        await site.become("up", *FIREWALLS)
        one, other = FIREWALLS[:2]
        await answering[one].close()
        await site.become("down", one)
        if kind == "HTTP":
            answering[other].status = 503
            await site.become("down", other)
            await until(lambda: _is_told(site, other, "status 503"))
            answering[other].status = 200
        await answering[one].listen()
        await site.become("up", *FIREWALLS)


async def _is_told(site: Site, name: str, reason: str) -> bool:
    return reason in (await site.reasons())[name]


class Probed:
    """Answers on a device's port by HTTP."""

    def __init__(self, site: Site, name: str) -> None:
        self._path = site.cluster.path(name)
        self._listener: socket.socket | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self.status = 200

    async def listen(self) -> None:
        made = self._listener = call(self._path, lambda: listener("0.0.0.0", PROBED))
        made.setblocking(False)  # noqa: FBT003
        asyncio.get_running_loop().add_reader(made, self._accept, made)

    async def close(self) -> None:
        """Not by asyncio's server, which loses what it is accepting when it is closed."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
            await asyncio.gather(*self._answering)

    def _accept(self, made: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            near, _ = made.accept()
            near.setblocking(False)  # noqa: FBT003
            task = asyncio.create_task(self._answer(near))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, near: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=near)
        with contextlib.suppress(OSError):
            if await reader.readline():
                writer.write(f"HTTP/1.0 {self.status} so\r\n\r\n".encode())
                await writer.drain()
        writer.close()

    async def __aenter__(self) -> Probed:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def test_of_two_hundred_flows_only_those_of_a_dead_device_are_disturbed(site: Site) -> None:
    async with Echo(site, "web", PORT), contextlib.AsyncExitStack() as stack:
        flows = [stack.enter_context(Flow(site, "web", PORT)) for _ in range(200)]
        before = [await flow.through(site) for flow in flows]
        assert set(before) == set(FIREWALLS)
        gone = FIREWALLS[1]
        async with asyncio.TaskGroup() as tasks:
            end = asyncio.Event()
            for flow in flows:
                tasks.create_task(flow.run(end))
            await until(lambda: said(flows, 5))
            site.kill(gone)
            await site.become("down", gone)
            await until(lambda: said(flows, 5))
            end.set()
        disturbed = [device for flow, device in zip(flows, before, strict=True) if flow.missed]
        assert {*disturbed} <= {gone}
        silent = max(flow.silent for flow in flows)
        told = f"{len(disturbed)} of {len(flows)} flows disturbed, for {silent * 1000:.0f} ms"
        print(told)  # noqa: T201 - a figure for people, which nothing is held to
        meanwhile = [await flow.through(site) for flow in flows]
        assert [new for new, old in zip(meanwhile, before, strict=True) if old != gone] == [
            old for old in before if old != gone
        ]
        assert gone not in meanwhile
        site.revive(gone)
        await site.become("up", gone)
        assert [await flow.through(site) for flow in flows] == meanwhile


async def said(flows: Sequence[Flow], count: int) -> bool:
    """Whether each has had so many answers since this was asked first."""
    if any(flow.wanted == 0 for flow in flows):
        for flow in flows:
            flow.wanted = flow.answers + count
    if not all(flow.answers >= flow.wanted for flow in flows):
        return False
    for flow in flows:
        flow.wanted = 0
    return True


class Echo(asyncio.DatagramProtocol):
    """Answers datagrams on a port of an endpoint with themselves."""

    def __init__(self, site: Site, name: str, port: int) -> None:
        self._wire = open_socket(site.cluster.path(name), socket.AF_INET, socket.SOCK_DGRAM)
        self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._wire.bind((site.addresses[name], port))
        self._transport: asyncio.DatagramTransport | None = None

    def datagram_received(self, data: bytes, addr: object) -> None:
        assert self._transport is not None
        self._transport.sendto(data, addr)

    async def __aenter__(self) -> Echo:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, sock=self._wire)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._transport is not None
        self._transport.close()


PACE = 0.5
"""Seconds until the next datagram without an answer: were it much less, two hundred flows would
send more than a busy machine answers."""


class Flow:
    """Datagrams of `ask`, one after the other."""

    def __init__(self, site: Site, target: str, port: int) -> None:
        self._wire = open_socket(site.cluster.path("ask"), socket.AF_INET, socket.SOCK_DGRAM)
        self._wire.connect((site.addresses[target], port))
        self._number = 0
        self._came = asyncio.Event()
        self._last = 0.0
        self.answers = 0
        self.missed: set[int] = set()
        """Datagrams without an answer so far."""
        self.wanted = 0
        self.silent = 0.0
        """Seconds between two answers, at most."""

    async def through(self, site: Site) -> str:
        """The device that it goes through."""
        for one in site.firewalls:
            one.drain()
        assert await self._ask(WAIT)
        port = self._wire.getsockname()[1]
        (found,) = (one.name for one in site.firewalls if came_of(one.wire, port))
        return found

    async def run(self, end: asyncio.Event) -> None:
        """Speaks until then."""
        self._last, self.silent = time.monotonic(), 0.0
        while not end.is_set():
            if await self._ask(PACE):
                await asyncio.sleep(0.05)
        assert await self._ask(WAIT)  # and what was only late has come by then

    async def _ask(self, seconds: float) -> bool:
        """Whether an answer comes."""
        mine = self._number = self._number + 1
        self.missed.add(mine)
        self._wire.send(struct.pack("!I", mine))
        try:
            async with asyncio.timeout(seconds):
                while mine in self.missed:
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            return False
        return True

    def _read(self) -> None:
        """Not in `_ask`: an answer that comes when the time was up is one, too."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.missed.discard(*struct.unpack("!I", self._wire.recv(64)))
                now = time.monotonic()
                self._last, self.silent = now, max(self.silent, now - self._last)
                self.answers += 1
                self._came.set()

    def __enter__(self) -> Flow:
        asyncio.get_running_loop().add_reader(self._wire, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._wire)
        self._wire.close()
