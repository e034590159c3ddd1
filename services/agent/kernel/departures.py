"""Hears that interfaces have left this namespace, long before the kernel has done with them.

The answer to a deletion comes when the last reference to the interface is gone, which takes one to
three grace periods of RCU: 12 to 40 ms. The notification of it comes after 1 ms: both ends are out
of their namespaces then, with their addresses and routes, and their names are free. It is only a
hint: one that gets lost costs the wait for the answer.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from services.agent.kernel import rtnetlink
from services.agent.kernel.filters import only_kind
from services.agent.kernel.notifications import Notifications

_GROUP_LINK: Final = 1


class Departures:
    """A socket in the event loop, of the process' namespace; it is opened when first used."""

    def __init__(self) -> None:
        self._notifications: Notifications | None = None
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}

    def expect(self, interface: str) -> asyncio.Future[None]:
        """Is done once an interface of that name is gone from now on; may be for ever undone."""
        self._open()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(interface, [])
        waiting.append(future)

        def done(_: object) -> None:
            waiting.remove(future)
            if not waiting and self._waiting.get(interface) is waiting:
                del self._waiting[interface]

        future.add_done_callback(done)
        return future

    def close(self) -> None:
        if self._notifications is not None:
            self._notifications.close()
            self._notifications = None

    def _open(self) -> None:
        if self._notifications is None:
            self._notifications = Notifications(
                socket.NETLINK_ROUTE,
                (_GROUP_LINK,),
                lambda made: only_kind(made, rtnetlink.RTM_DELLINK),
            )
            self._notifications.start(self._read)

    def _read(self) -> None:
        assert self._notifications is not None
        for data in self._notifications.heard():
            for name in () if data is None else rtnetlink.departed(data):
                for future in self._waiting.get(name, ()):
                    if not future.done():
                        future.set_result(None)
