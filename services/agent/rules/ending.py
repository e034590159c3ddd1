"""Ends connections that are denied now, and has those go on that are allowed again.

A thread of its own, since many connections take long: it asks the firewall's thread only to keep
flows, some at a time, so that endpoints come and go meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Final, TypeVar

import structlog

from services.agent.kernel.concurrency import in_thread
from services.agent.kernel.conntrack import (
    Connection,
    Conntrack,
    Opening,
    TcpConnection,
    is_tcp,
    packet_of,
)
from services.agent.kernel.interfaces import own_addresses
from services.agent.kernel.netlink import Netlink
from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.driver import NftRefused
from services.agent.rules.ended import Ended
from services.agent.rules.firewall import Firewall
from services.agent.rules.judge import Judge
from services.agent.rules.render import ENDED_SECONDS, FIXED_SETS
from services.common.model.network import Address

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

BATCH: Final = 1000
"""Connections ended at once."""
_SETS: Final = {4: table_names.ENDED_4, 6: table_names.ENDED_6}


class Ending:
    """The driver. Methods that are not coroutines are for its thread, within `run`."""

    def __init__(
        self,
        firewall: Firewall,
        *,
        enter: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened before it is needed; `enter` is called first in the thread."""
        self._firewall = firewall
        self._thread = ThreadPoolExecutor(1, "romana-connections", initializer=enter)
        self._clock = clock
        self._conntrack: Conntrack | None = None
        self._ended: Ended | None = None
        self._due = 0.0

    async def run(self, work: Callable[[], _T]) -> _T:
        """Does something in the thread; when cancelled, ends after that."""
        return await in_thread(work, self._thread)

    async def close(self) -> None:
        """Closes the sockets when what was begun is done."""
        await self.run(self.drop)
        self._thread.shutdown()

    def drop(self) -> None:
        """Closes the sockets."""
        if self._conntrack is not None:
            self._conntrack.close()
            self._conntrack = None

    def sweep(self, judge: Judge, addresses: Set[Address], gone: Set[Address]) -> int:
        """Ends connections that are denied now, and those of addresses that are nobody's any more.

        Args:
            judge: What they are judged by.
            addresses: Whose connections may be denied now.
            gone: Addresses that are nobody's any more.

        Returns:
            How many were ended.

        Raises:
            KernelUnavailable: The kernel does not let us.
        """
        try:
            return self._sweep(judge, addresses, gone)
        except BaseException:
            self.drop()  # a question may be unanswered
            raise

    def _sweep(self, judge: Judge, addresses: Set[Address], gone: Set[Address]) -> int:
        with Netlink() as socket:
            own = {address.packed for address in own_addresses(socket)}
        left = {address.packed for address in gone}
        known: dict[Opening, bool] = {}
        ended = 0

        def denied(opening: Opening) -> bool:
            found = known.get(opening)
            if found is None:
                # what the node begins with its endpoints is nobody's to deny
                found = opening.source not in own and judge.denies(opening.packet)
                known[opening] = found
            return found

        def over(one: Connection) -> bool:
            opening = one.opening
            return opening.source in left or opening.destination in left or denied(opening)

        found = filter(over, self._tracked().find(addresses | gone))
        while part := list(islice(found, BATCH)):
            self._keep(one.flow for one in part if denied(one.opening) and _is_kept(one))
            ended += self._tracked().end(part)
        return ended

    def relax(self, judge: Judge, addresses: Set[Address]) -> None:
        """Has those go on that are allowed now, of connections of these addresses that were ended.

        Raises:
            KernelUnavailable: The kernel does not let us.
        """
        ended = self._known()
        again = iter({flow for flow in ended.of(addresses) if not judge.denies(packet_of(flow))})
        while part := list(islice(again, BATCH)):
            self._firewall.call(partial(self._forget, part))
            self._tracked().resume([flow for flow in part if is_tcp(flow)])
            for flow in part:
                ended.discard(flow)

    def tcp_of(self, addresses: Set[Address]) -> Sequence[TcpConnection]:
        """Connections of these that another node could go on with.

        Raises:
            KernelUnavailable: The kernel does not let us.
        """
        found = (one.tcp for one in self._tracked().find(addresses))
        return list(dict.fromkeys(one for one in found if one is not None))

    def go_on(self, judge: Judge, connections: Iterable[TcpConnection]) -> None:
        """Has the kernel track connections that it has not seen begin, unless they are denied.

        Raises:
            KernelUnavailable: The kernel does not let us.
        """
        flows = [one.flow for one in connections]
        self._tracked().resume([flow for flow in flows if not judge.denies(packet_of(flow))])

    def _keep(self, flows: Iterable[bytes]) -> None:
        """Has flows dropped from both sides for a while, as far as there is room."""
        kept = list(flows)
        try:
            self._firewall.call(lambda: self._add(kept))
        except NftRefused as error:  # the set is full
            log.warning("flows_not_kept", connections=len(kept), message=str(error))
            return
        known = self._known()
        for flow in kept:
            known.add(flow)

    def _known(self) -> Ended:
        """Flows that are kept; the kernel has let some of them go."""
        now = self._clock()
        if self._ended is None or (now >= self._due and len(self._ended)):
            self._ended = Ended(self._firewall.call(self._read))
            self._due = now + ENDED_SECONDS
        return self._ended

    def _tracked(self) -> Conntrack:
        if self._conntrack is None:
            self._conntrack = Conntrack()
        return self._conntrack

    # In the firewall's thread.

    def _read(self) -> list[bytes]:
        nft = self._firewall.nft
        return [key for name in _SETS.values() for key in nft.elements(name, FIXED_SETS[name])]

    def _add(self, flows: Iterable[bytes]) -> None:
        for name, part in _by_set(flows).items():
            self._firewall.nft.add(name, part, FIXED_SETS[name])

    def _forget(self, flows: Iterable[bytes]) -> None:
        for name, part in _by_set(flows).items():
            self._firewall.nft.forget(name, part, FIXED_SETS[name])


def _is_kept(one: Connection) -> bool:
    """Whether its flow is: for UDP, so that nothing of it begins anew; for TCP, where the table
    sees to that without, so that it can go on, which it cannot if addresses were translated."""
    return one.has_ports and not (one.translated and is_tcp(one.flow))


def _by_set(flows: Iterable[bytes]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for flow in flows:
        found.setdefault(_SETS[4 if len(flow) == 20 else 6], []).append(flow)
    return found
