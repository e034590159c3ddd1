"""Nexthop objects of our protocol number and range of ids. Formats: linux/nexthop.h."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import Final, cast

from services.agent.kernel import codec
from services.agent.kernel.diff import KindChange
from services.agent.kernel.driver import Problems, run
from services.agent.kernel.netlink import Netlink
from services.agent.kernel.numbers import PROTOCOL, our_nexthop
from services.agent.kernel.route_bytes import ONLINK
from services.agent.kernel.state import Key, Kind, Nexthop, Value

NEW: Final = 104
DELETE: Final = 105
GET: Final = 106

_ID, _OIF, _GATEWAY = 1, 5, 6
_MESSAGE = struct.Struct("=BBBBI")
"""nhmsg: family, scope, protocol, reserved, flags."""
_GONE: Final = frozenset({errno.ENOENT, errno.ENODEV})


def owns(number: int, protocol: int) -> bool:
    return protocol == PROTOCOL and our_nexthop(number)


class Nexthops:
    """The driver. A removed nexthop takes the routes with it that refer to it."""

    kind = Kind.NEXTHOP

    def __init__(self, socket_: Netlink) -> None:
        self._netlink = socket_

    def read(self) -> Mapping[Key, Value]:
        found: dict[Key, Value] = {}
        for data in self._netlink.dump(GET, _MESSAGE.pack(0, 0, 0, 0, 0)):
            found.update(_parse(data))
        return found

    def apply(self, step: KindChange) -> Problems:
        """Replaces in place: all routes by a nexthop move with it at once."""
        removals = cast("Mapping[int, Nexthop]", step.removals)
        problems = run(
            self._netlink,
            list(removals),
            [_remove(index, number) for index, number in enumerate(removals)],
            harmless=_GONE,
        )
        for objects, flags in (
            (step.additions, codec.CREATE | codec.EXCLUSIVE),
            (step.replacements, codec.CREATE | codec.REPLACE),
        ):
            nexthops = cast("Mapping[int, Nexthop]", objects)
            messages = [
                _put(index, flags, number, nexthop)
                for index, (number, nexthop) in enumerate(nexthops.items())
            ]
            problems.update(run(self._netlink, list(nexthops), messages))
        return problems


def _put(sequence: int, flags: int, number: int, nexthop: Nexthop) -> bytes:
    family = socket.AF_INET if nexthop.gateway.version == 4 else socket.AF_INET6
    return codec.message(
        NEW,
        flags,
        sequence,
        _MESSAGE.pack(family, 0, PROTOCOL, 0, ONLINK)
        + codec.number(_ID, number)
        + codec.number(_OIF, nexthop.interface)
        + codec.attribute(_GATEWAY, nexthop.gateway.packed),
    )


def _remove(sequence: int, number: int) -> bytes:
    body = _MESSAGE.pack(0, 0, 0, 0, 0) + codec.number(_ID, number)
    return codec.message(DELETE, 0, sequence, body)


def _parse(data: bytes) -> Iterator[tuple[int, Nexthop]]:
    for kind, _, start, end in codec.messages(data):
        if kind != NEW:
            continue
        _, _, protocol, _, _ = _MESSAGE.unpack_from(data, start)
        found = codec.attributes(data, start + _MESSAGE.size, end)
        number = int.from_bytes(found[_ID], "little")
        if not owns(number, protocol):
            continue
        # One of another form (a group, a black hole) is replaced: 0.0.0.0 is nobody's gateway.
        gateway = ipaddress.ip_address(found.get(_GATEWAY, bytes(4)))
        yield number, Nexthop(int.from_bytes(found.get(_OIF, b""), "little"), gateway)
