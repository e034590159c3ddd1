"""Netlink messages: packing and parsing, with `struct`. What is in them is the callers' business.

Numbers are those of linux/netlink.h; every message and attribute is aligned to four bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

HEADER: Final = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port."""
ATTRIBUTE: Final = struct.Struct("=HH")

ERROR: Final = 2
DONE: Final = 3

REQUEST: Final = 0x1
ACK: Final = 0x4
DUMP: Final = 0x300
DUMP_INTERRUPTED: Final = 0x10
REPLACE: Final = 0x100
EXCLUSIVE: Final = 0x200
CREATE: Final = 0x400

_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


@dataclass(frozen=True, slots=True)
class Order:
    """A request without its place in a batch."""

    kind: int
    flags: int
    body: bytes


def numbered(orders: Sequence[Order]) -> list[bytes]:
    """Whole messages, numbered from 0."""
    return [
        message(order.kind, order.flags, number, order.body) for number, order in enumerate(orders)
    ]


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A whole message; the body is aligned already."""
    return HEADER.pack(HEADER.size + len(body), kind, flags | REQUEST, sequence, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute, padded."""
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def number(kind: int, value: int) -> bytes:
    """A 32-bit attribute."""
    return struct.pack("=HHI", 8, kind, value)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes, start: int, stop: int) -> dict[int, bytes]:
    """Attributes by kind; of several of a kind the last."""
    result: dict[int, bytes] = {}
    while start + 4 <= stop:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if length < ATTRIBUTE.size:
            break
        result[kind & _TYPE_MASK] = data[start + 4 : start + length]
        start += (length + 3) & ~3
    return result


def messages(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Kind, flags, start of the body and end of each message."""
    start, size = 0, len(data)
    while start + HEADER.size <= size:
        length, kind, flags, _, _ = HEADER.unpack_from(data, start)
        if length < HEADER.size:
            return
        yield kind, flags, start + HEADER.size, start + length
        start += (length + 3) & ~3


def string(data: bytes) -> str:
    """The value of a text attribute."""
    return data.rstrip(b"\0").decode(errors="replace")
