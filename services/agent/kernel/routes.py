"""Routes of our protocol number, in our tables and in main.

Packed by hand in both directions since there are up to 100,000. A dump is read with one `struct`
for a whole buffer as long as all its messages are laid out like the first; others are parsed one by
one. Formats: linux/rtnetlink.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Final, cast

from services.agent.kernel import codec, netlink, route_bytes
from services.agent.kernel.diff import KindChange
from services.agent.kernel.driver import Problems, run
from services.agent.kernel.netlink import Netlink
from services.agent.kernel.numbers import PROTOCOL, our_table
from services.agent.kernel.state import Key, Kind, Value

NEW: Final = 24
DELETE: Final = 25
GET: Final = 26

_DST, _OIF, _GATEWAY, _PRIORITY, _TABLE, _NH_ID = 1, 4, 5, 6, 15, 30
_COMPAT_TABLE: Final = 252
"""RT_TABLE_COMPAT: the real number is in an attribute."""
IPV6_METRIC: Final = 1024
"""What the kernel takes for 0 (IP6_RT_PRIO_USER)."""

_MESSAGE = struct.Struct("=BBBBBBBBI")
"""rtmsg: family, destination length, source length, tos, table, protocol, scope, type, flags."""
_NUMBER = struct.Struct("=HHI")

_PUT_V4: Final = struct.Struct("=IHHII BBBBBBBBI HHI HH4s")
_PUT_V6: Final = struct.Struct("=IHHII BBBBBBBBI HHI HH16s")
_HEAD: Final = struct.Struct("<IB")
_GONE: Final = frozenset({errno.ESRCH, errno.ENOENT, errno.ENODEV})


def owns(table: int, protocol: int) -> bool:
    return protocol == PROTOCOL and (our_table(table) or table == route_bytes.MAIN_TABLE)


class Routes:
    """The driver."""

    kind = Kind.ROUTE

    def __init__(self, socket_: Netlink) -> None:
        self._netlink = socket_

    def read(self) -> Mapping[Key, Value]:
        """All that are ours; parsed at about 0.6 us each."""
        found: dict[Key, Value] = {}
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _MESSAGE.pack(family, 0, 0, 0, 0, PROTOCOL, 0, 0, 0)
            for data in self._netlink.dump(GET, body):
                if not _parse_alike(data, found):
                    found.update(_parse(data))
        return found

    def apply(self, step: KindChange) -> Problems:
        """Adds only where there is nothing, so as never to replace somebody else's route."""
        problems = self._send(step.removals, DELETE, 0, _GONE)
        for key, problem in list(problems.items()):
            way = route_bytes.unpack_value(cast("bytes", step.removals[key]))
            if problem.number == errno.EINVAL and way.nexthop:
                del problems[key]  # its nexthop is gone, and took it along
        problems.update(self._send(step.additions, NEW, codec.CREATE | codec.EXCLUSIVE))
        problems.update(self._send(step.replacements, NEW, codec.CREATE | codec.REPLACE))
        return problems

    def _send(
        self,
        objects: Mapping[Key, Value],
        kind: int,
        flags: int,
        harmless: frozenset[int] = frozenset(),
    ) -> dict[Key, netlink.Problem]:
        if not objects:
            return {}
        routes = cast("Mapping[bytes, bytes]", objects)
        messages = list(_messages(routes, kind, flags | codec.REQUEST))
        return run(self._netlink, list(routes), messages, harmless=harmless)


def _messages(routes: Mapping[bytes, bytes], kind: int, flags: int) -> Iterator[bytes]:
    """Requests, with sequence numbers from 0."""
    tails: dict[bytes, tuple[bytes, int, int, int]] = {}
    v4, v6, head = _PUT_V4, _PUT_V6, _HEAD
    for sequence, (key, value) in enumerate(routes.items()):
        tail = tails.get(value)
        if tail is None:
            tail = tails[value] = _tail(value)
        attributes, scope, route_type, route_flags = tail
        table, length = head.unpack_from(key)
        put, family = (v4, socket.AF_INET) if len(key) == 9 else (v6, socket.AF_INET6)
        address = key[5:]
        yield put.pack(
            put.size + len(attributes), kind, flags, sequence, 0,
            family, length, 0, 0, 0, PROTOCOL, scope, route_type, route_flags,
            8, _TABLE, table,
            4 + len(address), _DST, address,
        ) + attributes  # fmt: skip


