"""Echoes of ICMP and ICMPv6, and what comes back, as bytes. Pure.

RFC 792 and RFC 4443. A raw ICMP socket of IPv4 delivers the IP header too, one of IPv6 does not
and has its checksum made by the kernel.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum

V4, V6 = 4, 6
_ECHO_REQUEST = {V4: 8, V6: 128}
_ECHO_REPLY = {V4: 0, V6: 129}
_UNREACHABLE = {V4: 3, V6: 1}
_PROHIBITED = {V4: {9, 10, 13}, V6: {1, 5, 6}}
"""Codes of "unreachable" that mean a filter: RFC 1812, 5.2.7.1, and RFC 4443, 3.1."""
_HEADER = struct.Struct("!BBHHH")
_V6_HEADER = 40


class AnswerKind(StrEnum):
    REPLY = "reply"
    UNREACHABLE = "unreachable"
    PROHIBITED = "prohibited"


@dataclass(frozen=True, slots=True)
class Echo:
    identifier: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Something that came back for a request."""

    echo: Echo
    kind: AnswerKind


def request(version: int, echo: Echo, payload: bytes = b"romana lab") -> bytes:
    """An echo request without IP header."""
    kind = _ECHO_REQUEST[version]
    bare = _HEADER.pack(kind, 0, 0, echo.identifier, echo.sequence) + payload
    if version == V6:
        return bare
    return _HEADER.pack(kind, 0, _checksum(bare), echo.identifier, echo.sequence) + payload


def answer(version: int, data: bytes) -> Answer | None:
    """Reads what a raw ICMP socket received; None: it is about no echo."""
    message = data[_v4_header(data) :] if version == V4 else data
    if len(message) < _HEADER.size:
        return None
    kind, code, _, identifier, sequence = _HEADER.unpack_from(message)
    if kind == _ECHO_REPLY[version]:
        return Answer(Echo(identifier, sequence), AnswerKind.REPLY)
    if kind != _UNREACHABLE[version]:
        return None
    echo = requested(version, message[_HEADER.size :])
    if echo is None:
        return None
    return Answer(
        echo, AnswerKind.PROHIBITED if code in _PROHIBITED[version] else AnswerKind.UNREACHABLE
    )


def requested(version: int, packet: bytes) -> Echo | None:
    """Reads an IP packet, or its beginning; None: it is no echo request."""
    if len(packet) < 1 or packet[0] >> 4 != version:
        return None
    start = _v4_header(packet) if version == V4 else _V6_HEADER
    if len(packet) < start + _HEADER.size:
        return None
    kind, _, _, identifier, sequence = _HEADER.unpack_from(packet, start)
    protocol = packet[9] if version == V4 else packet[6]
    if protocol != {V4: 1, V6: 58}[version] or kind != _ECHO_REQUEST[version]:
        return None
    return Echo(identifier, sequence)


def _v4_header(packet: bytes) -> int:
    return (packet[0] & 0xF) * 4 if packet else 0


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(padded[at : at + 2]) for at in range(0, len(padded), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
