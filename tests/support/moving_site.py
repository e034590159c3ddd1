"""A machine that moves between two nodes of a lab while it runs, and who speaks with it.

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
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from romana.agent.v1 import agent_service_pb2 as api
from romana.agent.v1 import endpoint_pb2
from romana.agent.v1.agent_service_pb2_grpc import AgentServiceStub

from lab import control
from lab.agents import socket_path
from lab.cluster import Cluster
from lab.fabric import CONTROL
from lab.namespaces import add, inside, missing, name_of, open_socket, run
from services.common.rpc.channel import open_channel

_TEXT: Final = """
name: {name}
strict_reverse_path: true
networks:
  - name: pods
    cidr: "{base}0/{length}"
    vlan_id: 20
    gateway: "{base}1"
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
  - {{name: n1, labels: {{rack: "1"}}, addresses: {{pods: "{base}79"}}}}
  - {{name: n2, labels: {{rack: "2"}}, addresses: {{pods: "{base}f9"}}}}
  - {{name: n3, labels: {{rack: "1"}}, addresses: {{pods: "{base}7b"}}}}
endpoints:
  - {{name: peer, node: n3, tenant: t}}
  - {{name: left, node: n1, tenant: t, segment: guarded}}
  - {{name: same, node: n2, tenant: t, segment: guarded}}
machines:
  - {{name: plain, network: pods, address: "{base}64"}}