def _tail(value: bytes) -> tuple[bytes, int, int, int]:
    """Attributes, scope, type and flags of a value."""
    way = route_bytes.unpack_value(value)
    attributes = b""
    if way.nexthop:
        attributes += _NUMBER.pack(8, _NH_ID, way.nexthop)
    if way.interface:
        attributes += _NUMBER.pack(8, _OIF, way.interface)
    if way.gateway:
        attributes += codec.attribute(_GATEWAY, way.gateway)
    return attributes, way.scope, way.kind, way.flags


def _parse(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Any messages."""
    for kind, _, start, end in codec.messages(data):
        if kind != NEW:
            continue
        family, length, _, _, table, protocol, scope, route_type, flags = _MESSAGE.unpack_from(
            data, start
        )
        found = codec.attributes(data, start + _MESSAGE.size, end)
        number = _number(found.get(_TABLE)) or table
        size, metric = (4, 0) if family == socket.AF_INET else (16, IPV6_METRIC)
        if not owns(number, protocol) or _number(found.get(_PRIORITY)) != metric:
            continue
        key = _HEAD.pack(number, length) + found.get(_DST, bytes(size))
        nexthop = _number(found.get(_NH_ID))
        if nexthop:
            value = route_bytes.by_nexthop(nexthop)
        elif route_type == route_bytes.UNICAST:
            gateway = found.get(_GATEWAY, b"")
            value = (
                route_bytes.VALUE.pack(
                    route_type,
                    scope,
                    flags & route_bytes.ONLINK,
                    _number(found.get(_OIF)),
                    0,
                    len(gateway),
                )
                + gateway
            )
        else:
            value = route_bytes.VALUE.pack(route_type, 0, 0, 0, 0, 0)
        yield key, value


def _number(data: bytes | None) -> int:
    return int.from_bytes(data, "little") if data else 0


_ALIKE_V4: Final = struct.Struct("=IH10x BB3xB2xI II I4s II")
_ALIKE_V6: Final = struct.Struct("=IH10x BB3xB2xI II I16s II II")
"""Header, family, prefix length, protocol, flags; table, destination, metric (in IPv6 only) and
nexthop object, each after the head of its attribute. What follows does not matter to us."""


def _parse_alike(data: bytes, found: dict[Key, Value]) -> bool:
    """Messages by nexthop object, all of one length; False: they are not, and nothing is done."""
    length, family = int.from_bytes(data[:4], "little"), data[codec.HEADER.size]
    fields, size = (_ALIKE_V4, 4) if family == socket.AF_INET else (_ALIKE_V6, 16)
    if length < fields.size or len(data) % length:
        return False
    whole = struct.Struct(f"{fields.format}{length - fields.size}x")
    columns = list(zip(*whole.iter_unpack(data), strict=True))
    prefix_lengths, tables, addresses, nexthops = (columns[i] for i in (3, 7, 9, -1))
    expected = [length, NEW, family, None, PROTOCOL, None, 8 | _TABLE << 16, None]
    expected += [4 + size | _DST << 16, None]
    if family == socket.AF_INET6:
        expected += [8 | _PRIORITY << 16, IPV6_METRIC]
    expected += [8 | _NH_ID << 16, None]
    for column, value in zip(columns, expected, strict=True):
        if value is not None and set(column) != {value}:
            return False
    if not all(owns(table, PROTOCOL) for table in set(tables)):
        return False
    values = {nexthop: route_bytes.by_nexthop(nexthop) for nexthop in set(nexthops)}
    pairs = set(zip(tables, prefix_lengths, strict=True))
    heads = {pair: _HEAD.pack(*pair) for pair in pairs}
    found.update(
        (heads[table, prefix_length] + address, values[nexthop])
        for table, prefix_length, address, nexthop in zip(
            tables, prefix_lengths, addresses, nexthops, strict=True
        )
    )
    return True
