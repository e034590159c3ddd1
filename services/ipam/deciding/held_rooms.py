"""What an owner can get in blocks that it holds already, by node, kept up to date.

A scheduler asks for every pod, and between two pods hardly anything changes: so what was found is
kept, blocks that change are looked at again, and whoever has an earlier state is told what is
different since. Besides blocks it depends on the clock, by which addresses rest, and on nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from services.common.model.names import NetworkName, NodeName, Segment, Tenant
from services.ipam.deciding.evaluate import available
from services.ipam.ledger.areas import Area
from services.ipam.ledger.index import Place
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import Owner

Holder: TypeAlias = tuple[NetworkName, NodeName]


class HeldRooms:
    """Of one owner, on all networks."""

    def __init__(self, tenant: Tenant, segment: Segment) -> None:
        self._tenant = tenant
        self._segment = segment
        self.state = 0
        """Grows with every change."""
        self._free: dict[Holder, int] = {}
        """What was ever more than 0; what changed last comes last."""
        self._changed: dict[Holder, int] = {}
        """By which state; in the same order."""
        self._ripe: dict[Holder, int] = {}
        """When the next address there has rested, in milliseconds."""
        self._holder_of: dict[Place, Holder] = {}

    def holders(self, area: Area) -> Iterator[Holder]:
        """Who holds blocks in an area."""
        name = area.network.name
        for node, tenant, segment in area.holdings:
            if tenant == self._tenant and segment == self._segment:
                yield name, node

    def holders_of(self, ledger: Ledger, place: Place) -> Iterator[Holder]:
        """Who has to be looked at again when a block changed: who had it, and who has it."""
        before = self._holder_of.pop(place, None)
        if before is not None:
            yield before
        block = ledger.index.blocks.get(place)
        if block is not None and (block.tenant, block.segment) == (self._tenant, self._segment):
            yield block.network, block.node

    def holders_on(self, ledger: Ledger, nodes: Iterable[NodeName]) -> Iterator[Holder]:
        """Who has to be looked at again when nodes were cordoned, or are so no more."""
        for node in nodes:
            for network in ledger.networks:
                yield network, node

    def ripe(self, now: int) -> list[Holder]:
        """Who has to be looked at again, because addresses have rested."""
        return [holder for holder, time in self._ripe.items() if time <= now]

    def look(self, ledger: Ledger, holder: Holder, now: int) -> None:
        """Looks at a holder again; `now` is the time by which addresses rest, in milliseconds."""
        network, name = holder
        node = ledger.nodes.get(name)
        area = None if node is None else ledger.area_of_node(node, network)
        owner = Owner(name, self._tenant, self._segment)
        holding = None if area is None else area.holdings.get(owner)
        free, ripe = 0, None
        if area is not None and holding is not None:
            for block in holding.blocks:
                self._holder_of[block.place] = holder
                free += available(block, area, now)
                for item in block.rest or ():
                    at = item.time + area.delay
                    if at > now and (ripe is None or at < ripe):
                        ripe = at
        if ripe is None:
            self._ripe.pop(holder, None)
        else:
            self._ripe[holder] = ripe
        if node is not None and node.cordoned:
            free = 0
        if self._free.get(holder, 0) != free:
            self.state += 1
            self._free.pop(holder, None)
            self._changed.pop(holder, None)
            self._free[holder] = free
            self._changed[holder] = self.state

    def all(self) -> Mapping[Holder, int]:
        """What nodes have, where that is more than nothing."""
        return {holder: free for holder, free in self._free.items() if free}

    def since(self, state: int) -> Mapping[Holder, int]:
        """What is different from what it was at an earlier state; 0: they have nothing any more."""
        found = {}
        for holder, changed in reversed(self._changed.items()):
            if changed <= state:
                break
            found[holder] = self._free[holder]
        return found
