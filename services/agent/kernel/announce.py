"""Sends and hears the frames of `conflict_frames` on an interface of the node."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, Self

from services.agent.kernel import conflict_frames
from services.common.errors import Forbidden, NotFound, WrongState
from services.common.model.network import Address

_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP: Final = 1
_PACKET_MR_ALLMULTI: Final = 2
_ETH_P_ALL: Final = 3
_FRAME_MOST: Final = 2048
_DOWN_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How long to ask whether an address is taken.

    RFC 5227 takes 5 to 9 s, for hosts on links that may be half up. Here the link is up and served,
    and a container's start waits: three probes in 0.2 s, as long as anybody needs to answer ARP.
    """

    count: int = 3
    """0: do not ask."""
    seconds: float = 0.2
    """In all."""


class Announcer:
    """Frames on the node's attachments."""

    def __init__(self, settings: ProbeSettings | None = None) -> None:
        self._settings = settings or ProbeSettings()

    async def conflict(self, interface: str, address: Address) -> str | None:
        """Asks whether somebody has the address: its MAC address; None: nobody answered.

        NotFound: there is no such interface.
        """
        count = self._settings.count
        if not count:
            return None
        loop = asyncio.get_running_loop()
        with _opened(interface) as (channel, mac):
            end = loop.time() + self._settings.seconds
            for left in range(count, 0, -1):
                await loop.sock_sendall(channel, conflict_frames.probe(address, mac))
                until = loop.time() + (end - loop.time()) / left * random.uniform(0.8, 1)  # noqa: S311
                found = await _heard(channel, address, mac, end if left == 1 else until)
                if found is not None:
                    return found
        return None

    async def announce(self, interface: str, addresses: Sequence[Address]) -> None:
        """Tells the link that these addresses are reached through this node."""
        loop = asyncio.get_running_loop()
        with _opened(interface) as (channel, mac):
            for address in addresses:
                await loop.sock_sendall(channel, conflict_frames.announcement(address, mac))


class GuestEar:
    """Hears what is behind a VM's interface; open from the beginning until it is left."""

    def __init__(self, interface: str) -> None:
        """Raises NotFound if there is no such interface."""
        self._interface = interface
        self._opened = ExitStack()
        self._channel, self._mac = self._opened.enter_context(_opened(interface))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    async def heard(self, addresses: Sequence[Address]) -> None:
        """Waits until the guest says that it runs: by RARP, as qemu does for one that it has
        resumed, or by an announcement of one of the addresses."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                frame, sender = await loop.sock_recvfrom(self._channel, _FRAME_MOST)
            except OSError:  # the interface is down, or gone
                await self._listen_again()
                continue
            if sender[2] != socket.PACKET_OUTGOING and (
                conflict_frames.is_rarp(frame)
                or any(conflict_frames.claimant(frame, each, self._mac) for each in addresses)
            ):
                return

    async def _listen_again(self) -> None:
        """Waits for the interface, or another one of its name: the socket is of the one before."""
        while True:
            await asyncio.sleep(_DOWN_SECONDS)
            with contextlib.suppress(OSError):
                self._mac = _bind(self._channel, self._interface)
                return


async def _heard(channel: socket.socket, address: Address, mac: bytes, until: float) -> str | None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(until):
            while True:
                frame = await loop.sock_recv(channel, _FRAME_MOST)
                claimant = conflict_frames.claimant(frame, address, mac)
                if claimant is not None:
                    return claimant
    except TimeoutError:
        return None


@contextmanager
def _opened(interface: str) -> Iterator[tuple[socket.socket, bytes]]:
    try:
        channel = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    except PermissionError as error:
        raise Forbidden("the agent needs CAP_NET_RAW", "NO_CAPABILITY") from error
    with channel:
        channel.settimeout(0)
        try:
            mac = _bind(channel, interface)
        except OSError as error:
            raise NotFound(
                f"there is no interface {interface!r}", "INTERFACE_NOT_FOUND", {"name": interface}
            ) from error
        try:
            yield channel, mac
        except OSError as error:
            raise WrongState(
                f"{interface} cannot be sent on: {error.strerror}", "INTERFACE_DOWN"
            ) from error


def _bind(channel: socket.socket, interface: str) -> bytes:
    """Has it hear all of an interface; returns that one's MAC address."""
    index = socket.if_nametoindex(interface)
    channel.bind((interface, _ETH_P_ALL))
    membership = struct.pack("iHH8s", index, _PACKET_MR_ALLMULTI, 0, b"")
    channel.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
    mac: bytes = channel.getsockname()[4]
    return mac
