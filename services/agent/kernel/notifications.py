"""A socket on which the kernel tells of changes, read in the event loop.

What one socket of ours did is filtered out in the kernel, by its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from services.agent.kernel import netlink
from services.agent.kernel.filters import ignore_port

_ADD_MEMBERSHIP: Final = 1
_BUFFER: Final = 4 * 1024 * 1024
_MOST: Final = 200
"""Datagrams read in a row: the loop has other things to do."""


class Notifications:
    """Belongs to the namespace of the thread that makes it."""

    def __init__(self, family: int, groups: Sequence[int], own_port: int) -> None:
        """Listens to multicast groups of a netlink family; raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
        self._socket.settimeout(0)
        netlink.force_receive_buffer(self._socket, _BUFFER)
        ignore_port(self._socket, own_port)
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(netlink.SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def start(self, read: Callable[[], None]) -> None:
        """Calls `read` from the running loop whenever there is something in `heard`."""
        asyncio.get_running_loop().add_reader(self._socket, read)

    def close(self) -> None:
        """Stops."""
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def heard(self) -> Iterator[bytes | None]:
        """Datagrams that have come; None: some were lost, and may have said anything."""
        for _ in range(_MOST):
            try:
                yield self._socket.recv(netlink.RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield None
