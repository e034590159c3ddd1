"""Nine pods: three namespaces by three nodes, with real servers, and who reaches whom.

Pod `x/a` is the endpoint `x-a` of tenant `x`. Every pod answers TCP and UDP on ports 80 and 81 and
takes notice of SCTP INIT chunks to ports 80 and 81 (this kernel may have no SCTP: they are read
and written on raw sockets), over IPv4 and IPv6.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from romana.agent.v1 import agent_service_pb2 as agent_api
from romana.agent.v1 import endpoint_pb2
from romana.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from romana.ipam.v1 import allocation_pb2

from lab.agents import socket_path
from lab.cluster import Cluster
from lab.namespaces import add, open_socket
from lab.spec import Address
from services.common.rpc.channel import open_channel
from tests.support.sctp import init_packet

NAMESPACES: Final = ("x", "y", "z")
NAMES: Final = ("a", "b", "c")
PORTS: Final = (80, 81)
NETWORKS: Final = ("pods4", "pods6")
SCTP: Final = 132
DENIED_SECONDS: Final = 0.4
"""What has not come by then does not come: within a machine it takes less than a millisecond."""
ALLOWED_SECONDS: Final = 10.0
"""A busy machine, and neighbours that have to be found."""
RETRY_SECONDS: Final = 0.3
AT_ONCE: Final = 48
"""Attempts that shall succeed: on a busy machine more of them starve each other, as each begins in
a thread in another namespace."""


@dataclass(frozen=True, slots=True, order=True)
class Pod:
    """One of the nine."""

    namespace: str
    name: str

    @property
    def endpoint(self) -> str:
        """Its endpoint's name."""
        return f"{self.namespace}-{self.name}"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Probe:
    """A connection to be tried."""

    source: Pod
    destination: Pod
    family: int
    protocol: str
    port: int

    def __str__(self) -> str:
        family = "IPv4" if self.family == socket.AF_INET else "IPv6"
        return f"{self.source} -> {self.destination} {self.protocol}/{self.port} over {family}"


PODS: Final = tuple(Pod(space, name) for space in NAMESPACES for name in NAMES)
Expected = Callable[[Probe], bool]
"""Says whether it gets there."""


@dataclass
class Prober(ABC):
    """Tries connections between pods that serve."""

    addresses: dict[Pod, dict[int, Address]] = field(default_factory=dict)
    """By family."""
    _inits: dict[tuple[Pod, int, str, int], asyncio.Event] = field(default_factory=dict)
    """SCTP: who is waited for on which port, from which address and source port."""

    @abstractmethod
    def path(self, pod: Pod) -> Path:
        """A pod's namespace."""

    async def check(self, expected: Expected, protocols: Iterable[str]) -> list[str]:
        """Tries everything; returns what came out otherwise, for people."""
        probes = [
            Probe(source, destination, family, protocol, port)
            for source in PODS
            for destination in PODS
            if source != destination
            for family in self.addresses[destination]
            for protocol in protocols
            for port in PORTS
        ]
        allowed = [one for one in probes if expected(one)]
        denied = [one for one in probes if not expected(one)]
        reached: list[bool] = []
        for start in range(0, len(allowed), AT_ONCE):
            some = allowed[start : start + AT_ONCE]
            reached += await asyncio.gather(*(self.reaches(one, ALLOWED_SECONDS) for one in some))
        passed = await asyncio.gather(*(self.reaches(one, DENIED_SECONDS) for one in denied))
        return [
            *(f"{one}: denied" for one, got in zip(allowed, reached, strict=True) if not got),
            *(f"{one}: allowed" for one, got in zip(denied, passed, strict=True) if got),
        ]

    async def reaches(self, one: Probe, seconds: float) -> bool:
        """Tries until it works, or so long."""
        attempt = {"tcp": self._tcp, "udp": self._udp, "sctp": self._sctp}[one.protocol]
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, 1.0)):
                    if await attempt(one):
                        return True
                    await asyncio.sleep(RETRY_SECONDS)
        return False

    def _target(self, one: Probe) -> tuple[str, int]:
        return str(self.addresses[one.destination][one.family]), one.port

    async def _tcp(self, one: Probe) -> bool:
        with open_socket(self.path(one.source), one.family, socket.SOCK_STREAM) as client:
            try:
                await asyncio.get_running_loop().sock_connect(client, self._target(one))
            except OSError as error:
                if error.errno == errno.ECONNREFUSED:
                    raise AssertionError(f"nobody listens: {one}") from error
                return False
        return True

    async def _udp(self, one: Probe) -> bool:
        loop = asyncio.get_running_loop()
        with open_socket(self.path(one.source), one.family, socket.SOCK_DGRAM) as client:
            try:
                client.connect(self._target(one))
                await loop.sock_sendall(client, b"romana")
                return await loop.sock_recv(client, 64) == b"romana"
            except OSError:
                return False

    async def _sctp(self, one: Probe) -> bool:
        address, port = self._target(one)
        source = str(self.addresses[one.source][one.family])
        source_port = 20_000 + zlib.crc32(str(one).encode()) % 20_000
        key = (one.destination, port, source, source_port)
        arrived = self._inits[key] = asyncio.Event()
        with open_socket(self.path(one.source), one.family, socket.SOCK_RAW, SCTP) as client:
            client.bind((source, 0))
            try:
                client.sendto(init_packet(source_port, port, tag=1), (address, 0))
            except OSError:
                return False
            await arrived.wait()
        return True


