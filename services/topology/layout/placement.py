"""Places nodes in the leaves of the topology.

A node fits a leaf when it carries all labels assigned to the leaf and to its ancestors, with
exactly those values. It stays where it is as long as it fits there; else it goes to the leaf that
fits and has the fewest nodes, the first of them on a tie. A pin goes before labels; one whose group
is gone counts no more. Only leaves of the layout take nodes: spare slots are not groups, so nothing
ever lands in one.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.common.errors import WrongState
from services.common.model.layout import Layout
from services.common.model.names import GroupPath, NetworkName, TopologyName
from services.common.model.node import Node
from services.topology.layout.leaf_counts import LeafCounts
from services.topology.layout.leaves import Leaf, Leaves

NO_PATH = GroupPath("")


class Placer:
    """A layout made ready for placing many nodes."""

    def __init__(self, layout: Layout) -> None:
        self._leaves: dict[TopologyName, Leaves] = {
            topology.name: Leaves(topology) for topology in layout.topologies
        }
        self._networks: dict[TopologyName, tuple[NetworkName, ...]] = {
            topology.name: topology.networks for topology in layout.topologies
        }

    def place(self, node: Node, leaf_counts: LeafCounts) -> dict[TopologyName, GroupPath]:
        """Its leaf in each topology that it fits.

        `leaf_counts` counts the nodes in each leaf, without this one.
        """
        found: dict[TopologyName, GroupPath] = {}
        for name in self._leaves:
            held = node.placements.get(name)
            if held is not None and self._leaf_of(node, name, held):
                found[name] = held
            elif best := self._best(node, name, leaf_counts):
                found[name] = best.group.path
        return found

    def is_in_place(self, node: Node) -> bool:
        """Says whether it is where the layout allows it to be, and in every topology it fits."""
        for name in self._leaves:
            held = node.placements.get(name)
            if held is None and self._fits_any(node, name):
                return False
            if held is not None and not self._leaf_of(node, name, held):
                return False
        return all(name in self._leaves for name in node.placements)

    def valid(self, node: Node) -> Iterator[Leaf]:
        """The leaves that it is in and may be in: those it counts for."""
        for name, path in node.placements.items():
            if leaf := self._leaf_of(node, name, path):
                yield leaf

    def nowhere(self, node: Node) -> WrongState:
        """Why the node fits nothing at all, with the remedy."""
        reachable = [name for name in self._leaves if self._reaches(node, name)]
        if not self._leaves:
            why = "there is no topology yet: apply one first"
        elif not reachable:
            why = "its attachments name no network of any topology"
        else:
            wanted = [
                leaf
                for name in reachable
                for leaf in self._leaves[name].by_path.values()
                if leaf.requires
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

    def _best(self, node: Node, topology: TopologyName, leaf_counts: LeafCounts) -> Leaf | None:
        """The leaf with the fewest nodes of those it fits, the first on a tie."""
        leaves = self._leaves[topology]
        if not self._reaches(node, topology):
            return None
        if pinned := leaves.by_path.get(node.pins.get(topology, NO_PATH)):
            return pinned
        return min(
            map(leaf_counts.fewest, leaves.fitting(node)),
            key=lambda leaf: (leaf_counts.number(leaf), leaf.order),
            default=None,
        )

    def _fits_any(self, node: Node, topology: TopologyName) -> bool:
        leaves = self._leaves[topology]
        if not self._reaches(node, topology):
            return False
        return node.pins.get(topology) in leaves.by_path or any(leaves.fitting(node))

    def _leaf_of(self, node: Node, topology: TopologyName, path: GroupPath) -> Leaf | None:
        """The leaf of that path, if the node may be in it."""
        leaves = self._leaves.get(topology)
        leaf = leaves.by_path.get(path) if leaves is not None else None
        if leaves is None or leaf is None or not self._reaches(node, topology):
            return None
        if pinned := leaves.by_path.get(node.pins.get(topology, NO_PATH)):
            return leaf if leaf is pinned else None
        return leaf if leaf.fits(node) else None

    def _reaches(self, node: Node, topology: TopologyName) -> bool:
        return node.attachments is None or any(map(node.is_attached, self._networks[topology]))


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


def _missing(leaf: Leaf, node: Node) -> list[str]:
    return [
        f"{key}={value}" for key, value in leaf.requires.items() if node.labels.get(key) != value
    ]
