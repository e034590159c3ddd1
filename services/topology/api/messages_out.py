"""Makes protobuf messages of the domain's values. The other way is in `messages_in`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from romana.topology.v1 import network_pb2, node_pb2, topology_pb2

from services.common.model.layout import Group, Layout
from services.common.model.names import GroupPath, NetworkName
from services.common.model.network import Isolation, Network, Prefix
from services.common.model.node import Attachment, Node, NodeAllowance
from services.common.rpc import enums
from services.topology.layout.diff import Kind
from services.topology.layout.placement import networks_of
from services.topology.layout.plan import Plan
from services.topology.layout.stranded import block_prefix

_ISOLATIONS = {
    Isolation.NONE: network_pb2.NETWORK_ISOLATION_NONE,
    Isolation.TENANT: network_pb2.NETWORK_ISOLATION_TENANT,
    Isolation.SEGMENT: network_pb2.NETWORK_ISOLATION_SEGMENT,
}
_KINDS = {
    Kind.ADDED: topology_pb2.CHANGE_KIND_ADDED,
    Kind.MOVED: topology_pb2.CHANGE_KIND_MOVED,
    Kind.UPDATED: topology_pb2.CHANGE_KIND_UPDATED,
    Kind.REMOVED: topology_pb2.CHANGE_KIND_REMOVED,
}


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
            topology_pb2.Topology(
                name=topology.name,
                networks=topology.networks,
                groups=[_group(group, counts) for group in topology.groups],
            )
            for topology in layout.topologies
        ],
    )


def networks(layout: Layout, chosen: Iterable[Network]) -> list[network_pb2.Network]:
    """Networks of the layout."""
    topologies = {name: t.name for t in layout.topologies for name in t.networks}
    return [_network(network, topologies.get(network.name, "")) for network in chosen]


def node(value: Node, layout: Layout, etag: str) -> node_pb2.Node:
    """A node with its placements."""
    message = node_pb2.Node(
        name=value.name,
        address=_text(value.address),
        labels=dict(value.labels),
        attachments=[_attachment(part) for part in value.declared],
        empty_attachments=_empty_attachments(value),
        pins={str(name): str(path) for name, path in value.pins.items()},
        placements=[
            node_pb2.NodePlacement(topology=name, group=path)
            for name, path in value.placements.items()
        ],
        networks=networks_of(value, layout),
        etag=etag,
        self_reported=value.self_reported,
    )
    if value.allowance != NodeAllowance():
        message.allowance.names.extend(value.allowance.names)
        message.allowance.tenants.extend(value.allowance.tenants)
        message.allowance.addresses = value.allowance.addresses
    if value.create_time:
        message.create_time.FromSeconds(value.create_time)
    return message


def _empty_attachments(value: Node) -> node_pb2.EmptyAttachments.ValueType:
    if value.declared:
        return node_pb2.EMPTY_ATTACHMENTS_UNSPECIFIED
    if value.attachments is None:
        return node_pb2.EMPTY_ATTACHMENTS_EVERY_NETWORK
    return node_pb2.EMPTY_ATTACHMENTS_NO_NETWORK


def plan(value: Plan, before: Layout) -> topology_pb2.TopologyPlan:
    """A plan; `before` is the layout it starts from."""
    families = {
        network.name: network.cidr.version for network in (*before.networks, *value.layout.networks)
    }
    return topology_pb2.TopologyPlan(
        networks=[
            topology_pb2.NetworkChange(
                network=change.network, kind=_KINDS[change.kind], fields=change.fields
            )
            for change in value.networks
        ],
        groups=[
            topology_pb2.GroupChange(
                group=change.group,
                network=change.network,
                kind=_KINDS[change.kind],
                before=_text(change.before),
                after=_text(change.after),
            )
            for change in value.groups
        ],
        nodes=[
            topology_pb2.NodeMove(
                node=move.node,
                topology=move.topology,
                before=move.before or "",
                after=move.after or "",
            )
            for move in value.moves
        ],
        stranded=[
            topology_pb2.StrandedBlock(
                network=block.network,
                block=_text(block_prefix(block, families.get(block.network, 4))),
                node=block.node,
                used=block.used,
            )
            for block in value.stranded
        ],
        stranded_addresses=value.stranded_addresses,
    )


def _network(value: Network, topology: str) -> network_pb2.Network:
    message = network_pb2.Network(
        name=value.name,
        cidr=str(value.cidr),
        block_length=value.block_length,
        tenants=value.tenants,
        vlan_id=value.vlan_id,
        gateway=_text(value.gateway),
        mtu=value.mtu,
        mode=enums.ATTACHMENT_MODES[value.mode],
        placement=enums.PLACEMENTS[value.placement],
        topology=topology,
        isolation=_ISOLATIONS[value.isolation],
        masquerade=value.masquerade,
    )
    message.reuse_delay.FromNanoseconds(round(value.reuse_delay * 1e9))
    return message


def _group(value: Group, counts: Mapping[str, int]) -> topology_pb2.PrefixGroup:
    return topology_pb2.PrefixGroup(
        name=value.name,
        assignment=dict(value.assignment),
        routing=value.routing,
        weight=value.weight,
        prefixes=_prefixes(value.pinned_prefixes),
        groups=[_group(group, counts) for group in value.groups],
        path=value.path,
        carved_prefixes=_prefixes(value.prefixes),
        node_count=counts.get(value.path, 0),
    )


def _attachment(value: Attachment) -> node_pb2.Attachment:
    return node_pb2.Attachment(
        network=value.network,
        interface=value.interface,
        address=_text(value.address),
        vlan_id=value.vlan_id,
        parent_interface=value.parent_interface,
    )


def _prefixes(items: Mapping[NetworkName, Prefix]) -> dict[str, str]:
    return {str(name): str(prefix) for name, prefix in items.items()}


def _text(value: object | None) -> str:
    return "" if value is None else str(value)


def is_below(path: GroupPath, group: str) -> bool:
    """Says whether a path is that of the group, or of one below; a topology's name is its top."""
    return path == group or path.startswith(f"{group}/")
