"""How full networks, groups, nodes and owners are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.common.model.layout import Group
from services.common.model.names import GroupPath, NetworkName, NodeName
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.network_areas import NetworkAreas


@dataclass(slots=True)
class Usage:
    size: int = 0
    used: int = 0
    resting: int = 0
    reserved: int = 0
    blocks: int = 0
    held: int = 0
    """Addresses in blocks that are held."""

    def add(self, other: Usage) -> None:
        self.size += other.size
        self.used += other.used
        self.resting += other.resting
        self.reserved += other.reserved
        self.blocks += other.blocks
        self.held += other.held

    def add_block(self, block: Block) -> None:
        self.size += block.size
        self.held += block.size
        self.used += block.used
        self.resting += block.resting
        self.reserved += block.reserved.bit_count()
        self.blocks += 1


@dataclass(frozen=True, slots=True)
class GroupUsage:
    path: GroupPath
    prefix: str
    usage: Usage
    nodes: int


@dataclass(frozen=True, slots=True)
class NetworkUsage:
    network: NetworkName
    cidr: str
    usage: Usage
    groups: Sequence[GroupUsage]
    """Parents before children."""
    nodes: dict[NodeName, Usage] = field(default_factory=dict)
    owners: dict[tuple[str, str], Usage] = field(default_factory=dict)
    """By tenant and segment."""


def utilization(ledger: Ledger, network: NetworkName | None = None) -> list[NetworkUsage]:
    """Counts per network and group, in file order, from what areas count as they go along."""
    placed: dict[GroupPath, int] = {}
    for node in ledger.nodes.values():
        for path in node.placements.values():
            placed[path] = placed.get(path, 0) + 1
    result = []
    for name, net in ledger.networks.items():
        if network in {None, name}:
            groups: list[GroupUsage] = []
            topology = next(item for item in ledger.layout.topologies if name in item.networks)
            total = Usage()
            for group in topology.groups:
                total.add(_count_group(net, group, placed, groups)[0])
            total.size = net.network.cidr.num_addresses
            total.reserved = sum(area.aside.total for area in net.areas.values())
            for block in ledger.strays.values():
                if block.network == name:
                    total.add_block(block)
                    total.size -= block.size
            result.append(NetworkUsage(name, str(net.network.cidr), total, groups))
    return result


def detail(ledger: Ledger, usages: Sequence[NetworkUsage]) -> None:
    """Adds counts per node and owner. Costs a walk over all blocks."""
    by_name = {usage.network: usage for usage in usages}
    for block in ledger.index.blocks.values():
        usage = by_name.get(block.network)
        if usage is not None:
            usage.nodes.setdefault(block.node, Usage()).add_block(block)
            usage.owners.setdefault((block.tenant, block.segment), Usage()).add_block(block)


def _count_group(
    net: NetworkAreas, group: Group, placed: dict[GroupPath, int], into: list[GroupUsage]
) -> tuple[Usage, int]:
    """Counts a group and all below, and appends them; returns usage and number of nodes."""
    place = len(into)
    prefix = group.prefixes.get(net.network.name)
    usage, nodes = Usage(), 0
    area = net.areas.get(group.path)
    if area is not None:
        usage.used, usage.resting, usage.blocks = area.used, area.resting, area.blocks
        usage.held = area.blocks << area.shift
        usage.reserved = area.reserved_addresses()
        nodes = placed.get(group.path, 0)
    for child in group.groups:
        below, count = _count_group(net, child, placed, into)
        usage.add(below)
        nodes += count
    if prefix is not None:
        usage.size = prefix.num_addresses
        into.insert(place, GroupUsage(group.path, str(prefix), usage, nodes))
    return usage, nodes
