"""What passes a namespace's interfaces: proof of the way that a packet takes."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import icmp
from lab.icmp import Echo
from lab.namespaces import open_socket
from lab.spec import Address

ETH_P_ALL = 0x0003
"""linux/if_ether.h"""
SO_RCVBUFFORCE = 33
"""asm-generic/socket.h"""
BUFFER = 16 << 20
SOL_PACKET, PACKET_AUXDATA = 263, 8
TP_STATUS_VLAN_VALID = 1 << 4
AUXDATA = struct.Struct("=IIIHHHH")
"""linux/if_packet.h: tpacket_auxdata; the kernel takes a tag out of the frame and puts it here."""
SNAP = 256
"""Bytes of a packet that are looked at."""
_SOURCE_V4, _DESTINATION_V4 = slice(12, 16), slice(16, 20)
_SOURCE_V6, _DESTINATION_V6 = slice(8, 24), slice(24, 40)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A packet on an interface."""

    interface: str
    outgoing: bool
    vlan_id: int
    """Of its 802.1Q tag, as on a trunk; 0: untagged."""
    source: Address
    destination: Address
    hop_limit: int
    """The TTL of IPv4: each router takes one off."""
    protocol: int
    """Of IP: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6."""
    echo: Echo | None
    """Set for an echo request."""
    ports: tuple[int, int] | None
    """Source and destination of TCP and UDP."""


class Capture:
    """A packet socket on all interfaces of a namespace, from its making to its close."""

    def __init__(self, path: Path) -> None:
        self._socket = open_socket(
            path, socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL)
        )
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def seen(self) -> list[Sighting]:
        """The IP packets since the last call, in their order."""
        return [*self._read()]

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> Iterator[Sighting]:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, ancillary, _, address = self._socket.recvmsg(SNAP, _SPACE)
                sighting = _sighting(
                    packet, address[0], _vlan_id(ancillary), outgoing=address[2] == _OUTGOING
                )
                if sighting is not None:
                    yield sighting


_OUTGOING = socket.PACKET_OUTGOING
_SPACE = socket.CMSG_SPACE(AUXDATA.size)


def _vlan_id(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tag, _ = AUXDATA.unpack(data)
            return tag & 0xFFF if status & TP_STATUS_VLAN_VALID else 0
    return 0


def _sighting(packet: bytes, interface: str, vlan_id: int, *, outgoing: bool) -> Sighting | None:
    version = packet[0] >> 4 if packet else 0
    if version == icmp.V4 and len(packet) >= 20:
        source, destination = packet[_SOURCE_V4], packet[_DESTINATION_V4]
        hops, protocol, header = packet[8], packet[9], (packet[0] & 0xF) * 4
    elif version == icmp.V6 and len(packet) >= 40:
        source, destination = packet[_SOURCE_V6], packet[_DESTINATION_V6]
        hops, protocol, header = packet[7], packet[6], 40
    else:
        return None
    ports = None
    if protocol in {socket.IPPROTO_TCP, socket.IPPROTO_UDP} and len(packet) >= header + 4:
        first = packet[header : header + 4]
        ports = (int.from_bytes(first[:2]), int.from_bytes(first[2:]))
    return Sighting(
        interface,
        outgoing,
        vlan_id,
        ipaddress.ip_address(source),
        ipaddress.ip_address(destination),
        hops,
        protocol,
        icmp.requested(version, packet),
        ports,
    )
