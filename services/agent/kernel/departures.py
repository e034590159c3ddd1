"""Hears that interfaces have left this namespace, long before the kernel has done with them.

The answer to a deletion comes when the last reference to the interface is gone, which takes one to
three grace periods of RCU: 12 to 40 ms. The notification of it comes after 1 ms: both ends are out
of their namespaces then, with their addresses and routes, and their names are free. It is only a
hint: one that gets lost costs the wait for the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import Final

from services.agent.kernel import rtnetlink
from services.agent.kernel.filters import only_kind

_GROUP_LINK: Final = 1
_BUFFER: Final = 1 << 20
_RECEIVE: Final = 1 << 16


class Departures:
    """A socket in the event loop, of the process' namespace; it is opened when first used."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    def expect(self, interface: str) -> asyncio.Future[None]:
        """Is done once an interface of that name is gone from now on; may be for ever undone."""
        self._open()
        assert self._loop is not None
        future: asyncio.Future[None] = self._loop.create_future()
        waiting = self._waiting.setdefault(interface, [])
        waiting.append(future)

        def done(_: object) -> None:
            waiting.remove(future)
            if not waiting and self._waiting.get(interface) is waiting:
                del self._waiting[interface]

        future.add_done_callback(done)
        return future

    def close(self) -> None:
        """Stops."""
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        if self._socket is not None:
            return
        made = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        made.settimeout(0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        only_kind(made, rtnetlink.RTM_DELLINK)
        made.bind((0, _GROUP_LINK))
        self._socket, self._loop = made, asyncio.get_running_loop()
        self._loop.add_reader(made, self._read)

    def _read(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data = self._socket.recv(_RECEIVE)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    continue
                for name in rtnetlink.departed(data):
                    for future in self._waiting.get(name, ()):
                        if not future.done():
                            future.set_result(None)
