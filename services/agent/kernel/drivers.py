"""The kernel as one thing: all drivers, in one thread.

One thread, so that no two operations meet, and not the event loop's, which a large batch would
block. Netlink sockets and /proc/sys belong to the network namespace of the thread that opens them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from services.agent.kernel.concurrency import in_thread
from services.agent.kernel.diff import KindChange
from services.agent.kernel.driver import Driver, Problems
from services.agent.kernel.interfaces import Interfaces
from services.agent.kernel.iproute import Routing
from services.agent.kernel.marking import Marking
from services.agent.kernel.neighbours import Neighbours
from services.agent.kernel.netlink import Netlink
from services.agent.kernel.nexthops import Nexthops
from services.agent.kernel.routes import Routes
from services.agent.kernel.rules import Rules
from services.agent.kernel.state import Interface, KernelState, Kind, Look
from services.agent.kernel.sysctls import Sysctls
from services.agent.kernel.vlan_links import VlanLinks

_T = TypeVar("_T")


class KernelDrivers:
    """The drivers. Methods that are not coroutines are for the kernel's thread, within `run`."""

    def __init__(self, state_dir: Path, *, enter: Callable[[], None] = lambda: None) -> None:
        """Nothing is opened before `start`; `enter` is called first in the thread, for tests."""
        self._state_dir = state_dir
        self._thread = ThreadPoolExecutor(1, "romana-kernel", initializer=enter)
        self._netlink: Netlink | None = None
        self._routing: Routing | None = None
        self._interfaces: Interfaces | None = None
        self._marking = Marking()
        self._drivers: dict[Kind, Driver] = {}

    async def start(self) -> frozenset[int]:
        """Opens the sockets; returns their ports.

        Raises:
            KernelUnavailable: There is no netlink.
        """
        return await self.run(self._open)

    async def close(self) -> None:
        """Closes the sockets when what was begun is done."""
        await self.run(self._close)
        self._thread.shutdown()

    async def run(self, work: Callable[[], _T]) -> _T:
        """Does something in the kernel's thread; when cancelled, ends after that."""
        return await in_thread(work, self._thread)

    async def look(self) -> Sequence[Interface]:
        """All interfaces, anybody's; opens a socket of its own."""
        return await self.run(_look)

    def _open(self) -> frozenset[int]:
        self._netlink = netlink = Netlink()
        self._routing = routing = Routing()
        sysctls = Sysctls(self._state_dir / "sysctls.json")
        self._interfaces = interfaces = Interfaces(netlink, sysctls.before)
        for driver in (
            VlanLinks(interfaces, routing),
            sysctls,
            Nexthops(netlink),
            Routes(netlink),
            Rules(routing),
            Neighbours(netlink),
            self._marking,
        ):
            self._drivers[driver.kind] = driver
        return frozenset({netlink.port, routing.port})

    def _close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()
        if self._routing is not None:
            self._routing.close()
        self._marking.close()

    def interfaces(self, look: Look | None = None) -> Mapping[str, Interface]:
        """All interfaces, anybody's; with `look`, all but those as they were."""
        assert self._interfaces is not None
        return self._interfaces.read(look)

    def read(self, state: KernelState, kinds: Collection[Kind]) -> KernelState:
        """The state with these kinds read anew."""
        for kind in kinds:
            state = state.having(kind, self._drivers[kind].read())
        return state

    def apply(self, step: KindChange) -> Problems:
        """Performs a step; returns what was refused."""
        return self._drivers[step.kind].apply(step)


def _look() -> Sequence[Interface]:
    with Netlink() as netlink:
        return tuple(Interfaces(netlink).read().values())
