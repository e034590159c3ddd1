"""An ICMP echo, since not every machine has `ping`; says what came back."""

from __future__ import annotations

import enum
import ipaddress
import os
import socket
import struct
import time


class Answer(enum.Enum):
    """What came back."""

    REPLY = "reply"
    UNREACHABLE = "unreachable"
    LOOP = "time exceeded"
    NOTHING = "nothing"
    NO_ROUTE = "not sent: this node knows no way"


_KINDS = {  # per ICMP type: version 4, then version 6
    4: {0: Answer.REPLY, 3: Answer.UNREACHABLE, 11: Answer.LOOP},
    6: {129: Answer.REPLY, 1: Answer.UNREACHABLE, 3: Answer.LOOP},
}
_REQUEST = {4: 8, 6: 128}


def echo(address: str, *, source: str = "", timeout: float = 1.0) -> Answer:
    """Sends one echo request from the calling thread's namespace and waits for its answer."""
    version = ipaddress.ip_address(address).version
    family, protocol = (
        (socket.AF_INET, socket.IPPROTO_ICMP)
        if version == 4
        else (socket.AF_INET6, socket.IPPROTO_ICMPV6)
    )
    token = os.urandom(8)
    with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
        if source:
            raw.bind((source, 0))
        message = struct.pack("!BBHHH", _REQUEST[version], 0, 0, 1, 1) + token
        if version == 4:
            message = message[:2] + struct.pack("!H", _checksum(message)) + message[4:]
        try:
            raw.sendto(message, (address, 0))
        except OSError:
            return Answer.NO_ROUTE
        return _wait(raw, version, token, timeout)


def _wait(raw: socket.socket, version: int, token: bytes, timeout: float) -> Answer:
    """Errors quote the request, so its token is in each answer of interest."""
    until = time.monotonic() + timeout
    while (left := until - time.monotonic()) > 0:
        raw.settimeout(left)
        try:
            packet = raw.recv(4096)
        except TimeoutError:
            break
        except OSError:
            return Answer.NO_ROUTE
        icmp = packet[(packet[0] & 15) * 4 :] if version == 4 else packet
        if token in icmp and icmp[0] in _KINDS[version]:
            return _KINDS[version][icmp[0]]
    return Answer.NOTHING


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
