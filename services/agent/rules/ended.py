"""The flows of connections that were ended, by the addresses of their ends. Pure.

The kernel keeps them too, and forgets those of which nothing has come for a while; what is here is
read from there anew now and then, and at the start of an agent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set

from services.common.model.network import Address


class Ended:
    """What may be allowed again. A flow is a key of the kernel's sets: see `Key.FLOW_4`."""

    def __init__(self, flows: Iterable[bytes] = ()) -> None:
        self._flows: set[bytes] = set()
        self._by_address: dict[bytes, set[bytes]] = {}
        for flow in flows:
            self.add(flow)

    def __len__(self) -> int:
        return len(self._flows)

    def add(self, flow: bytes) -> None:
        if flow not in self._flows:
            self._flows.add(flow)
            for end in _ends(flow):
                self._by_address.setdefault(end, set()).add(flow)

    def discard(self, flow: bytes) -> None:
        """It may go on, or is forgotten."""
        if flow in self._flows:
            self._flows.remove(flow)
            for end in _ends(flow):
                there = self._by_address[end]
                there.discard(flow)
                if not there:
                    del self._by_address[end]

    def of(self, addresses: Set[Address]) -> Iterator[bytes]:
        """Flows with an end among these; of some, twice."""
        if len(addresses) > len(self._by_address):
            addresses_here = {address.packed for address in addresses}
            for end, flows in self._by_address.items():
                if end in addresses_here:
                    yield from flows
        else:
            for address in addresses:
                yield from self._by_address.get(address.packed, ())


def _ends(flow: bytes) -> tuple[bytes, bytes]:
    length = (len(flow) - 12) // 2
    return flow[:length], flow[length : 2 * length]
