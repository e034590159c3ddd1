"""What policy has of the kernel, in one thread: the table `inet romana`, and connections.

A thread of its own, since a large table or many connections would keep routes waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from services.agent.kernel.concurrency import in_thread
from services.agent.kernel.conntrack import Conntrack
from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.driver import Nft, NftRefused
from services.agent.kernel.nftables.table import Changes, Found, Shape
from services.agent.rules.endpoint_view import View
from services.agent.rules.render import CUT_MOST, FIXED_SETS
from services.common.model.network import Address
from services.common.model.rules import Packet

log = structlog.get_logger(__name__)

_T = TypeVar("_T")


class Firewall:
    """The drivers. Methods that are not coroutines are for its thread, within `run`."""

    def __init__(self, *, enter: Callable[[], None] = lambda: None) -> None:
        """Nothing is opened before it is needed; `enter` is called first in the thread."""
        self._thread = ThreadPoolExecutor(1, "romana-policy", initializer=enter)
        self._nft: Nft | None = None
        self._conntrack: Conntrack | None = None
        self._cut: dict[bytes, Packet] = {}

    async def run(self, work: Callable[[], _T]) -> _T:
        """Does something in the thread; when cancelled, ends after that."""
        return await in_thread(work, self._thread)

    async def close(self) -> None:
        """Closes the sockets when what was begun is done; the table stays."""
        await self.run(self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        for driver in (self._nft, self._conntrack):
            if driver is not None:
                driver.close()
        self._nft = self._conntrack = None

    @property
    def nft(self) -> Nft:
        """The table; raises KernelUnavailable."""
        if self._nft is None:
            self._nft = Nft()
        return self._nft

    def read(self) -> Found | None:
        """What there is; None: no table. Raises KernelUnavailable."""
        return self.nft.read()

    def others(self) -> int:
        """A number that is another one when somebody else has changed any table."""
        return self.nft.others()

    def apply(self, changes: Changes) -> None:
        """Does all of it, or, if it raises, nothing that counts. Raises KernelUnavailable."""
        self.nft.apply(changes)

    def add(self, name: str, keys: Collection[bytes], shape: Shape) -> None:
        """Adds elements to a set, in which some may be already. Raises KernelUnavailable."""
        self.nft.add(name, keys, shape)

    def counts(self) -> Mapping[str, tuple[int, int]]:
        """Packets and bytes by counter. Raises KernelUnavailable."""
        return {name: (one.packets, one.size) for name, one in self.nft.counters().items()}

    def sweep(self, view: View, gone: Collection[Address]) -> int:
        """Ends connections that are denied now, and those of addresses that are nobody's any more.

        What still comes of a connection that is denied is dropped from both sides for a while, or
        its other end would begin it anew.

        Returns:
            How many were ended.

        Raises:
            KernelUnavailable: The kernel does not let us.
        """
        if self._conntrack is None:
            self._conntrack = Conntrack()

        def is_over(packet: Packet) -> bool:
            return packet.source in gone or packet.destination in gone or view.denies(packet)

        found = self._conntrack.find(is_over)
        denied = {
            flow: one.packet for one in found if view.denies(one.packet) for flow in one.flows
        }
        for name, flows in _by_set(denied):
            try:
                self.nft.add(name, flows, FIXED_SETS[name])
            except NftRefused as error:  # the set is full: they are ended all the same
                log.warning("cut_not_kept", connections=len(denied), message=str(error))
        self._cut.update(denied)
        while len(self._cut) > CUT_MOST:
            del self._cut[next(iter(self._cut))]
        return self._conntrack.end(found)

    @property
    def cut(self) -> int:
        """How many flows are kept from going on."""
        return len(self._cut)

    def relax(self, view: View) -> None:
        """Lets through again what was cut and is allowed now. Raises KernelUnavailable."""
        again = {flow: packet for flow, packet in self._cut.items() if not view.denies(packet)}
        for name, flows in _by_set(again):
            self.nft.forget(name, flows, FIXED_SETS[name])
        for flow in again:
            del self._cut[flow]


def _by_set(cut: Mapping[bytes, Packet]) -> Iterator[tuple[str, list[bytes]]]:
    for version, name in ((4, table_names.CUT_4), (6, table_names.CUT_6)):
        flows = [flow for flow, packet in cut.items() if packet.source.version == version]
        if flows:
            yield name, flows
