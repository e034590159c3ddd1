"""The packet that begins an SCTP association, made by hand: a kernel may not speak SCTP."""

from __future__ import annotations

import struct


def init_packet(source_port: int, port: int, tag: int, rest: bytes = b"") -> bytes:
    """An INIT chunk (RFC 9260, 3.3.2) in a packet with a right checksum (CRC32c).

    Args:
        source_port: Where it comes from.
        port: Where it goes.
        tag: Of the association, and its first sequence number; not 0.
        rest: What follows the chunk.
    """
    head = struct.pack("!HHI", source_port, port, 0)
    body = struct.pack("!BBHIIHHI", 1, 0, 20, tag, 65536, 1, 1, tag) + rest
    return head + struct.pack("<I", _crc32c(head + bytes(4) + body)) + body


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
