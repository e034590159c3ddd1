"""The few rtnetlink messages that one endpoint's link needs, packed and parsed with `struct`.

Its own socket, beside that of `kernel.netlink`: in any namespace, in threads of its own, with an
answer to every message. All messages for a link go in one datagram. Only what `kernel.veth` needs
is here. Formats: linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from types import TracebackType
from typing import Final, Self

from services.agent.kernel import netlink
from services.agent.kernel.netlink import HEADER, attribute, attributes, number, text
from services.common.model.network import Address

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19
RTM_NEWADDR: Final = 20
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26
RTM_NEWNEIGH: Final = 28
RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINKINFO: Final = 18
IFLA_IFALIAS: Final = 20
IFLA_NET_NS_FD: Final = 28
IFLA_CARRIER_CHANGES: Final = 35
IFLA_NUM_TX_QUEUES: Final = 31
IFLA_NUM_RX_QUEUES: Final = 32
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
VETH_INFO_PEER: Final = 1
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_FLAGS: Final = 8
IFA_F_NODAD: Final = 2
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_TABLE: Final = 15
FRA_SRC: Final = 2
FRA_PRIORITY: Final = 6
FRA_TABLE: Final = 15
FRA_PROTOCOL: Final = 21
FR_ACT_TO_TBL: Final = 1
NDA_DST: Final = 1
NDA_LLADDR: Final = 2
NUD_PERMANENT: Final = 0x80
IFF_UP: Final = 1
IFF_NOARP: Final = 0x80
RT_TABLE_MAIN: Final = 254
RTPROT_STATIC: Final = 4
RTN_UNICAST: Final = 1
RTNH_F_ONLINK: Final = 4

_NEW: Final = netlink.CREATE | netlink.EXCLUSIVE
_PUT: Final = netlink.CREATE | netlink.REPLACE

_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBi")
_ROUTE: Final = struct.Struct("=8BI")
_NEIGHBOUR: Final = struct.Struct("=BxHiHBB")
_RULE: Final = struct.Struct("=8BI")
_U32: Final = struct.Struct("=I")
_I32: Final = struct.Struct("=i")

_TIMEOUT: Final = 10.0
"""Seconds. The kernel answers in the same call; this only keeps a defect from hanging a thread."""
_BUFFER: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Message:
    """One request, without its sequence number."""

    kind: int
    flags: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Link:
    """What the kernel says about an interface."""

    index: int
    name: str
    up: bool
    mac: str
    mtu: int
    kind: str
    """Such as "veth"; empty: no virtual link."""
    alias: str
    resolves: bool = True
    """It asks and answers for neighbours: NOARP is not set."""
    carrier_changes: int = 0
    """How often it lost or got its carrier: of a pair, the other end went down or up."""


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """Anybody's."""

    version: int
    """4 or 6."""
    table: int
    interface: int
    """Index; 0: several."""
    gateway: Address | None


