"""Does a packet get there? Real ICMP, TCP and UDP between namespaces.

All sockets are opened in their namespaces by this process, which then uses them from one event
loop: no program has to be started anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab import icmp
from lab.icmp import Echo, Kind
from lab.namespaces import open_socket
from lab.spec import Address

TIMEOUT = 1.0
"""Seconds to wait for an answer. Within a machine it takes far less than a millisecond."""
TRAFFIC_TIMEOUT = 5.0
"""Seconds; so long that a busy machine is not taken for a lost packet."""
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM}


class Outcome(StrEnum):
    """What became of an attempt."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """By whoever has the address: nobody listens there."""
    PROHIBITED = "prohibited"
    """By a filter that says so."""
    UNREACHABLE = "unreachable"
    """A router says that there is nobody; to TCP and UDP the kernel says no more of a filter."""
    SILENT = "silent"
    """Nothing came back in time."""


@dataclass(frozen=True, slots=True)
class Echoed:
    """What became of an echo request."""

    destination: Address
    echo: Echo
    outcome: Outcome
    seconds: float
    """From sending to the answer; until given up."""
    said_by: str = ""
    """Who answered."""


_OUTCOMES = {
    Kind.REPLY: Outcome.ANSWERED,
    Kind.PROHIBITED: Outcome.PROHIBITED,
    Kind.UNREACHABLE: Outcome.UNREACHABLE,
}


class Pinger:
    """Sends echo requests from a namespace and matches what comes back."""

    def __init__(self, path: Path, version: int = icmp.V4, source: Address | None = None) -> None:
        family, protocol = (
            (socket.AF_INET, socket.IPPROTO_ICMP)
            if version == icmp.V4
            else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
        )
        self._version = version
        self._identifier = random.getrandbits(16)  # nobody is to be surprised
        self._sequence = 0
        self._waiting: dict[int, tuple[float, asyncio.Future[tuple[Kind, float, str]]]] = {}
        self._socket = open_socket(path, family, socket.SOCK_RAW, protocol)
        if source is not None:
            self._socket.bind((str(source), 0))
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def close(self) -> None:
        """Ends it."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    async def __aenter__(self) -> Pinger:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def ping(self, destination: Address, timeout: float = TIMEOUT) -> Echoed:
        """Sends one request and waits for what comes back."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        echo = Echo(self._identifier, self._sequence)
        future: asyncio.Future[tuple[Kind, float, str]] = asyncio.Future()
        begun = time.perf_counter()
        self._waiting[echo.sequence] = (begun, future)
        try:
            self._socket.sendto(icmp.request(self._version, echo), (str(destination), 0))
            async with asyncio.timeout(timeout):
                kind, seconds, said_by = await future
        except TimeoutError:
            return Echoed(destination, echo, Outcome.SILENT, timeout)
        except OSError as error:
            if error.errno not in _UNREACHABLE:
                raise
            return Echoed(destination, echo, Outcome.UNREACHABLE, 0.0, "its own kernel")
        finally:
            del self._waiting[echo.sequence]
        return Echoed(destination, echo, _OUTCOMES[kind], seconds, said_by)

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError, OSError):
            while True:
                data, (said_by, *_) = self._socket.recvfrom(2048)
                now = time.perf_counter()
                answer = icmp.answer(self._version, data)
                if answer is None or answer.echo.identifier != self._identifier:
                    continue
                begun, future = self._waiting.get(answer.echo.sequence, (0.0, None))
                if future is not None and not future.done():
                    future.set_result((answer.kind, now - begun, said_by))


async def ping(path: Path, destination: Address, *, timeout: float = TIMEOUT) -> Echoed:
    """One echo from a namespace."""
    async with Pinger(path, destination.version) as pinger:
        return await pinger.ping(destination, timeout)


async def reachable(path: Path, destination: Address, *, within: float = 30.0) -> bool:
    """Whether it answers at last: routes and neighbours may still settle."""
    async with Pinger(path, destination.version) as pinger:
        end = time.monotonic() + within
        while time.monotonic() < end:
            if (await pinger.ping(destination, 0.5)).outcome is Outcome.ANSWERED:
                return True
            await asyncio.sleep(0.05)
    return False


async def tcp(
    source: Path, server: Path, destination: Address, port: int, *, timeout: float = TIMEOUT
) -> Outcome:
    """Connects from a namespace to an address of another, which listens on `port`."""
    family = _family(destination)
    loop = asyncio.get_running_loop()
    with (
        open_socket(server, family, socket.SOCK_STREAM) as listener,
        open_socket(source, family, socket.SOCK_STREAM) as client,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(destination), port))
        listener.listen()
        try:
            async with asyncio.timeout(timeout):
                await loop.sock_connect(client, (str(destination), port))
                accepted, _ = await loop.sock_accept(listener)
        except TimeoutError:
            return Outcome.SILENT
        except ConnectionRefusedError:
            return Outcome.REFUSED
        except OSError as error:
            return _failed(error)
        accepted.close()
        return Outcome.ANSWERED


async def udp(
    source: Path, server: Path, destination: Address, port: int, *, timeout: float = TIMEOUT
) -> Outcome:
    """Sends a datagram from a namespace to an address of another, which sends it back."""
    family = _family(destination)
    loop = asyncio.get_running_loop()
    with (
        open_socket(server, family, socket.SOCK_DGRAM) as echoing,
        open_socket(source, family, socket.SOCK_DGRAM) as client,
    ):
        echoing.bind((str(destination), port))
        try:
            async with asyncio.timeout(timeout):
                client.connect((str(destination), port))
                await loop.sock_sendall(client, b"romana lab")
                received = asyncio.ensure_future(loop.sock_recvfrom(echoing, 64))
                answered = asyncio.ensure_future(loop.sock_recv(client, 64))
                try:
                    # an ICMP error ends the second before there is a first
                    await asyncio.wait({received, answered}, return_when="FIRST_COMPLETED")
                    if not answered.done():
                        data, peer = await received
                        await loop.sock_sendto(echoing, data, peer)
                    await answered
                finally:
                    received.cancel()
                    answered.cancel()
                    await asyncio.gather(received, answered, return_exceptions=True)
        except TimeoutError:
            return Outcome.SILENT
        except ConnectionRefusedError:
            return Outcome.REFUSED
        except OSError as error:
            return _failed(error)
        return Outcome.ANSWERED


@contextlib.asynccontextmanager
async def traffic(
    flows: Iterable[tuple[Path, Address]], *, interval: float = 0.05
) -> AsyncIterator[dict[tuple[str, Address], list[Echoed]]]:
    """Echoes at a steady rate from each namespace to an address while the block runs.

    Yields what became of them so far, by namespace and destination.
    """
    flows = [*flows]
    results: dict[tuple[str, Address], list[Echoed]] = {
        (path.name, destination): [] for path, destination in flows
    }
    stop = asyncio.Event()

    async def flow(path: Path, destination: Address) -> None:
        found = results[path.name, destination]
        pending: set[asyncio.Task[None]] = set()

        async def one(pinger: Pinger) -> None:
            found.append(await pinger.ping(destination, TRAFFIC_TIMEOUT))

        async with Pinger(path, destination.version) as pinger:
            while not stop.is_set():
                task = asyncio.ensure_future(one(pinger))
                pending.add(task)
                task.add_done_callback(pending.discard)
                await asyncio.sleep(interval)
            await asyncio.gather(*pending)

    async with asyncio.TaskGroup() as group:
        for path, destination in flows:
            group.create_task(flow(path, destination))
        try:
            yield results
        finally:
            stop.set()


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == icmp.V4 else socket.AF_INET6


def _failed(error: OSError) -> Outcome:
    """The kernel's error for the ICMP message that came."""
    if error.errno in {errno.EACCES, errno.EPERM}:
        return Outcome.PROHIBITED
    if error.errno in _UNREACHABLE:
        return Outcome.UNREACHABLE
    raise error