@dataclass(kw_only=True)
class Pods(Prober):
    """The running pods."""

    cluster: Cluster
    nodes: tuple[str, ...]
    _open: dict[Pod, list[socket.socket]] = field(default_factory=dict)

    def node_of(self, pod: Pod) -> str:
        """Every node has one pod of each namespace."""
        return self.nodes[NAMES.index(pod.name)]

    async def attach(self) -> None:
        """Makes all of them, with servers."""
        add(self.cluster.lab.name, [pod.endpoint for pod in PODS])
        await asyncio.gather(*(self._attach(pod) for pod in PODS))
        for pod in PODS:
            self._serve(pod)

    async def attach_again(self, pod: Pod) -> None:
        """Attaches a pod that was detached."""
        add(self.cluster.lab.name, [pod.endpoint])
        await self._attach(pod)
        self._serve(pod)

    async def detach(self, pod: Pod) -> None:
        """Takes a pod away, with its servers."""
        for each in self._open.pop(pod):
            self._close(each)
        await self.cluster.detach(self.node_of(pod), pod.endpoint)

    def close(self) -> None:
        """Closes all sockets."""
        for opened in self._open.values():
            for each in opened:
                self._close(each)

    @staticmethod
    def _close(one: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(one)
        one.close()

    def path(self, pod: Pod) -> Path:
        """Its namespace."""
        return self.cluster.path(pod.endpoint)

    async def _attach(self, pod: Pod) -> None:
        node = self.node_of(pod)
        spec = endpoint_pb2.EndpointSpec(
            name=pod.endpoint,
            tenant=pod.namespace,
            target=endpoint_pb2.EndpointTarget(
                namespace=endpoint_pb2.NamespaceTarget(path=str(self.path(pod)))
            ),
            addresses=[allocation_pb2.AddressSpec(network=network) for network in NETWORKS],
            labels={"pod": pod.name},
        )
        path = socket_path(self.cluster.folder, node)
        async with open_channel(f"unix:{path}") as channel:
            stub: Any = AgentServiceStub(channel)
            said = await stub.AttachEndpoint(agent_api.AttachEndpointRequest(spec=spec), timeout=30)
        found = [ip_address(each.address) for each in said.endpoint.addresses]
        self.addresses[pod] = {
            socket.AF_INET if one.version == 4 else socket.AF_INET6: one for one in found
        }

    def _serve(self, pod: Pod) -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            for port in PORTS:
                self._listen(pod, family, port)
                self._echo(pod, family, port)
            self._notice(pod, family)

    def _bound(self, pod: Pod, family: int, kind: int, port: int, protocol: int = 0) -> Any:
        made = open_socket(self.path(pod), family, kind, protocol)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((str(self.addresses[pod][family]), port))
        self._open.setdefault(pod, []).append(made)
        return made

    def _listen(self, pod: Pod, family: int, port: int) -> None:
        listener = self._bound(pod, family, socket.SOCK_STREAM, port)
        listener.listen(128)

        def accept() -> None:
            with contextlib.suppress(BlockingIOError, OSError):
                while True:
                    listener.accept()[0].close()

        asyncio.get_running_loop().add_reader(listener, accept)

    def _echo(self, pod: Pod, family: int, port: int) -> None:
        server = self._bound(pod, family, socket.SOCK_DGRAM, port)

        def answer() -> None:
            with contextlib.suppress(BlockingIOError, OSError):
                while True:
                    data, peer = server.recvfrom(64)
                    server.sendto(data, peer)

        asyncio.get_running_loop().add_reader(server, answer)

    def _notice(self, pod: Pod, family: int) -> None:
        server = self._bound(pod, family, socket.SOCK_RAW, 0, SCTP)

        def take() -> None:
            with contextlib.suppress(BlockingIOError):
                while True:
                    data, peer = server.recvfrom(256)
                    if family == socket.AF_INET:
                        data = data[(data[0] & 15) * 4 :]
                    source_port, port = struct.unpack_from("!HH", data)
                    waiting = self._inits.get((pod, port, peer[0], source_port))
                    if waiting is not None:
                        waiting.set()

        asyncio.get_running_loop().add_reader(server, take)
