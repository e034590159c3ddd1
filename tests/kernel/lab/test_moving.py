"""Endpoints that move to another node while they run (DESIGN.md, section 7), over a lab.

The machine is a namespace with a bridge, whose ports are the guest's ends of a "tap" on each of two
nodes: while neither is in the bridge it is frozen, and its sockets live on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from romana.agent.v1 import agent_service_pb2 as api
from romana.agent.v1 import endpoint_pb2
from romana.agent.v1.agent_service_pb2_grpc import AgentServiceStub

from lab import control
from lab.agents import socket_path
from lab.cluster import Cluster
from lab.fabric import CONTROL
from lab.namespaces import add, inside, missing, name_of, open_socket, run
from services.common.rpc.channel import open_channel

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

TEXT = """
name: {name}
strict_reverse_path: true
networks:
  - name: pods
    cidr: 10.78.0.0/24
    vlan_id: 20
    gateway: 10.78.0.1
    mode: onlink
    tenants: [t]
    reuse_delay: 0s
topologies:
  - name: dc
    networks: [pods]
    groups:
      - {{name: rack-1, assignment: {{rack: "1"}}}}
      - {{name: rack-2, assignment: {{rack: "2"}}}}
nodes:
  - {{name: n1, labels: {{rack: "1"}}, addresses: {{pods: 10.78.0.121}}}}
  - {{name: n2, labels: {{rack: "2"}}, addresses: {{pods: 10.78.0.122}}}}
  - {{name: n3, labels: {{rack: "1"}}, addresses: {{pods: 10.78.0.123}}}}
endpoints:
  - {{name: peer, node: n3, tenant: t}}
  - {{name: same, node: n2, tenant: t}}
machines:
  - {{name: plain, network: pods, address: 10.78.0.100}}
