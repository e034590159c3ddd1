"""The aggregated routes of every network, kept equal to the blocks.

Routes stay inside the prefix of a leaf group, so that what fills up elsewhere never changes them,
and cover no reserved address: those belong to machines that are not nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, summarize_address_range

from services.common.model.names import NetworkName, NodeName
from services.ipam.index import Place
from services.ipam.model import IPV4_BITS
from services.ipam.routes import RouteTable
from services.ipam.space import Area, merged
from services.ipam.state import State


@dataclass(frozen=True, slots=True)
class Route:
    """An aggregated prefix and the node it leads to."""

    network: NetworkName
    base: int
    length: int
    bits: int
    node: NodeName


class RoutesView:
    """Route tables of all areas. Nothing is computed before somebody asks."""

    def __init__(self) -> None:
        self._version = -1
        self._tables: dict[tuple[NetworkName, str], tuple[Area, RouteTable]] = {}
        self._known: dict[Place, tuple[RouteTable, int]] = {}
        self._changed: dict[Place, None] = {}

    def changed(self, places: Iterable[Place]) -> None:
        """Says that blocks may have come, gone or changed hands."""
        if self._version >= 0:
            self._changed.update(dict.fromkeys(places))

    def reset(self) -> None:
        """Says that there is another state."""
        self._version = -1
        self._changed.clear()

    def own(self, state: State, node: NodeName) -> list[Route]:
        """The prefixes by which others reach a node."""
        self._sync(state)
        return [
            Route(area.network.name, base, length, area.bits, node)
            for area, table in self._tables.values()
            for base, length in sorted(table.prefixes_of(node))
        ]

    def remote(self, state: State, node: NodeName) -> list[Route]:
        """The routes from a node to the others on the networks it is on."""
        self._sync(state)
        origin = state.nodes[node]
        return [
            Route(area.network.name, base, length, area.bits, NodeName(target))
            for area, table in self._tables.values()
            if state.area_of_node(origin, area.network.name) is not None
            for (base, length), target in sorted(table.routes.items())
            if target != node
        ]

    def count(self, state: State, network: NetworkName, node: NodeName) -> int:
        """How many routes lead to a node on a network."""
        self._sync(state)
        return sum(
            len(table.prefixes_of(node))
            for (name, _), (_, table) in self._tables.items()
            if name == network
        )

    def _sync(self, state: State) -> None:
        if self._version != state.version:
            self._rebuild(state)
        touched = {}
        for place in self._changed:
            for table in self._take(state, place):
                touched[id(table)] = table
        self._changed.clear()
        for table in touched.values():
            table.flush()

    def _rebuild(self, state: State) -> None:
        self._version = state.version
        self._tables.clear()
        self._known.clear()
        for space in state.spaces.values():
            for area in space.areas.values():
                table = RouteTable(area.base, area.length, area.bits)
                self._tables[area.network.name, area.path] = (area, table)
                make = IPv4Address if area.bits == IPV4_BITS else IPv6Address
                for start, stop in merged(area.reserved):
                    for prefix in summarize_address_range(make(start), make(stop - 1)):
                        table.forbid(int(prefix.network_address), prefix.prefixlen)
        self._changed = dict.fromkeys(state.index.blocks)

    def _take(self, state: State, place: Place) -> Iterable[RouteTable]:
        known = self._known.pop(place, None)
        block = state.index.blocks.get(place)
        if known is not None:
            table, length = known
            if block is None or block.length != length or block.area is None:
                table.clear(place[1], length)
            yield table
        if block is not None and block.area is not None:
            _, table = self._tables[place[0], block.area.path]
            table.set(block.base, block.length, block.node)
            self._known[place] = (table, block.length)
            yield table