"""
ROMANA: Final = Path(sys.executable).with_name("romana")
MAC: Final = "02:00:00:00:00:77"
TAP: Final = "tapvm"
VM: Final = "vm"
PORT: Final = 4711
"""Of the machine, and of its peers."""
CLOSED: Final = 4712
STEP: Final = 0.002
"""Seconds between packets of a probe."""
PEERS: Final = ("peer", "left", "same", "plain")


class Family(NamedTuple):
    name: str
    base: str
    length: int
    number: socket.AddressFamily

    def text(self) -> str:
        text = _TEXT.format(name=f"move-{uuid.uuid4().hex[:8]}", base=self.base, length=self.length)
        if self.number == socket.AF_INET:
            for hexadecimal in ("79", "f9", "7b", "64"):
                text = text.replace(
                    f'"{self.base}{hexadecimal}"', f'"{self.base}{int(hexadecimal, 16)}"'
                )
        return text

    @property
    def gateway(self) -> str:
        return f"{self.base}1"

    @property
    def told(self) -> str:
        """The gateway that guests are told by DHCP, router advertisements and cloud-init."""
        return "169.254.1.1" if self.number == socket.AF_INET else "fe80::1"

    @property
    def host(self) -> int:
        return 32 if self.number == socket.AF_INET else 128


IPV4: Final = Family("IPv4", "10.78.0.", 24, socket.AF_INET)
IPV6: Final = Family("IPv6", "fd00:78::", 120, socket.AF_INET6)


@dataclass
class Guest:
    """The machine that moves."""

    cluster: Cluster
    family: Family
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
        """As cloud-init would, for one that starts."""
        self.ip("neigh", "flush", "dev", "br0")
        if address != self.address:
            six = self.family.number == socket.AF_INET6
            words = ["nodad"] if six else []
            self.ip("address", "flush", "dev", "br0", "scope", "global")
            self.ip("address", "add", f"{address}/{self.family.host}", "dev", "br0", *words)
        self.address = address
        self.route_by(self.family.gateway)

    def route_by(self, gateway: str) -> None:
        """Its default route."""
        six = self.family.number == socket.AF_INET6
        default = ["default", "via", gateway, "dev", "br0", "onlink"]
        self.ip("-6" if six else "-4", "route", "replace", *default)

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
        """What the command prints, as JSON if it succeeds."""
        command = inside(self.cluster.path(CONTROL), [str(ROMANA), *words, "-o", "json"])
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **control.ENVIRONMENT},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        assert process.returncode == code, (words, process.returncode, out, error)
        return error.decode() if code else json.loads(out or b"null")

    async def state(self) -> tuple[str, str, str]:
        """State, node, and where it moves to."""
        move = (await self.romana("endpoint", "move", VM))["move"]
        return move["state"].removeprefix("MOVE_STATE_"), move["node"], move.get("to_node", "")

    async def attach(self, node: str) -> str:
        spec = endpoint_pb2.EndpointSpec(
            name=VM,
            tenant="t",
            segment="vm",
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
        family = "-6" if self.guest.family.number == socket.AF_INET6 else "-4"
        routes = run(inside(path, ["ip", family, "route", "show", "table", "all", "dev", TAP]))
        proxies = run(inside(path, ["ip", family, "neigh", "show", "proxy"]))
        return any(self.guest.address in line.split() for line in (routes + proxies).splitlines())

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

    async def ready(self, to: str) -> None:
        async def said() -> bool:
            return await self.state() == ("READY", self.guest.node, to)

        await self.until(said)

    async def prepare(self, to: str) -> None:
        """Up to the switch."""
        await self.romana("endpoint", "move", VM, "--to", to)
        assert await self.attach(to) == self.guest.address
        await self.ready(to)

    async def begin(self) -> None:
        """The machine runs on n1."""
        self.guest.configure(await self.attach("n1"))
        self.guest.run_on("n1")
        await self.only_on("n1")

    async def end(self) -> None:
        """Nothing of it is left."""
        for node in ("n1", "n2"):
            await self.detach(node)
        with contextlib.suppress(AssertionError):
            await self.romana("address", "release", VM)

    async def restart(self, program: str) -> None:
        """Starts one that was killed, and waits until it serves."""
        self.cluster.start(program)
        if program not in ("ipam", "policy", "topology"):
            await self.cluster.agent(program).ready()

    async def ipam_serves(self) -> None:
        """Waits for it; a call fails while it starts."""

        async def answers() -> bool:
            with contextlib.suppress(AssertionError):
                await self.state()
                return True
            return False

        await self.until(answers)


@contextlib.asynccontextmanager
async def cluster_of(family: Family) -> AsyncIterator[Cluster]:
    """A lab with a machine that runs nowhere yet."""
    if lacking := missing():
        pytest.skip(f"needs {lacking}")
    made = Cluster(family.text(), guarded=True)
    await made.up()
    try:
        Guest(made, family).make()
        yield made
    finally:
        made.down()


@dataclass
class Stream:
    """A connection, by both ends."""

    began: socket.socket
    answered: socket.socket

    async def talk(self, *, answer_first: bool = False, seconds: float = 60) -> None:
        """Numbers go there and come back, none lost and none twice."""
        loop = asyncio.get_running_loop()
        ends = (self.answered, self.began) if answer_first else (self.began, self.answered)
        async with asyncio.timeout(seconds):
            for number in range(10):
                data = struct.pack("!Q", number)
                for one, other in (ends, ends[::-1]):
                    await loop.sock_sendall(one, data)
                    found = b""
                    while len(found) < len(data):
                        found += await loop.sock_recv(other, len(data) - len(found))
                    assert found == data


@contextlib.asynccontextmanager
async def streams(site: Site, peers: Sequence[str]) -> AsyncIterator[Mapping[str, Stream]]:
    """Connections of the machine with peers, begun by either side."""
    loop, family = asyncio.get_running_loop(), site.guest.family.number
    where = {host.name: str(host.address) for host in await site.cluster.hosts()}
    where[VM] = site.guest.address
    with contextlib.ExitStack() as stack:
        found = {}
        for one, other in ((each, VM) for each in peers):
            for began, answered in ((one, other), (other, one)):
                server, client = (
                    stack.enter_context(
                        open_socket(site.cluster.path(each), family, socket.SOCK_STREAM)
                    )
                    for each in (answered, began)
                )
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                server.bind((where[answered], PORT))
                server.listen()
                async with asyncio.timeout(30):
                    await loop.sock_connect(client, (where[answered], PORT))
                    accepted, _ = await loop.sock_accept(server)
                server.close()
                accepted.settimeout(0)
                found[f"{began} to {answered}"] = Stream(client, stack.enter_context(accepted))
        yield found


class Probing:
    """Datagrams from somebody to somebody, every STEP seconds, and when they came there."""

    def __init__(self, site: Site, peer: str, to: str, address: str, port: int = PORT) -> None:
        self.arrived: list[float] = []
        self._target = (address, port)
        path, family = site.cluster.path, site.guest.family.number
        self._ear = open_socket(path(to), family, socket.SOCK_DGRAM)
        self._mouth = open_socket(path(peer), family, socket.SOCK_DGRAM)

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


def traces(cluster: Cluster, addresses: Sequence[str]) -> Mapping[str, str]:
    """What nodes have of addresses in the kernel and on the disk, and others of the way to them."""
    found = {}
    for node in ("n1", "n2", "n3"):
        path = cluster.path(node)
        commands = {
            "routes": ["ip", "route", "show", "table", "all"],
            "routes6": ["ip", "-6", "route", "show", "table", "all"],
            "proxies": ["ip", "neigh", "show", "proxy"],
            "proxies6": ["ip", "-6", "neigh", "show", "proxy"],
            "rules": ["nft", "list", "table", "inet", "romana"],
        }
        for name, command in commands.items():
            lines = run(inside(path, command)).splitlines()
            found[f"{node} {name}"] = "\n".join(
                line for line in lines if any(each in line for each in addresses)
            )
        journal = cluster.folder / f"agent.{node}" / "endpoints"
        found[f"{node} journal"] = " ".join(sorted(each.name for each in journal.iterdir()))
    return found
