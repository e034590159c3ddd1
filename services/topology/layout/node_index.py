"""The nodes of a layout, counted and indexed: what placing one more needs to know of all others.

It is kept up node by node and equals one that is made anew of the same nodes, so that what a
registration costs does not depend on how many nodes there are. A new layout takes a new index.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.common.model.layout import Layout
from services.common.model.names import GroupPath, NodeName, TopologyName
from services.common.model.network import Address
from services.common.model.node import Node
from services.topology.layout.leaf_counts import LeafCounts
from services.topology.layout.placement import Placer


class NodeIndex:
    """Where nodes are, and which addresses they have."""

    def __init__(self, layout: Layout, nodes: Iterable[Node] = ()) -> None:
        self.placer = Placer(layout)
        self.unplaced = 0
        """Nodes in no group."""
        self._leaf_counts = LeafCounts()
        self._holders: dict[Address, list[NodeName]] = {}
        """One each, unless somebody wrote to the store past the service."""
        for node in nodes:
            self.add(node)

    def add(self, node: Node) -> None:
        for leaf in self.placer.valid(node):
            self._leaf_counts.add(leaf, 1)
        for address in node.addresses:
            self._holders.setdefault(address, []).append(node.name)
        self.unplaced += not node.placements

    def remove(self, node: Node) -> None:
        """Undoes `add` of the same node."""
        for leaf in self.placer.valid(node):
            self._leaf_counts.add(leaf, -1)
        for address in node.addresses:
            names = self._holders[address]
            names.remove(node.name)
            if not names:
                del self._holders[address]
        self.unplaced -= not node.placements

    def place(self, node: Node) -> dict[TopologyName, GroupPath]:
        """Its leaf in each topology that it fits.

        That an earlier state of the node is counted, with the same placements, makes no difference:
        in each topology it counts for the leaf that it stays in, or for one that it may not be in.
        """
        return self.placer.place(node, self._leaf_counts)

    def holder(self, address: Address, but: NodeName) -> NodeName | None:
        """A node other than `but` that has the address."""
        return next((name for name in self._holders.get(address, ()) if name != but), None)
