"""What the kernel leaves out of a socket's notifications, by classic BPF on the first message."""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

_ATTACH_FILTER: Final = 26
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD_WORD, _LOAD_HALF, _EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06
_KIND_AT, _PORT_AT = 4, 12
"""Offsets of nlmsg_type and nlmsg_pid."""
_PASS: Final = 0xFFFFFFFF


def ignore_port(sock: socket.socket, port: int) -> None:
    """Drops notifications of what the socket with that port did."""
    swapped = int.from_bytes(struct.pack("=I", port), "big")
    _attach(sock, (_LOAD_WORD, 0, 0, _PORT_AT), (_EQUAL, 0, 1, swapped), drop_then_pass=True)


def only_kind(sock: socket.socket, kind: int) -> None:
    """Drops notifications of all other kinds."""
    swapped = int.from_bytes(struct.pack("=H", kind), "big")
    _attach(sock, (_LOAD_HALF, 0, 0, _KIND_AT), (_EQUAL, 0, 1, swapped), drop_then_pass=False)


def _attach(
    sock: socket.socket,
    load: tuple[int, int, int, int],
    compare: tuple[int, int, int, int],
    *,
    drop_then_pass: bool,
) -> None:
    """Drops what compares equal and passes the rest, or the reverse."""
    equal, other = (0, _PASS) if drop_then_pass else (_PASS, 0)
    program = b"".join(
        _INSTRUCTION.pack(*instruction)
        for instruction in (load, compare, (_RETURN, 0, 0, equal), (_RETURN, 0, 0, other))
    )
    buffer = ctypes.create_string_buffer(program)
    sock.setsockopt(
        socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", 4, ctypes.addressof(buffer))
    )
