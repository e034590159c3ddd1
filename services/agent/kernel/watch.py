"""Hears from the kernel when somebody else changes what concerns us.

What we did ourselves is filtered out in the kernel, by the ports of our sockets, or 100,000 routes
would come back as 100,000 notifications. When the socket's buffer runs over all the same, anything
may have changed. It only says what to read again, never what there is.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Collection
from typing import Final

from services.agent.kernel import codec, endpoint_names, nexthops, routes, rtnetlink
from services.agent.kernel.filters import ignore_ports
from services.agent.kernel.heard import ALL, Heard
from services.agent.kernel.notifications import Notifications
from services.agent.kernel.numbers import PROTOCOL
from services.agent.kernel.state import Kind

# RTNLGRP_LINK, addresses, routes and rules of both versions, nexthops.
_GROUPS: Final = (1, 5, 7, 8, 9, 11, 19, 32)
_UP: Final = 1
_LINK_LOCAL: Final = (socket.AF_INET6, 253)
"""Family and scope of an address: RT_SCOPE_LINK."""
_EVERYTHING: Final = 0xFFFFFFFF


class Watch:
    """Listens in the event loop. Made in the kernel's thread, for its namespace."""

    def __init__(self, own_ports: Collection[int]) -> None:
        """Listens.

        Raises:
            KernelUnavailable: There is no netlink.
        """
        self._notifications = Notifications(
            socket.NETLINK_ROUTE, _GROUPS, lambda made: ignore_ports(made, own_ports)
        )

    def start(self, heard: Callable[[Heard], None]) -> None:
        """Calls `heard` from the running loop from now on."""
        self._notifications.start(lambda: self._read(heard))

    def close(self) -> None:
        self._notifications.close()

    def _read(self, heard: Callable[[Heard], None]) -> None:
        kinds: set[Kind] = set()
        down: set[int] = set()
        endpoints = False
        for data in self._notifications.heard():
            if data is None:
                kinds.update(ALL)
                continue
            for kind, _, start, end in codec.messages(data):
                if kind in {rtnetlink.RTM_NEWLINK, rtnetlink.RTM_DELLINK}:
                    if _of_endpoint(data, start, end):
                        endpoints = True
                    else:
                        kinds.add(Kind.LINK)
                    _note_link(kind, data, start, down)
                else:
                    _note(kind, data, start, kinds)
        if kinds or down or endpoints:
            heard(Heard(frozenset(kinds), frozenset(down), endpoints))


def _of_endpoint(data: bytes, start: int, end: int) -> bool:
    """Whether a link's name is that of an endpoint's host end; the kernel puts it first."""
    start += rtnetlink.LINK.size
    length = int.from_bytes(data[start : start + 2], "little")
    first = codec.attributes(data, start, min(start + length, end))
    return endpoint_names.is_host_interface(codec.string(first.get(rtnetlink.IFLA_IFNAME, b"")))


def _note_link(kind: int, data: bytes, start: int, down: set[int]) -> None:
    """Takes in whether an interface went down."""
    index, flags, changed = struct.unpack_from("=iII", data, start + 4)
    # "all has changed" is said of one that was only just made
    went_down = not flags & _UP and changed & _UP and changed != _EVERYTHING
    if kind == rtnetlink.RTM_DELLINK or went_down:
        down.add(index)


def _note(kind: int, data: bytes, start: int, kinds: set[Kind]) -> None:
    """Takes in any other notification; those of others' routes do not concern us."""
    if kind in {rtnetlink.RTM_NEWADDR, rtnetlink.RTM_DELADDR}:
        if (data[start], data[start + 3]) != _LINK_LOCAL:  # every link makes itself one
            kinds.add(Kind.LINK)
    elif kind in {rtnetlink.RTM_NEWRULE, rtnetlink.RTM_DELRULE}:
        kinds.add(Kind.RULE)
    elif kind in {nexthops.NEW, nexthops.DELETE}:
        if data[start + 2] == PROTOCOL:  # its routes went with it, without a word
            kinds.update({Kind.NEXTHOP, Kind.ROUTE})
    elif kind in {routes.NEW, routes.DELETE} and data[start + 5] == PROTOCOL:
        kinds.add(Kind.ROUTE)
