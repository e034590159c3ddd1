"""Frames on one interface, by the time at which the kernel saw them."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
from pathlib import Path
from typing import NamedTuple, Self

from lab.namespaces import call, open_socket

ETH_P_ALL = 3
ETH_IPV4, ETH_IPV6, ETH_RARP = 0x0800, 0x86DD, 0x8035
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
"""asm-generic/socket.h"""
BUFFER = 64 << 20
HEADER = 14
STAMP = struct.Struct("=qq")


class Frame(NamedTuple):
    moment: float
    """By the clock on the wall."""
    outgoing: bool
    """To whoever is behind the interface."""
    kind: int
    source: str
    """Of IP, else empty."""
    destination: str

    @property
    def is_rarp(self) -> bool:
        return self.kind == ETH_RARP


class Watch:
    """From its making to its close, whatever its reader does meanwhile."""

    def __init__(self, path: Path, interface: str) -> None:
        self._socket = open_socket(path, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        call(path, lambda: self._socket.bind((interface, ETH_P_ALL)))
        self._frames: list[Frame] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def frames(self) -> list[Frame]:
        """All until now, in their order."""
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data, ancillary, _, address = self._socket.recvmsg(128, 256)
                except OSError as error:
                    if error.errno != errno.ENETDOWN:  # said once, when it went down
                        raise
                else:
                    self._frames.append(_frame(data, ancillary, address[2]))
        return self._frames


def _frame(data: bytes, ancillary: list[tuple[int, int, bytes]], direction: int) -> Frame:
    seconds, nanoseconds = next(
        STAMP.unpack(value) for level, kind, value in ancillary if kind == SO_TIMESTAMPNS
    )
    kind = int.from_bytes(data[12:HEADER])
    size, first = {ETH_IPV4: (4, HEADER + 12), ETH_IPV6: (16, HEADER + 8)}.get(kind, (0, 0))
    source, destination = (
        str(ipaddress.ip_address(data[at : at + size])) if size else ""
        for at in (first, first + size)
    )
    return Frame(
        seconds + nanoseconds / 1e9,
        direction == socket.PACKET_OUTGOING,
        kind,
        source,
        destination,
    )
