"""The rtnetlink messages of interfaces: what an endpoint's link needs, and all interfaces to read.

All messages for a link go in one datagram. Formats: linux/rtnetlink.h, if_link.h, if_addr.h,
neighbour.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from typing import Final

from services.agent.kernel import codec
from services.agent.kernel.codec import Order, attribute, attributes, number, string, text
from services.agent.kernel.netlink import Netlink
from services.agent.kernel.state import InterfaceAddress
from services.common.model.network import Address, Prefix

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_SETLINK: Final = 19
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26
RTM_NEWNEIGH: Final = 28
RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33

IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_LINK: Final = 5
IFLA_LINKINFO: Final = 18
IFLA_IFALIAS: Final = 20
IFLA_GROUP: Final = 27
IFLA_NET_NS_FD: Final = 28
IFLA_EXT_MASK: Final = 29
IFLA_CARRIER_CHANGES: Final = 35
IFLA_NUM_TX_QUEUES: Final = 31
IFLA_NUM_RX_QUEUES: Final = 32
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_VLAN_ID: Final = 1
VETH_INFO_PEER: Final = 1
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_CACHEINFO: Final = 6
IFA_FLAGS: Final = 8
IFA_F_NODAD: Final = 2
IFA_F_NOPREFIXROUTE: Final = 0x200
RTA_DST: Final = 1
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
RT_SCOPE_HOST: Final = 254
RTPROT_STATIC: Final = 4
RTN_UNICAST: Final = 1
RTNH_F_ONLINK: Final = 4

_NEW: Final = codec.CREATE | codec.EXCLUSIVE
_PUT: Final = codec.CREATE | codec.REPLACE

LINK: Final = struct.Struct("=BxHiII")
"""ifinfomsg: family, type, index, flags, change."""
ADDRESS: Final = struct.Struct("=BBBBi")
"""ifaddrmsg: family, prefix length, flags, scope, index."""
_ROUTE: Final = struct.Struct("=8BI")
_NEIGHBOUR: Final = struct.Struct("=BxHiHBB")
_RULE: Final = struct.Struct("=8BI")
_U32: Final = struct.Struct("=I")
_LIFETIMES: Final = struct.Struct("=4I")
"""ifa_cacheinfo: preferred, valid, and two times that only the kernel says."""
_FOR_EVER: Final = 0xFFFFFFFF
_NO_STATISTICS: Final = number(IFLA_EXT_MASK, 1 << 3)
"""RTEXT_FILTER_SKIP_STATS."""


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
    parent: int = 0
    """Index of the interface below; 0: none."""
    vlan_id: int = 0
    group: int = 0
    """A number that whoever made it gave it."""


@dataclass(frozen=True, slots=True)
class Way:
    """A default route, anybody's."""

    version: int
    """4 or 6."""
    table: int
    interface: int
    """Index; 0: several."""
    gateway: Address | None


def link(kernel: Netlink, name: str) -> Link | None:
    body = LINK.pack(0, 0, 0, 0, 0) + _NO_STATISTICS + text(IFLA_IFNAME, name)
    data = kernel.find(RTM_GETLINK, body, errno.ENODEV)
    return None if data is None else next(parse_links(data), None)


def links(kernel: Netlink) -> Iterator[Link]:
    for data in kernel.dump(RTM_GETLINK, LINK.pack(0, 0, 0, 0, 0) + _NO_STATISTICS):
        yield from parse_links(data)


def addresses(kernel: Netlink, index: int = 0) -> Iterator[tuple[int, InterfaceAddress]]:
    """Those of one interface or of all, link-local ones too, with the interface's index."""
    for data in kernel.dump(RTM_GETADDR, ADDRESS.pack(0, 0, 0, 0, index)):
        for kind, _, start, end in codec.messages(data):
            if kind != RTM_NEWADDR:
                continue
            _, length, _, _, owner = ADDRESS.unpack_from(data, start)
            has = attributes(data, start + ADDRESS.size, end)
            address = has.get(IFA_LOCAL) or has.get(IFA_ADDRESS)
            if address is not None and index in {0, owner}:
                yield owner, ip_interface((address, length))


