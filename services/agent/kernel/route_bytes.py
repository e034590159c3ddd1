"""Routes as bytes, since a node has up to 100,000 of them.

A key is table, prefix length and address; a value is kind, interface or nexthop object, and
gateway. Bytes compare, hash and pack into netlink messages many times faster than objects with
addresses from `ipaddress`. The numbers are the kernel's (linux/rtnetlink.h).
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

from services.common.model.network import Address, Prefix

MAIN_TABLE: Final = 254

UNICAST: Final = 1
UNREACHABLE: Final = 7

SCOPE_UNIVERSE: Final = 0
SCOPE_LINK: Final = 253

ONLINK: Final = 4
"""RTNH_F_ONLINK: the gateway is on the link even if no route says so."""

VALUE: Final = struct.Struct("<BBBxIII")
"""Kind, scope, flags, interface, nexthop object, length of the gateway that follows."""

_HEAD = struct.Struct("<IB")


def route_key(table: int, prefix: Prefix) -> bytes:
    """What identifies a route."""
    return _HEAD.pack(table, prefix.prefixlen) + prefix.network_address.packed


def host_key(table: int, address: Address) -> bytes:
    """What identifies the route to one address."""
    return _HEAD.pack(table, address.max_prefixlen) + address.packed


def key_table(key: bytes) -> int:
    return int.from_bytes(key[:4], "little")


def key_prefix(key: bytes) -> Prefix:
    return ipaddress.ip_network((key[5:], key[4]))


def on_link(version: int, interface: int) -> bytes:
    """To whoever is on an interface."""
    scope = SCOPE_LINK if version == 4 else SCOPE_UNIVERSE
    return VALUE.pack(UNICAST, scope, 0, interface, 0, 0)


def by_gateway(interface: int, gateway: Address) -> bytes:
    """By a gateway that is on an interface whatever its address."""
    packed = gateway.packed
    return VALUE.pack(UNICAST, SCOPE_UNIVERSE, ONLINK, interface, 0, len(packed)) + packed


def by_nexthop(nexthop: int) -> bytes:
    return VALUE.pack(UNICAST, SCOPE_UNIVERSE, 0, 0, nexthop, 0)


def unreachable() -> bytes:
    """Answered as unreachable."""
    return VALUE.pack(UNREACHABLE, SCOPE_UNIVERSE, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Way:
    """A value, unpacked."""

    kind: int
    scope: int
    flags: int
    interface: int
    nexthop: int
    gateway: bytes


def unpack_value(value: bytes) -> Way:
    kind, scope, flags, interface, nexthop, length = VALUE.unpack_from(value)
    return Way(kind, scope, flags, interface, nexthop, value[VALUE.size : VALUE.size + length])
