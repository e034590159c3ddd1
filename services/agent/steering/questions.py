"""Asks a device whether it is there: by ICMP, TCP or HTTP, on a given interface."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from typing import Final

from services.common.model.devices import Probe, ProbeKind
from services.common.model.network import Address

_NUMBERS = itertools.count(1)
_ANSWER_MOST: Final = 512
_ECHO: Final = {4: (8, 0), 6: (128, 129)}
"""Types of a request and its reply."""
_ICMP: Final = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
_FAMILY: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


async def ask(probe: Probe, address: Address, interface: str, seconds: float) -> str:
    """Why a device does not answer; empty: it does."""
    try:
        async with asyncio.timeout(seconds):
            if probe.kind is ProbeKind.ICMP:
                await _echo(address, interface)
            else:
                await _connect(probe, address, interface)
    except TimeoutError:
        return f"no answer by {probe.kind} within {seconds:g} s"
    except (OSError, ValueError) as error:
        return f"{probe.kind}: {error}"
    return ""


def _opened(address: Address, interface: str, kind: int, protocol: int = 0) -> socket.socket:
    made = socket.socket(_FAMILY[address.version], kind | socket.SOCK_CLOEXEC, protocol)
    made.settimeout(0)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    except OSError:
        made.close()
        raise
    return made


async def _echo(address: Address, interface: str) -> None:
    loop = asyncio.get_running_loop()
    version = address.version
    request, reply = _ECHO[version]
    label = struct.pack("!HH", 0x524F, next(_NUMBERS) & 0xFFFF)
    packet = struct.pack("!BBH", request, 0, 0) + label
    if version == 4:  # of ICMPv6 the kernel makes the checksum
        packet = struct.pack("!BBH", request, 0, _checksum(packet)) + label
    with _opened(address, interface, socket.SOCK_RAW, _ICMP[version]) as wire:
        wire.connect((str(address), 0))  # at once; asyncio would look for a service of raw sockets
        await loop.sock_sendall(wire, packet)
        while True:
            data = await loop.sock_recv(wire, _ANSWER_MOST)
            if version == 4:
                data = data[(data[0] & 15) * 4 :]
            if len(data) >= 8 and data[0] == reply and data[4:8] == label:
                return


async def _connect(probe: Probe, address: Address, interface: str) -> None:
    loop = asyncio.get_running_loop()
    with _opened(address, interface, socket.SOCK_STREAM) as wire:
        await loop.sock_connect(wire, (str(address), probe.port))
        if probe.kind is not ProbeKind.HTTP:
            return
        host = f"[{address}]" if address.version == 6 else str(address)
        question = f"GET {probe.path} HTTP/1.0\r\nHost: {host}:{probe.port}\r\n\r\n"
        await loop.sock_sendall(wire, question.encode())
        head = b""
        while b"\n" not in head and len(head) < _ANSWER_MOST:
            data = await loop.sock_recv(wire, _ANSWER_MOST)
            if not data:
                break
            head += data
    words = head.split(b"\n")[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError("no answer of HTTP")
    if not 200 <= int(words[1]) < 400:
        raise ValueError(f"status {int(words[1])}")


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