def default_routes(kernel: Netlink) -> list[Way]:
    """Those of all tables and interfaces."""
    found: list[Way] = []
    for data in kernel.dump(RTM_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
        for answer, _, start, end in codec.messages(data):
            family, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(data, start)
            if answer != RTM_NEWROUTE or length or kind != RTN_UNICAST:
                continue
            has = attributes(data, start + _ROUTE.size, end)
            if RTA_TABLE in has:
                (table,) = _U32.unpack(has[RTA_TABLE])
            (interface,) = _U32.unpack(has.get(RTA_OIF, bytes(4)))
            gateway = ip_address(has[RTA_GATEWAY]) if RTA_GATEWAY in has else None
            version = 4 if family == socket.AF_INET else 6
            found.append(Way(version, table, interface, gateway))
    return found


def reached(kernel: Netlink, index: int) -> set[Prefix]:
    """To which the main table has routes by an interface."""
    found: set[Prefix] = set()
    for data in kernel.dump(RTM_GETROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
        for answer, _, start, end in codec.messages(data):
            _, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(data, start)
            if answer != RTM_NEWROUTE or table != RT_TABLE_MAIN or kind != RTN_UNICAST:
                continue
            has = attributes(data, start + _ROUTE.size, end)
            if has.get(RTA_OIF) == _U32.pack(index) and RTA_DST in has:
                found.add(ip_network((has[RTA_DST], length)))
    return found


def new_veth(*, name: str, mac: str, peer: str, peer_mac: str, mtu: int, namespace: int) -> Order:
    """A pair, its other end in a namespace from the beginning; `namespace`: a file descriptor.

    One queue each: the default is one per processor, which an endpoint has no use for.
    """
    ends = number(IFLA_MTU, mtu) + number(IFLA_NUM_TX_QUEUES, 1) + number(IFLA_NUM_RX_QUEUES, 1)
    other = (
        LINK.pack(0, 0, 0, 0, 0)
        + text(IFLA_IFNAME, peer)
        + attribute(IFLA_ADDRESS, _mac(peer_mac))
        + ends
        + number(IFLA_NET_NS_FD, namespace)
    )
    information = text(IFLA_INFO_KIND, "veth") + attribute(
        IFLA_INFO_DATA, attribute(VETH_INFO_PEER, other)
    )
    body = (
        LINK.pack(0, 0, 0, 0, 0)
        + text(IFLA_IFNAME, name)
        + attribute(IFLA_ADDRESS, _mac(mac))
        + ends
        + attribute(IFLA_LINKINFO, information)
    )
    return Order(RTM_NEWLINK, _NEW, body)


def delete_link(name: str) -> Order:
    """Deletes an interface, and with a veth its other end."""
    return Order(RTM_DELLINK, 0, LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name))


def set_alias(name: str, alias: str) -> Order:
    """Says what an interface is for."""
    body = LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name)
    return Order(RTM_SETLINK, 0, body + attribute(IFLA_IFALIAS, alias.encode()))


def set_up(index: int, mac: str = "") -> Order:
    """Sets an interface up and has it resolve neighbours; with a MAC address, gives it that."""
    body = LINK.pack(0, 0, index, IFF_UP, IFF_UP | IFF_NOARP)
    return Order(RTM_SETLINK, 0, body + (attribute(IFLA_ADDRESS, _mac(mac)) if mac else b""))


def set_mac(index: int, mac: str) -> Order:
    return Order(RTM_SETLINK, 0, LINK.pack(0, 0, index, 0, 0) + attribute(IFLA_ADDRESS, _mac(mac)))


def add_address(index: int, address: Address, length: int) -> Order:
    """Gives an interface an address that can be used at once."""
    body = ADDRESS.pack(_family(address), length, 0, 0, index)
    body += attribute(IFA_ADDRESS, address.packed) + attribute(IFA_LOCAL, address.packed)
    body += number(IFA_FLAGS, IFA_F_NODAD)
    return Order(RTM_NEWADDR, _PUT, body)


def add_listening(index: int, address: Address, length: int) -> Order:
    """Gives an interface an address that can be asked, and is no source and no route of anything:
    of IPv4 by its scope, of IPv6 by being deprecated from the beginning."""
    scope = RT_SCOPE_HOST if isinstance(address, IPv4Address) else 0
    body = ADDRESS.pack(_family(address), length, 0, scope, index)
    body += attribute(IFA_ADDRESS, address.packed) + attribute(IFA_LOCAL, address.packed)
    body += number(IFA_FLAGS, IFA_F_NODAD | IFA_F_NOPREFIXROUTE)
    if not isinstance(address, IPv4Address):
        body += attribute(IFA_CACHEINFO, _LIFETIMES.pack(0, _FOR_EVER, 0, 0))
    return Order(RTM_NEWADDR, _PUT, body)


def delete_address(index: int, address: Address, length: int) -> Order:
    """Takes an address off an interface."""
    body = ADDRESS.pack(_family(address), length, 0, 0, index)
    body += attribute(IFA_ADDRESS, address.packed) + attribute(IFA_LOCAL, address.packed)
    return Order(RTM_DELADDR, 0, body)


