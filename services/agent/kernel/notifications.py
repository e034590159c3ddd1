"""A socket on which the kernel tells of changes, read in the event loop.

What does not concern us is left out by a filter in the kernel, such as what a socket of ours did.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from services.agent.kernel import netlink

_ADD_MEMBERSHIP: Final = 1
_BUFFER: Final = 4 * 1024 * 1024
_MOST: Final = 200
"""Datagrams read in a row: the loop has other things to do."""


class Notifications:
    """Belongs to the namespace of the thread that makes it."""

    def __init__(
        self, family: int, groups: Sequence[int], filtered: Callable[[socket.socket], None]
    ) -> None:
        """Listens to multicast groups of a netlink family; raises KernelUnavailable.

        `filtered` puts a filter of `services.agent.kernel.filters` onto the socket.
        """
        try:
            made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
            made.settimeout(0)
            netlink.force_receive_buffer(made, _BUFFER)
            filtered(made)
            made.bind((0, 0))
            for group in groups:
                made.setsockopt(netlink.SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError as error:
            raise netlink.KernelUnavailable(f"netlink: {error}") from error
        self._socket = made

    def start(self, read: Callable[[], None]) -> None:
        """Calls `read` from the running loop whenever there is something in `heard`."""
        asyncio.get_running_loop().add_reader(self._socket, read)

    def close(self) -> None:
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
