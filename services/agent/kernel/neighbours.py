"""Proxy entries: addresses that the node answers ARP and neighbour solicitations for.

Ours have our protocol number. The kernel answers for an IPv4 entry when it forwards and has a route
to the address by another interface, for an IPv6 one when the interface's `proxy_ndp` is on too.
Formats: linux/neighbour.h.
"""

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
from services.agent.kernel.netlink import Netlink, Problem
from services.agent.kernel.numbers import PROTOCOL
from services.agent.kernel.state import Key, Kind, Proxy, Value

NEW: Final = 28
DELETE: Final = 29
GET: Final = 30

_DST, _PROTOCOL = 1, 12
_PROXY: Final = 8
"""NTF_PROXY."""
_PERMANENT: Final = 0x80
_MESSAGE = struct.Struct("=BxxxiHBB")
"""ndmsg: family, interface, state, flags, type."""
_GONE: Final = frozenset({errno.ENOENT, errno.ENODEV})


def owns(protocol: int) -> bool:
    return protocol == PROTOCOL


class Neighbours:
    """The driver. The kernel tells nobody when an entry is removed: it has to be read again."""

    kind = Kind.PROXY

    def __init__(self, socket_: Netlink) -> None:
        self._netlink = socket_

    def read(self) -> Mapping[Key, Value]:
        return {proxy: None for proxy, protocol in self._read() if owns(protocol)}

    def apply(self, step: KindChange) -> Problems:
        """An entry has no value, so there is nothing to replace.

        Somebody else's is not taken over: the kernel would give it our protocol number.
        """
        removals = list(cast("Mapping[Proxy, None]", step.removals))
        wanted = cast("Mapping[Proxy, None]", step.additions)
        others = {proxy for proxy, protocol in self._read() if not owns(protocol)}
        additions = [proxy for proxy in wanted if proxy not in others]
        problems: dict[Key, Problem] = {
            proxy: Problem(errno.EEXIST, "somebody else answers for it here")
            for proxy in wanted.keys() & others
        }
        gone = run(
            self._netlink,
            list[Key](removals),
            [_message(DELETE, 0, index, proxy) for index, proxy in enumerate(removals)],
            harmless=_GONE,
        )
        problems.update(gone)
        flags = codec.CREATE | codec.REPLACE
        messages = [_message(NEW, flags, index, proxy) for index, proxy in enumerate(additions)]
        problems.update(run(self._netlink, list[Key](additions), messages))
        return problems

    def _read(self) -> Iterator[tuple[Proxy, int]]:
        for family in (socket.AF_INET, socket.AF_INET6):
            for data in self._netlink.dump(GET, _MESSAGE.pack(family, 0, 0, _PROXY, 0)):
                yield from _parse(data)


def _message(kind: int, flags: int, sequence: int, proxy: Proxy) -> bytes:
    family = socket.AF_INET if proxy.address.version == 4 else socket.AF_INET6
    body = _MESSAGE.pack(family, proxy.interface, _PERMANENT, _PROXY, 0)
    body += codec.attribute(_DST, proxy.address.packed)
    if kind == NEW:
        body += codec.attribute(_PROTOCOL, bytes([PROTOCOL]))
    return codec.message(kind, flags, sequence, body)


def _parse(data: bytes) -> Iterator[tuple[Proxy, int]]:
    """Anybody's, with their protocol numbers."""
    for kind, _, start, end in codec.messages(data):
        if kind != NEW:
            continue
        _, interface, _, flags, _ = _MESSAGE.unpack_from(data, start)
        found = codec.attributes(data, start + _MESSAGE.size, end)
        if flags & _PROXY and _DST in found:
            protocol = found.get(_PROTOCOL, b"\0")[0]
            yield Proxy(interface, ipaddress.ip_address(found[_DST])), protocol