def add_default(index: int, gateway: Address, table: int = RT_TABLE_MAIN) -> Order:
    """A default route by way of a gateway that is on the link whatever the addresses say."""
    in_header = table if table < 256 else 0
    body = _ROUTE.pack(
        _family(gateway), 0, 0, 0, in_header, RTPROT_STATIC, 0, RTN_UNICAST, RTNH_F_ONLINK
    )
    body += number(RTA_OIF, index) + attribute(RTA_GATEWAY, gateway.packed)
    return Order(RTM_NEWROUTE, _PUT, body + number(RTA_TABLE, table))


def add_route(index: int, prefix: Prefix, gateway: Address) -> Order:
    """A route in the main table; refused if there is one to the prefix."""
    body = _ROUTE.pack(
        _family(gateway),
        prefix.prefixlen,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_STATIC,
        0,
        RTN_UNICAST,
        RTNH_F_ONLINK,
    )
    body += attribute(RTA_DST, prefix.network_address.packed)
    body += number(RTA_OIF, index) + attribute(RTA_GATEWAY, gateway.packed)
    return Order(RTM_NEWROUTE, _NEW, body)


def add_rule(address: Address, table: int, priority: int, protocol: int) -> Order:
    """Has what an address sends go by a table."""
    return Order(RTM_NEWRULE, _NEW, _source_rule(address, table, priority, protocol))


def delete_rule(address: Address, table: int, priority: int, protocol: int) -> Order:
    """Undoes `add_rule`; with the table 0, of whatever table."""
    return Order(RTM_DELRULE, 0, _source_rule(address, table, priority, protocol))


def _source_rule(address: Address, table: int, priority: int, protocol: int) -> bytes:
    length = address.max_prefixlen
    body = _RULE.pack(_family(address), 0, length, 0, 0, 0, 0, FR_ACT_TO_TBL, 0)
    body += attribute(FRA_SRC, address.packed) + number(FRA_PRIORITY, priority)
    body += attribute(FRA_PROTOCOL, bytes([protocol]))
    return body + (number(FRA_TABLE, table) if table else b"")


def add_neighbour(index: int, address: Address, mac: str) -> Order:
    """Says for good who has an address."""
    body = _NEIGHBOUR.pack(_family(address), 0, index, NUD_PERMANENT, 0, 0)
    body += attribute(NDA_DST, address.packed) + attribute(NDA_LLADDR, _mac(mac))
    return Order(RTM_NEWNEIGH, _PUT, body)


def departed(data: bytes) -> Iterator[str]:
    """Names of the interfaces that notifications say are gone."""
    for kind, _, start, end in codec.messages(data):
        if kind == RTM_DELLINK and data[start] == socket.AF_UNSPEC:  # AF_BRIDGE: it left a bridge
            name = attributes(data, start + LINK.size, end).get(IFLA_IFNAME, b"")
            yield string(name)


def _family(address: Address) -> int:
    return socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def parse_links(data: bytes) -> Iterator[Link]:
    """Those that messages tell of, in answers and notifications."""
    for kind, _, start, end in codec.messages(data):
        if kind not in {RTM_NEWLINK, RTM_DELLINK}:
            continue
        _, _, index, flags, _ = LINK.unpack_from(data, start)
        found = attributes(data, start + LINK.size, end)
        nested = found.get(IFLA_LINKINFO, b"")
        information = attributes(nested, 0, len(nested))
        details = information.get(IFLA_INFO_DATA, b"")
        virtual = string(information.get(IFLA_INFO_KIND, b""))
        vlan_id = b""
        if virtual == "vlan":
            vlan_id = attributes(details, 0, len(details)).get(IFLA_VLAN_ID, b"")
        yield Link(
            index=index,
            name=string(found.get(IFLA_IFNAME, b"")),
            up=bool(flags & IFF_UP),
            mac=found.get(IFLA_ADDRESS, b"").hex(":"),
            mtu=_integer(found.get(IFLA_MTU, b"")),
            kind=virtual,
            alias=string(found.get(IFLA_IFALIAS, b"")),
            resolves=not flags & IFF_NOARP,
            carrier_changes=_integer(found.get(IFLA_CARRIER_CHANGES, b"")),
            parent=_integer(found.get(IFLA_LINK, b"")),
            vlan_id=_integer(vlan_id),
            group=_integer(found.get(IFLA_GROUP, b"")),
        )


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "little")
