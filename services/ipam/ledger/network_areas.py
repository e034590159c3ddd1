"""Networks with their areas, and how they follow the layout.

An area stays as long as its prefix does and its network is divided as before, whatever else of the
layout changes: so a change costs the areas that it really concerns.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.common.model.layout import Layout
from services.common.model.names import GroupPath, NetworkName, TopologyName
from services.common.model.network import Network
from services.ipam.ledger.areas import Area, Interval
from services.ipam.slots.coverage import Run


@dataclass(frozen=True, slots=True)
class CarvedNetwork:
    """A network of a topology, with the prefixes that leaf groups have of it."""

    network: Network
    topology: TopologyName
    leaves: Sequence[tuple[GroupPath, int, int]]
    """In file order: path, first address and prefix length of each leaf group's prefix."""

    @property
    def division(self) -> tuple[object, ...]:
        """What all areas of the network depend on."""
        network = self.network
        return (
            network.cidr,
            network.block_length,
            network.placement,
            network.reuse_delay,
            self.topology,
        )


def carved_networks(layout: Layout) -> Iterator[CarvedNetwork]:
    """The networks that are in a topology, in file order."""
    homes = {name: topology for topology in layout.topologies for name in topology.networks}
    for network in layout.networks:
        topology = homes.get(network.name)
        if topology is not None:
            prefixes = ((leaf.path, leaf.prefixes.get(network.name)) for leaf in topology.leaves())
            leaves = [
                (path, int(prefix.network_address), prefix.prefixlen)
                for path, prefix in prefixes
                if prefix is not None
            ]
            yield CarvedNetwork(network, topology.name, leaves)


class NetworkAreas:
    """The areas of a network, which come and go with the prefixes of its groups."""

    def __init__(self, carved: CarvedNetwork) -> None:
        """It has no areas before `follow`."""
        network = carved.network
        self.network = network
        self.topology = carved.topology
        self.division = carved.division
        self.base = int(network.cidr.network_address)
        self.stop = self.base + network.cidr.num_addresses
        """First address after it."""
        self.bits = network.cidr.max_prefixlen
        self.areas: dict[GroupPath, Area] = {}
        """In file order."""
        self._bases: list[int] = []
        self._sorted: list[Area] = []
        self._intervals: Counter[Interval] = Counter()
        """What is set aside, and how often."""

    @property
    def name(self) -> NetworkName:
        return self.network.name

    def follow(self, carved: CarvedNetwork) -> tuple[list[Area], list[Area]]:
        """Takes over the network as it is divided now, by the same division; returns the areas that
        are new, and gone.

        In new ones is set aside what is in the network.
        """
        self.network = carved.network
        before, self.areas = self.areas, {}
        new = []
        for path, base, length in carved.leaves:
            area = before.get(path)
            if area is None or (area.base, area.length) != (base, length):
                area = Area(self.network, self.topology, path, base, length)
                for interval, count in self._intervals.items():
                    for _ in range(count):
                        area.reserve(interval)
                new.append(area)
            else:
                del before[path]
                area.network = self.network
            self.areas[path] = area
        self._sorted = sorted(self.areas.values(), key=lambda item: item.base)
        self._bases = [item.base for item in self._sorted]
        return new, list(before.values())

    def reserve(self, interval: Interval) -> list[tuple[Area, Run]]:
        """Sets addresses aside; returns those that were not before, as far as areas have them."""
        self._intervals[interval] += 1
        return [
            (area, run) for area in self.overlapped(*interval) for run in area.reserve(interval)
        ]

    def restore(self, interval: Interval) -> list[tuple[Area, Run]]:
        """Undoes `reserve`; returns the addresses that nothing sets aside any more."""
        self._intervals[interval] -= 1
        if not self._intervals[interval]:
            del self._intervals[interval]
        return [
            (area, run) for area in self.overlapped(*interval) for run in area.restore(interval)
        ]

    def area_of(self, address: int) -> Area | None:
        index = bisect_right(self._bases, address) - 1
        if index < 0 or address >= self._sorted[index].stop:
            return None
        return self._sorted[index]

    def overlapped(self, start: int, stop: int) -> Iterator[Area]:
        """The areas that have addresses in common with an interval."""
        at = max(bisect_right(self._bases, start) - 1, 0)
        while at < len(self._sorted) and self._bases[at] < stop:
            if self._sorted[at].stop > start:
                yield self._sorted[at]
            at += 1

    def fixed_reservations(self) -> Iterator[Interval]:
        """What the network itself sets aside."""
        for address in self.network.own_addresses():
            yield Interval(int(address), int(address) + 1)
