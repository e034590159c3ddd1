"""Makes protobuf messages of the domain's values. The other way is in `messages_in`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from romana.topology.v1 import network_pb2, node_pb2, topology_pb2

from services.common.model.layout import Group, Layout
from services.common.model.names import GroupPath
from services.common.model.network import Network
from services.common.model.node import Node
from services.common.rpc.models import to_message
from services.topology.layout.placement import networks_of
from services.topology.layout.plan import Plan
from services.topology.layout.stranded import block_prefix
from services.topology.model.spec import EmptyAttachments


def spec(layout: Layout, nodes: Iterable[Node]) -> topology_pb2.TopologySpec:
    """The topology with output-only fields; nodes are counted, not listed."""
    counts: dict[str, int] = {}
    for node in nodes:
        for path in node.placements.values():
            parts = path.split("/")
            for end in range(2, len(parts) + 1):
                group = "/".join(parts[:end])
                counts[group] = counts.get(group, 0) + 1
    return topology_pb2.TopologySpec(
        networks=networks(layout, layout.networks),
        topologies=[
            to_message(
                topology_pb2.Topology,
                topology,
                groups=[_group(group, counts) for group in topology.groups],
                slots=None,
            )
            for topology in layout.topologies
        ],
    )


def networks(layout: Layout, chosen: Iterable[Network]) -> list[network_pb2.Network]:
    topologies = {name: t.name for t in layout.topologies for name in t.networks}
    return [
        to_message(network_pb2.Network, network, topology=topologies.get(network.name, ""))
        for network in chosen
    ]


def node(value: Node, layout: Layout, etag: str) -> node_pb2.Node:
    return to_message(
        node_pb2.Node,
        value,
        empty_attachments=_empty_attachments(value),
        placements=[
            node_pb2.NodePlacement(topology=name, group=path)
            for name, path in value.placements.items()
        ],
        networks=networks_of(value, layout),
        etag=etag,
    )


def _empty_attachments(value: Node) -> EmptyAttachments:
    if value.declared:
        return EmptyAttachments.NOT_SAID
    if value.attachments is None:
        return EmptyAttachments.EVERY_NETWORK
    return EmptyAttachments.NO_NETWORK


def plan(value: Plan, before: Layout) -> topology_pb2.TopologyPlan:
    """A plan; `before` is the layout it starts from."""
    families = {
        network.name: network.cidr.version for network in (*before.networks, *value.layout.networks)
    }
    return topology_pb2.TopologyPlan(
        networks=[to_message(topology_pb2.NetworkChange, change) for change in value.networks],
        groups=[
            to_message(topology_pb2.GroupChange, change, kind=change.kind)
            for change in value.groups
        ],
        nodes=[to_message(topology_pb2.NodeMove, move) for move in value.moves],
        attachments=[
            to_message(topology_pb2.AttachmentChange, change) for change in value.attachments
        ],
        stranded=[
            topology_pb2.StrandedBlock(
                network=block.network,
                block=str(block_prefix(block, families.get(block.network, 4))),
                node=block.node,
                used=block.used,
            )
            for block in value.stranded
        ],
        stranded_addresses=value.stranded_addresses,
    )


def _group(value: Group, counts: Mapping[str, int]) -> topology_pb2.PrefixGroup:
    return to_message(
        topology_pb2.PrefixGroup,
        value,
        prefixes=value.pinned_prefixes,
        carved_prefixes=value.prefixes,
        groups=[_group(group, counts) for group in value.groups],
        node_count=counts.get(value.path, 0),
        slots=None,  # as carved; only export says them, where they are needed
        slot=None,
    )


def is_below(path: GroupPath, group: str) -> bool:
    """Says whether a path is that of the group, or of one below; a topology's name is its top."""
    return path == group or path.startswith(f"{group}/")