"""
ROMANA = Path(sys.executable).with_name("romana")
GATEWAY = "10.78.0.1"
MAC = "02:00:00:00:00:77"
TAP = "tapvm"
VM = "vm"
PORT = 4711
STEP = 0.002
"""Seconds between packets of a probe."""


@dataclass
class Guest:
    """The machine that moves."""

    cluster: Cluster
    address: str = ""
    node: str = "n1"

    def ip(self, *words: str) -> None:
        run(inside(self.cluster.path(VM), ["ip", *words]))

    def make(self) -> None:
        lab = self.cluster.lab.name
        add(lab, [VM])
        self.ip("link", "add", "br0", "address", MAC, "type", "bridge")
        self.ip("link", "add", "keeps", "type", "veth", "peer", "name", "kept")
        self.ip("link", "set", "keeps", "up", "master", "br0")
        self.ip("link", "set", "kept", "up")
        self.ip("link", "set", "br0", "up")
        self.ip("link", "add", "frozen", "type", "bridge")  # it stays down: what comes in is lost
        for node in ("n1", "n2"):
            there = name_of(lab, node)
            self.ip("link", "add", f"p-{node}", "type", "veth", "peer", TAP, "netns", there)
            self.ip("link", "set", f"p-{node}", "up", "master", "frozen")
            run(inside(self.cluster.path(node), ["ip", "link", "set", TAP, "up"]))

    def configure(self, address: str) -> None:
        """As cloud-init would."""
        if address != self.address:
            self.ip("address", "flush", "dev", "br0")
            self.ip("address", "add", f"{address}/32", "dev", "br0")
            self.ip("route", "replace", "default", "via", GATEWAY, "dev", "br0", "onlink")
        self.address = address

    def run_on(self, node: str) -> None:
        """It is frozen, and goes on there."""
        for other in ("n1", "n2"):
            if other != node:
                self.ip("link", "set", f"p-{other}", "master", "frozen")
        self.ip("link", "set", f"p-{node}", "master", "br0")
        self.node = node

    def announce(self) -> None:
        """As qemu does (`announce-self`)."""
        mac = bytes.fromhex(MAC.replace(":", ""))
        frame = b"\xff" * 6 + mac + struct.pack("!HHHBBH", 0x8035, 1, 0x0800, 6, 4, 3)
        frame += (mac + bytes(4)) * 2
        with open_socket(self.cluster.path(VM), socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("br0", 0))
            raw.send(frame.ljust(60, b"\0"))


@dataclass
class Site:
    cluster: Cluster
    guest: Guest

    async def romana(self, *words: str, code: int = 0) -> Any:
        command = inside(self.cluster.path(CONTROL), [str(ROMANA), *words, "-o", "json"])
        process = await asyncio.create_subprocess_exec(
            *command,
            env=_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        assert process.returncode == code, (words, process.returncode, out, error)
        return json.loads(out if code == 0 else error) if code == 0 else error.decode()

    async def state(self) -> tuple[str, str, str]:
        """State, node, and where it moves to."""
        move = (await self.romana("endpoint", "move", VM))["move"]
        return move["state"].removeprefix("MOVE_STATE_"), move["node"], move.get("to_node", "")

    async def attach(self, node: str) -> str:
        spec = endpoint_pb2.EndpointSpec(
            name=VM,
            tenant="t",
            target=endpoint_pb2.EndpointTarget(
                interface=endpoint_pb2.InterfaceTarget(interface=TAP)
            ),
        )
        async with open_channel(f"unix:{socket_path(self.cluster.folder, node)}") as channel:
            said = await AgentServiceStub(channel).AttachEndpoint(  # type: ignore[misc]
                api.AttachEndpointRequest(spec=spec), timeout=60
            )
        return str(said.endpoint.addresses[0].address)

    async def detach(self, node: str) -> None:
        await self.cluster.agent(node).detach(VM)

    async def has(self, node: str) -> bool:
        return VM in [each.name for each in await self.cluster.agent(node).endpoints()]

    def holds(self, node: str) -> bool:
        """Whether its kernel leads to the machine, or answers for it on the VLAN."""
        path = self.cluster.path(node)
        routes = run(inside(path, ["ip", "route", "show", "table", "all", "dev", TAP]))
        proxies = run(inside(path, ["ip", "neigh", "show", "proxy"]))
        return self.guest.address in routes or self.guest.address in proxies.split()

    async def until(self, found: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while not await found():  # noqa: ASYNC110  # it is somebody else's doing
                await asyncio.sleep(0.05)

    async def only_on(self, node: str) -> None:
        """Waits until exactly that node has it."""
        other = {"n1": "n2", "n2": "n1"}[node]

        async def settled() -> bool:
            return (
                self.holds(node)
                and not self.holds(other)
                and await self.has(node)
                and not await self.has(other)
            )

        await self.until(settled)

    async def prepare(self, to: str) -> None:
        await self.romana("endpoint", "move", VM, "--to", to)
        assert await self.attach(to) == self.guest.address

        async def ready() -> bool:
            return await self.state() == ("READY", self.guest.node, to)

        await self.until(ready)


def _environment() -> dict[str, str]:
    return {**os.environ, **control.ENVIRONMENT}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    if lacking := missing():
        pytest.skip(f"needs {lacking}")
    made = Cluster(TEXT.format(name=f"move-{uuid.uuid4().hex[:8]}"), guarded=True)
    await made.up()
    try:
        guest = Guest(made)
        guest.make()
        yield made
    finally:
        made.down()


@pytest_asyncio.fixture(loop_scope="module")
async def site(cluster: Cluster) -> AsyncIterator[Site]:
    """The machine runs on n1."""
    made = Site(cluster, Guest(cluster))
    address = await made.attach("n1")
    made.guest.configure(address)
    made.guest.run_on("n1")
    await made.only_on("n1")
    yield made
    for node in ("n1", "n2"):
        await made.detach(node)
    with contextlib.suppress(AssertionError):
        await made.romana("address", "release", VM)


async def _echo(server: socket.socket) -> None:
    loop = asyncio.get_running_loop()

    async def serve(one: socket.socket) -> None:
        with one:
            while data := await loop.sock_recv(one, 65536):
                await loop.sock_sendall(one, data)

    async with asyncio.TaskGroup() as group:
        while True:
            one, _ = await loop.sock_accept(server)
            one.settimeout(0)
            group.create_task(serve(one))


@contextlib.asynccontextmanager
async def streams(site: Site, *peers: str) -> AsyncIterator[dict[str, socket.socket]]:
    """Connections from peers to the machine, which sends back what it gets."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        path = site.cluster.path(VM)
        server = stack.enter_context(open_socket(path, socket.AF_INET, socket.SOCK_STREAM))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((site.guest.address, PORT))
        server.listen()
        echoing = asyncio.create_task(_echo(server))
        found = {}
        try:
            for peer in peers:
                one = stack.enter_context(
                    open_socket(site.cluster.path(peer), socket.AF_INET, socket.SOCK_STREAM)
                )
                async with asyncio.timeout(30):
                    await loop.sock_connect(one, (site.guest.address, PORT))
                found[peer] = one
            yield found
        finally:
            echoing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await echoing


