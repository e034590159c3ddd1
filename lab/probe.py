"""Does a packet get there? Real ICMP and TCP between namespaces.

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
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab import icmp
from lab.icmp import AnswerKind, Echo
from lab.namespaces import open_socket
from lab.spec import Address

TIMEOUT = 1.0
"""Seconds to wait for an answer. Within a machine it takes far less than a millisecond."""
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM}


class Outcome(StrEnum):
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
    destination: Address
    echo: Echo
    outcome: Outcome
    seconds: float
    """From sending to the answer; until given up."""
    said_by: str = ""
    """Who answered."""


_OUTCOMES = {
    AnswerKind.REPLY: Outcome.ANSWERED,
    AnswerKind.PROHIBITED: Outcome.PROHIBITED,
    AnswerKind.UNREACHABLE: Outcome.UNREACHABLE,
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
        self._waiting: dict[int, tuple[float, asyncio.Future[tuple[AnswerKind, float, str]]]] = {}
        self._socket = open_socket(path, family, socket.SOCK_RAW, protocol)
        if source is not None:
            self._socket.bind((str(source), 0))
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def close(self) -> None:
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
        future: asyncio.Future[tuple[AnswerKind, float, str]] = asyncio.Future()
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


async def tcp(
    source: Path,
    server: Path,
    destination: Address,
    port: int,
    *,
    source_port: int = 0,
    timeout: float = TIMEOUT,
) -> Outcome:
    """Connects from a namespace to an address of another, which listens on `port`.

    `source_port`: from which, so that a capture tells the connection from others; 0: any.
    """
    family = family_of(destination)
    loop = asyncio.get_running_loop()
    with (
        open_socket(server, family, socket.SOCK_STREAM) as listener,
        open_socket(source, family, socket.SOCK_STREAM) as client,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((str(destination), port))
        listener.listen()
        if source_port:
            client.bind(("", source_port))
        try:
            async with asyncio.timeout(timeout):
                await loop.sock_connect(client, (str(destination), port))
                accepted, _ = await loop.sock_accept(listener)
        except TimeoutError:
            return Outcome.SILENT
        except ConnectionRefusedError:
            return Outcome.REFUSED
        except OSError as error:
            return outcome_of(error)
        accepted.close()
        return Outcome.ANSWERED


def family_of(address: Address) -> int:
    return socket.AF_INET if address.version == icmp.V4 else socket.AF_INET6


def outcome_of(error: OSError) -> Outcome:
    """The kernel's error for the ICMP message that came."""
    if error.errno in {errno.EACCES, errno.EPERM}:
        return Outcome.PROHIBITED
    if error.errno in _UNREACHABLE:
        return Outcome.UNREACHABLE
    raise error
