"""pyroute2, for what an agent does seldom: VLAN links, their addresses, rules of policy routing.

A request takes 0.3 ms, a message of a dump 0.2 ms: so what is asked for often, or by the thousand,
has messages of our own (`rtnetlink`, `routes`). The synchronous class runs a loop of its own, so it
is for threads that run none, and belongs to the one that opens it and to that thread's namespace.
pyroute2 makes no socket for us: in another namespace it would fork the process for that, and it
tells no port, by which our own changes are left out of notifications.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TypeVar

from pyroute2 import IPRoute, NetlinkError

from services.agent.kernel.netlink import KernelUnavailable, Problem

_T = TypeVar("_T")


class Routing:
    """A socket of rtnetlink; raises KernelUnavailable when it does not work."""

    def __init__(self) -> None:
        try:
            made = socket.socket(
                socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
            made.bind((0, 0))
        except OSError as error:
            raise KernelUnavailable(f"netlink: {error}") from error
        self.port: int = made.getsockname()[0]
        """Its address: notifications of what it did carry this."""
        self._api = IPRoute(use_socket=made, groups=0)

    def close(self) -> None:
        self._api.close()

    def ask(self, question: Callable[[IPRoute], _T]) -> _T:
        """Asks for something that the kernel has to answer."""
        try:
            return question(self._api)
        except NetlinkError as error:
            raise KernelUnavailable(f"netlink: {os.strerror(error.code)}") from error
        except OSError as error:
            raise KernelUnavailable(f"netlink: {error.strerror or error}") from error

    def attempt(self, *requests: Callable[[IPRoute], object]) -> Problem | None:
        """Makes requests up to the first that is refused; why it was."""
        try:
            for request in requests:
                request(self._api)
        except NetlinkError as error:
            return Problem(error.code)
        except OSError as error:
            raise KernelUnavailable(f"netlink: {error.strerror or error}") from error
        return None
