"""Which blocks in use a change would leave outside the group of their node.

A block is in order when its network is there and has blocks of that length, its node is on that
network, and it lies in the prefix of the node's group. A group that shrinks around its blocks
strands none. Addresses that visit a node are in order while the node is on their network; where the
network is gone, they count with their block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network

from services.common.model.layout import Group, Layout
from services.common.model.names import GroupPath, NodeName
from services.common.model.network import Prefix
from services.common.model.node import Node
from services.topology.layout.diff import networks_by_name
from services.topology.layout.usage import BlockUse


def block_prefix(block: BlockUse, family: int) -> Prefix | None:
    """The block's prefix; None if it is not one of that family."""
    try:
        if family == 4:
            return IPv4Network((block.base, block.length))
        return IPv6Network((block.base, block.length))
    except ValueError:
        return None


def stranded_blocks(
    before: Layout,
    nodes_before: Mapping[NodeName, Node],
    after: Layout,
    nodes_after: Mapping[NodeName, Node],
    blocks: Iterable[BlockUse],
) -> Iterator[BlockUse]:
    """The blocks that the change strands; those that are stranded already are not among them."""
    was, will_be = _Ground(before, nodes_before), _Ground(after, nodes_after)
    for block in blocks:
        if block.used and not will_be.holds(block) and was.holds(block):
            yield block


class _Ground:
    """Where blocks may lie."""

    def __init__(self, layout: Layout, nodes: Mapping[NodeName, Node]) -> None:
        self._networks = networks_by_name(layout)
        self._nodes = nodes
        self._groups: dict[GroupPath, Group] = {
            leaf.path: leaf for topology in layout.topologies for leaf in topology.leaves()
        }

    def holds(self, block: BlockUse) -> bool:
        """Says whether the block lies in its node's group and has the right length."""
        known = self._networks.get(block.network)
        node = self._nodes.get(block.node)
        if known is None:
            return block.visits
        if node is None:
            return False
        network, topology = known
        group = self._groups.get(node.placements.get(topology, GroupPath("")))
        if group is None or not node.is_attached(network.name):
            return False
        if block.visits:
            return True
        prefix = block_prefix(block, network.cidr.version)
        ground = group.prefixes.get(network.name)
        return (
            prefix is not None
            and ground is not None
            and block.length == network.block_length
            and block.length >= ground.prefixlen
            and prefix.network_address in ground
        )
