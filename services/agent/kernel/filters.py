"""What the kernel leaves out of a socket's notifications, by classic BPF on the first message."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection, Sequence
from typing import Final

_ATTACH_FILTER: Final = 26
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD_WORD, _LOAD_HALF, _EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06
_KIND_AT, _PORT_AT = 4, 12
"""Offsets of nlmsg_type and nlmsg_pid."""
_PASS: Final = 0xFFFFFFFF


def ignore_ports(sock: socket.socket, ports: Collection[int]) -> None:
    """Drops notifications of what the sockets with those ports did."""
    _attach(sock, (_LOAD_WORD, 0, 0, _PORT_AT), [_swapped("=I", port) for port in ports], _PASS)


def only_kind(sock: socket.socket, kind: int) -> None:
    """Drops notifications of all other kinds."""
    _attach(sock, (_LOAD_HALF, 0, 0, _KIND_AT), [_swapped("=H", kind)], 0)


def _swapped(layout: str, number: int) -> int:
    """A number of the host as a filter loads it."""
    return int.from_bytes(struct.pack(layout, number), "big")


def _attach(
    sock: socket.socket, load: tuple[int, int, int, int], values: Sequence[int], otherwise: int
) -> None:
    """What is loaded and equals none of the values gets `otherwise`, the rest the opposite."""
    left = len(values)
    compare = [(_EQUAL, left - place, 0, value) for place, value in enumerate(values)]
    # one that is equal jumps to the last instruction
    ends = [(_RETURN, 0, 0, otherwise), (_RETURN, 0, 0, _PASS - otherwise)]
    program = [_INSTRUCTION.pack(*each) for each in (load, *compare, *ends)]
    buffer = ctypes.create_string_buffer(b"".join(program))
    sock.setsockopt(
        socket.SOL_SOCKET,
        _ATTACH_FILTER,
        struct.pack("@HP", len(program), ctypes.addressof(buffer)),
    )
