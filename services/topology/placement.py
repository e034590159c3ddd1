"""Places nodes in the leaves of the topology.

A node fits a leaf when it carries all labels assigned to the leaf and to its ancestors, with
exactly those values. It stays where it is as long as it fits there; else it goes to the leaf that
fits and has the fewest nodes, the first of them on a tie. A pin goes before labels; one whose group
is gone counts no more. Only leaves of the layout take nodes: spare slots are not groups, so nothing
ever lands in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from services.common.errors import WrongState
from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import GroupPath, NetworkName, TopologyName
from services.common.model.node import Node

Placements = Mapping[TopologyName, GroupPath]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A group that takes nodes."""

    group: Group
    requires: Mapping[str, str]
    """Its labels and those of all groups above."""

    def fits(self, node: Node) -> bool:
        """Says whether the node carries the labels."""
        return all(node.labels.get(key) == value for key, value in self.requires.items())


class Placer:
    """A layout made ready for placing many nodes."""

    def __init__(self, layout: Layout) -> None:
        self._leaves: dict[TopologyName, dict[GroupPath, Leaf]] = {
            topology.name: {leaf.group.path: leaf for leaf in _leaves(topology)}
            for topology in layout.topologies
        }
        self._networks: dict[TopologyName, tuple[NetworkName, ...]] = {
            topology.name: topology.networks for topology in layout.topologies
        }

    def place(self, node: Node, counts: Mapping[GroupPath, int]) -> dict[TopologyName, GroupPath]:
        """Its leaf in each topology that it fits.

        `counts` are the nodes in each leaf, without this one.
        """
        found: dict[TopologyName, GroupPath] = {}
        for name in self._leaves:
            held = node.placements.get(name)
            if held is not None and self._may_be_in(node, name, held):
                found[name] = held
            elif eligible := self._eligible(node, name):
                best = min(eligible, key=lambda leaf: counts.get(leaf.group.path, 0))
                found[name] = best.group.path
        return found

    def is_settled(self, node: Node) -> bool:
        """Says whether it is where the layout allows it to be, and in every topology it fits."""
        for name in self._leaves:
            held = node.placements.get(name)
            if held is None and self._eligible(node, name):
                return False
            if held is not None and not self._may_be_in(node, name, held):
                return False
        return all(name in self._leaves for name in node.placements)

    def valid(self, node: Node) -> Iterator[GroupPath]:
        """The leaves that it is in and may be in: those it counts for."""
        for name, path in node.placements.items():
            if self._may_be_in(node, name, path):
                yield path

    def nowhere(self, node: Node) -> WrongState:
        """Why the node fits nothing at all, with the remedy."""
        reachable = [name for name in self._leaves if self._reaches(node, name)]
        if not self._leaves:
            why = "there is no topology yet: apply one first"
        elif not reachable:
            why = "its attachments name no network of any topology"
        else:
            wanted = [
                leaf for name in reachable for leaf in self._leaves[name].values() if leaf.requires
            ]
            # The leaf that lacks least is most likely the one that was meant.
            best = min(wanted, key=lambda leaf: len(_missing(leaf, node)))
            missing = ", ".join(_missing(best, node))
            why = f"{best.group.path!r} would take it with the labels {missing}; or pin it"
        return WrongState(
            f"node {node.name!r} fits no group: {why}",
            reason="NODE_FITS_NOWHERE",
            metadata={"node": node.name},
        )

    def _eligible(self, node: Node, topology: TopologyName) -> list[Leaf]:
        leaves = self._leaves[topology]
        if not self._reaches(node, topology):
            return []
        pin = node.pins.get(topology)
        if pin is not None and pin in leaves:
            return [leaves[pin]]
        return [leaf for leaf in leaves.values() if leaf.fits(node)]

    def _may_be_in(self, node: Node, topology: TopologyName, path: GroupPath) -> bool:
        """As `_eligible`, for one leaf: there may be thousands."""
        leaves = self._leaves.get(topology, {})
        if path not in leaves or not self._reaches(node, topology):
            return False
        pin = node.pins.get(topology)
        if pin is not None and pin in leaves:
            return pin == path
        return leaves[path].fits(node)

    def _reaches(self, node: Node, topology: TopologyName) -> bool:
        return not node.attachments or any(map(node.is_attached, self._networks[topology]))


def networks_of(node: Node, layout: Layout) -> tuple[NetworkName, ...]:
    """The networks that it is on, in file order."""
    placed = {
        network
        for topology in layout.topologies
        if topology.name in node.placements
        for network in topology.networks
    }
    return tuple(
        network.name
        for network in layout.networks
        if network.name in placed and node.is_attached(network.name)
    )


def _leaves(topology: Topology) -> Iterator[Leaf]:
    def below(group: Group, inherited: Mapping[str, str]) -> Iterator[Leaf]:
        requires = {**inherited, **group.assignment}
        if not group.groups:
            yield Leaf(group, requires)
        for child in group.groups:
            yield from below(child, requires)

    for group in topology.groups:
        yield from below(group, {})


def _missing(leaf: Leaf, node: Node) -> list[str]:
    return [
        f"{key}={value}" for key, value in leaf.requires.items() if node.labels.get(key) != value
    ]