class RtSocket:
    """A socket in the namespace of the thread that opens it; used by one thread at a time."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.settimeout(_TIMEOUT)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def do(self, messages: Sequence[Message]) -> None:
        """Performs them in order, all of them; raises the first one's OSError that failed."""
        errors = self.attempt(messages)
        for code in errors:
            if code:
                raise OSError(code, os.strerror(code))

    def attempt(self, messages: Sequence[Message]) -> list[int]:
        """Performs them in order, all of them; returns each one's errno, 0: done."""
        if not messages:  # the kernel refuses to be sent nothing
            return []
        first = self._sequence + 1
        self._sequence += len(messages)
        self._socket.send(
            b"".join(
                _packed(message, netlink.REQUEST | netlink.ACK, first + index)
                for index, message in enumerate(messages)
            )
        )
        codes: dict[int, int] = {}
        while len(codes) < len(messages):
            for kind, sequence, body in _parsed(self._socket.recv(_BUFFER)):
                if kind == netlink.ERROR and sequence >= first:
                    codes[sequence - first] = -_I32.unpack_from(body)[0]
        return [codes[index] for index in range(len(messages))]

    def link(self, name: str) -> Link | None:
        """The interface of that name."""
        self._sequence += 1
        body = _LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name)
        request = Message(RTM_GETLINK, 0, body)
        self._socket.send(_packed(request, netlink.REQUEST, self._sequence))
        for kind, sequence, answer in _parsed(self._socket.recv(_BUFFER)):
            if sequence != self._sequence:
                continue
            if kind == RTM_NEWLINK:
                return _link(answer)
            if kind == netlink.ERROR:
                code = -_I32.unpack_from(answer)[0]
                if code == errno.ENODEV:
                    return None
                raise OSError(code, os.strerror(code))
        return None

    def links(self) -> list[Link]:
        """All interfaces."""
        return [_link(body) for body in self._dump(RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0))]

    def addresses(self, index: int) -> set[Address]:
        """Those of one interface, link-local ones too."""
        found: set[Address] = set()
        for body in self._dump(RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
            if _ADDRESS.unpack_from(body)[4] == index:
                has = attributes(body, _ADDRESS.size, len(body))
                local = has.get(IFA_LOCAL) or has[IFA_ADDRESS]
                found.add(ip_address(local))
        return found

    def default_routes(self) -> list[DefaultRoute]:
        """Those of all tables and interfaces."""
        found: list[DefaultRoute] = []
        for body in self._dump(RTM_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
            family, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
            if length or kind != RTN_UNICAST:
                continue
            has = attributes(body, _ROUTE.size, len(body))
            if RTA_TABLE in has:
                (table,) = _U32.unpack(has[RTA_TABLE])
            (interface,) = _U32.unpack(has.get(RTA_OIF, bytes(4)))
            gateway = ip_address(has[RTA_GATEWAY]) if RTA_GATEWAY in has else None
            version = 4 if family == socket.AF_INET else 6
            found.append(DefaultRoute(version, table, interface, gateway))
        return found

    def _dump(self, kind: int, body: bytes) -> list[bytes]:
        """Bodies of all objects; asked again when they changed meanwhile."""
        return netlink.whole(kind, lambda: self._dump_once(kind, body))

    def _dump_once(self, kind: int, body: bytes) -> tuple[list[bytes], bool]:
        self._sequence += 1
        request = Message(kind, netlink.DUMP, body)
        self._socket.send(_packed(request, netlink.REQUEST, self._sequence))
        found: list[bytes] = []
        complete = True
        while True:
            data = self._socket.recv(_BUFFER)
            for answer, flags, start, end in netlink.messages(data):
                if HEADER.unpack_from(data, start - HEADER.size)[3] != self._sequence:
                    continue
                if flags & netlink.DUMP_INTERRUPTED:
                    complete = False
                if answer == netlink.DONE:
                    return found, complete
                if answer == netlink.ERROR:
                    code = -_I32.unpack_from(data, start)[0]
                    raise OSError(code, os.strerror(code))
                found.append(data[start:end])


def new_veth(*, name: str, mac: str, peer: str, peer_mac: str, mtu: int, namespace: int) -> Message:
    """A pair, its other end in a namespace from the beginning; `namespace`: a file descriptor.

    One queue each: the default is one per processor, which an endpoint has no use for.
    """
    ends = number(IFLA_MTU, mtu) + number(IFLA_NUM_TX_QUEUES, 1) + number(IFLA_NUM_RX_QUEUES, 1)
    other = (
        _LINK.pack(0, 0, 0, 0, 0)
        + text(IFLA_IFNAME, peer)
        + attribute(IFLA_ADDRESS, _mac(peer_mac))
        + ends
        + number(IFLA_NET_NS_FD, namespace)
    )
    information = text(IFLA_INFO_KIND, "veth") + attribute(
        IFLA_INFO_DATA, attribute(VETH_INFO_PEER, other)
    )
    body = (
        _LINK.pack(0, 0, 0, 0, 0)
        + text(IFLA_IFNAME, name)
        + attribute(IFLA_ADDRESS, _mac(mac))
        + ends
        + attribute(IFLA_LINKINFO, information)
    )
    return Message(RTM_NEWLINK, _NEW, body)


def delete_link(name: str) -> Message:
    """Deletes an interface, and with a veth its other end."""
    return Message(RTM_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name))


def set_alias(name: str, alias: str) -> Message:
    """Says what an interface is for."""
    body = _LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name)
    return Message(RTM_SETLINK, 0, body + attribute(IFLA_IFALIAS, alias.encode()))