async def talk(one: socket.socket, rounds: int = 20) -> None:
    """Numbers go there and come back, none lost and none twice."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        for number in range(rounds):
            data = struct.pack("!Q", number)
            await loop.sock_sendall(one, data)
            back = b""
            while len(back) < len(data):
                back += await loop.sock_recv(one, len(data) - len(back))
            assert back == data


class Probing:
    """Datagrams from somebody to the machine, every STEP seconds, and when they came there."""

    def __init__(self, site: Site, peer: str) -> None:
        self.arrived: list[float] = []
        self._target = (site.guest.address, PORT)
        path = site.cluster.path
        self._ear = open_socket(path(VM), socket.AF_INET, socket.SOCK_DGRAM)
        self._mouth = open_socket(path(peer), socket.AF_INET, socket.SOCK_DGRAM)

    async def __aenter__(self) -> Probing:
        self._ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._ear.bind(self._target)
        asyncio.get_running_loop().add_reader(self._ear, self._hear)
        self._sending = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sending.cancel()
        asyncio.get_running_loop().remove_reader(self._ear)
        self._ear.close()
        self._mouth.close()

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._ear.recv(100)
                self.arrived.append(time.monotonic())

    async def _send(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                self._mouth.sendto(b"x", self._target)
            await asyncio.sleep(STEP)

    async def first_after(self, moment: float) -> float:
        async with asyncio.timeout(60):
            while not self.arrived or self.arrived[-1] < moment:  # noqa: ASYNC110
                await asyncio.sleep(STEP)
        return next(one for one in self.arrived if one >= moment) - moment


PEERS = ("peer", "same", "plain")


async def test_connections_survive_a_move_by_the_guests_own_word(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    async with streams(site, *PEERS) as found:
        for one in found.values():
            await talk(one)
        await site.prepare("n2")
        for one in found.values():
            await talk(one)  # nothing has changed
        assert not site.holds("n2")
        gaps = {}
        async with contextlib.AsyncExitStack() as stack:
            probing = {peer: Probing(site, peer) for peer in ("plain",)}
            for each in probing.values():
                await stack.enter_async_context(each)
            await probing["plain"].first_after(time.monotonic())
            site.guest.run_on("n2")
            switched = time.monotonic()
            site.guest.announce()
            for peer, each in probing.items():
                gaps[peer] = await each.first_after(switched)
        await site.only_on("n2")
        for one in found.values():
            await talk(one)
        assert await site.state() == ("SETTLED", "n2", "")
    with capsys.disabled():
        said = ", ".join(f"{peer} {seconds * 1000:.0f} ms" for peer, seconds in gaps.items())
        print(f"\nfrom the guest's RARP to the first packet: {said}")  # noqa: T201
