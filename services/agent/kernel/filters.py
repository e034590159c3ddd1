"""What the kernel leaves out of what a socket hears, by classic BPF on the first message."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Collection, Sequence
from typing import Final

_ATTACH_FILTER: Final = 26
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE, _EQUAL, _RETURN = 0x20, 0x28, 0x30, 0x15, 0x06
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


def only_neighbours(sock: socket.socket) -> None:
    """Of frames, passes ARP and neighbour advertisements."""
    _attach_program(
        sock,
        (
            (_LOAD_HALF, 0, 0, 12),
            (_EQUAL, 5, 0, 0x0806),
            (_EQUAL, 0, 5, 0x86DD),
            (_LOAD_BYTE, 0, 0, 20),
            (_EQUAL, 0, 3, 58),
            (_LOAD_BYTE, 0, 0, 54),
            (_EQUAL, 0, 1, 136),
            (_RETURN, 0, 0, _PASS),
            (_RETURN, 0, 0, 0),
        ),
    )


def _attach(
    sock: socket.socket, load: tuple[int, int, int, int], values: Sequence[int], otherwise: int
) -> None:
    """What is loaded and equals none of the values gets `otherwise`, the rest the opposite."""
    left = len(values)
    compare = [(_EQUAL, left - place, 0, value) for place, value in enumerate(values)]
    # one that is equal jumps to the last instruction
    ends = [(_RETURN, 0, 0, otherwise), (_RETURN, 0, 0, _PASS - otherwise)]
    _attach_program(sock, (load, *compare, *ends))


def _attach_program(sock: socket.socket, instructions: Sequence[tuple[int, int, int, int]]) -> None:
    program = b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)
    buffer = ctypes.create_string_buffer(program)
    described = struct.pack("@HP", len(instructions), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, described)