def set_up(index: int, mac: str = "") -> Message:
    """Sets an interface up and has it resolve neighbours; with a MAC address, gives it that."""
    body = _LINK.pack(0, 0, index, IFF_UP, IFF_UP | IFF_NOARP)
    return Message(RTM_SETLINK, 0, body + (attribute(IFLA_ADDRESS, _mac(mac)) if mac else b""))


def add_address(index: int, address: Address, length: int) -> Message:
    """Gives an interface an address that can be used at once."""
    body = _ADDRESS.pack(_family(address), length, 0, 0, index)
    body += attribute(IFA_ADDRESS, address.packed) + attribute(IFA_LOCAL, address.packed)
    body += number(IFA_FLAGS, IFA_F_NODAD)
    return Message(RTM_NEWADDR, _PUT, body)


def add_default(index: int, gateway: Address, table: int = RT_TABLE_MAIN) -> Message:
    """A default route by way of a gateway that is on the link whatever the addresses say."""
    in_header = table if table < 256 else 0
    body = _ROUTE.pack(
        _family(gateway), 0, 0, 0, in_header, RTPROT_STATIC, 0, RTN_UNICAST, RTNH_F_ONLINK
    )
    body += number(RTA_OIF, index) + attribute(RTA_GATEWAY, gateway.packed)
    return Message(RTM_NEWROUTE, _PUT, body + number(RTA_TABLE, table))


def add_rule(address: Address, table: int, priority: int, protocol: int) -> Message:
    """Has what an address sends go by a table."""
    return Message(RTM_NEWRULE, _NEW, _source_rule(address, table, priority, protocol))


def delete_rule(address: Address, table: int, priority: int, protocol: int) -> Message:
    """Undoes `add_rule`; with the table 0, of whatever table."""
    return Message(RTM_DELRULE, 0, _source_rule(address, table, priority, protocol))


def _source_rule(address: Address, table: int, priority: int, protocol: int) -> bytes:
    length = address.max_prefixlen
    body = _RULE.pack(_family(address), 0, length, 0, 0, 0, 0, FR_ACT_TO_TBL, 0)
    body += attribute(FRA_SRC, address.packed) + number(FRA_PRIORITY, priority)
    body += attribute(FRA_PROTOCOL, bytes([protocol]))
    return body + (number(FRA_TABLE, table) if table else b"")


def add_neighbour(index: int, address: Address, mac: str) -> Message:
    """Says for good who has an address."""
    body = _NEIGHBOUR.pack(_family(address), 0, index, NUD_PERMANENT, 0, 0)
    body += attribute(NDA_DST, address.packed) + attribute(NDA_LLADDR, _mac(mac))
    return Message(RTM_NEWNEIGH, _PUT, body)


def departed(data: bytes) -> Iterator[str]:
    """Names of the interfaces that notifications say are gone."""
    for kind, _, body in _parsed(data):
        if kind == RTM_DELLINK and body[0] == socket.AF_UNSPEC:  # AF_BRIDGE: it left a bridge
            yield _link(body).name


def _family(address: Address) -> int:
    return socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _packed(message: Message, flags: int, sequence: int) -> bytes:
    size = HEADER.size + len(message.body)
    header = HEADER.pack(size, message.kind, message.flags | flags, sequence, 0)
    return header + message.body + bytes(-size % 4)


def _parsed(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, sequence number and body of each message."""
    offset = 0
    while offset + HEADER.size <= len(data):
        size, kind, _, sequence, _ = HEADER.unpack_from(data, offset)
        yield kind, sequence, data[offset + HEADER.size : offset + size]
        offset += (size + 3) & ~3


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found = attributes(body, _LINK.size, len(body))
    nested = found.get(IFLA_LINKINFO, b"")
    information = attributes(nested, 0, len(nested))
    return Link(
        index=index,
        name=_string(found.get(IFLA_IFNAME, b"")),
        up=bool(flags & IFF_UP),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=_U32.unpack(found.get(IFLA_MTU, bytes(4)))[0],
        kind=_string(information.get(IFLA_INFO_KIND, b"")),
        alias=_string(found.get(IFLA_IFALIAS, b"")),
        resolves=not flags & IFF_NOARP,
        carrier_changes=int.from_bytes(found.get(IFLA_CARRIER_CHANGES, b""), "little"),
    )


def _string(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")
