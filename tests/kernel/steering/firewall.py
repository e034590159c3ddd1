"""What makes a namespace a firewall, what came to one, and sockets in namespaces."""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Final, TypeAlias

Flow: TypeAlias = tuple[int, str, str]
"""Protocol, source, destination."""

FIREWALL: Final = """
table inet firewall {
  counter invalid { }
  set parts {
    type inet_service . inet_service
    size 65535
    flags dynamic
  }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state invalid meta l4proto { tcp, udp } update @parts { th sport . th dport }
    ct state invalid counter name invalid drop
    accept
  }
}
"""
LIST_COUNTERS: Final = "nft -j list counters table inet firewall"
LIST_PARTS: Final = "nft -j list set inet firewall parts"
FORGET_PARTS: Final = "nft flush set inet firewall parts"
LOOSE: Final = "net.netfilter.nf_conntrack_tcp_loose"
"""0: it knows no connection of which it did not see the beginning."""


def invalid(listed: str) -> int:
    """Packets of connections that it saw only a part of, by its counters."""
    return sum(
        item["counter"]["packets"] for item in json.loads(listed)["nftables"] if "counter" in item
    )


def in_part(listed: str, port: int) -> bool:
    """Whether a connection from or to that port is among those of which it saw only a part."""
    found = (
        item["set"].get("elem", []) for item in json.loads(listed)["nftables"] if "set" in item
    )
    return any(port in element["concat"] for elements in found for element in elements)


def capture(interface: str) -> socket.socket:
    """A capture on an interface."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    made.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    made.bind((interface, 3))
    return made


def incoming(wire: socket.socket, port: int = 0) -> Counter[Flow]:
    """What came to a namespace since the last time, by protocol, source and destination; if a port
    is named, only what is from or to it: what comes late of other connections does not count."""
    return heard_of(wire, port)[1]


def outgoing(wire: socket.socket) -> Counter[Flow]:
    """What a namespace has sent since the last time, by protocol, source and destination."""
    return heard_of(wire)[0]


def heard_of(wire: socket.socket, port: int = 0) -> tuple[Counter[Flow], Counter[Flow]]:
    """What a namespace has sent since the last time, and what came to it."""
    sent, came = Counter[Flow](), Counter[Flow]()
    for way, data in _datagrams(wire):
        ends = _ends(data)
        if ends is None or (port and port not in _ports(data)):
            continue
        if way == socket.PACKET_OUTGOING:
            sent[ends] += 1
        elif way == socket.PACKET_HOST:
            came[ends] += 1
    return sent, came


def came_of(wire: socket.socket, *ports: int) -> bool:
    """Whether anything came to a namespace since the last time from or to one of these ports."""
    found = False
    for way, data in _datagrams(wire):
        found |= way == socket.PACKET_HOST and not {*ports}.isdisjoint(_ports(data))
    return found


def _ports(data: bytes) -> tuple[int, ...]:
    """Of TCP and UDP: source and destination."""
    if data[0] >> 4 == 4 and len(data) >= 20:
        protocol, start = data[9], (data[0] & 0xF) * 4
    elif data[0] >> 4 == 6 and len(data) >= 40:
        protocol, start = data[6], 40
    else:
        return ()
    if protocol not in {6, 17} or len(data) < start + 4:
        return ()
    return struct.unpack_from("!HH", data, start)


def _datagrams(wire: socket.socket) -> Iterator[tuple[int, bytes]]:
    while True:
        try:
            data, where = wire.recvfrom(2048, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        yield where[2], data


def _ends(data: bytes) -> Flow | None:
    """Protocol, source and destination, but for what neighbours say to each other."""
    if data[0] >> 4 == 4 and len(data) >= 20 and data[9] in {1, 6, 17}:
        return (
            data[9],
            str(ipaddress.IPv4Address(data[12:16])),
            str(ipaddress.IPv4Address(data[16:20])),
        )
    if data[0] >> 4 == 6 and len(data) > 40:
        if data[6] == 58 and data[40] in {133, 134, 135, 136, 143}:
            return None
        return (
            data[6],
            str(ipaddress.IPv6Address(data[8:24])),
            str(ipaddress.IPv6Address(data[24:40])),
        )
    return None


def listener(address: str, port: int) -> socket.socket:
    """Listens for TCP."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(512)
    return made
