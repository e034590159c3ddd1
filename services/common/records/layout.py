"""What topology keeps in etcd: the layout as one document, and one document per node.

Every service reads them. Addresses are text, and what equals its default is left out, so that an
operator can read a document with etcdctl. Unknown fields are ignored and new ones must have
defaults, so that replicas of neighbouring versions can run together. A group's path is not stored:
it follows from the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

import msgspec

from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import GroupPath, NetworkName, NodeName, Tenant, TopologyName
from services.common.model.network import (
    DEFAULT_REUSE_DELAY,
    Address,
    Isolation,
    Mode,
    Network,
    Placement,
    Prefix,
)
from services.common.model.node import Attachment, Node, NodeAllowance
from services.common.records.errors import RecordError


class NetworkRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A network."""

    name: str
    cidr: str
    block_length: int
    tenants: tuple[str, ...] = ()
    vlan_id: int = 0
    gateway: str = ""
    mtu: int = 0
    mode: Mode = Mode.ROUTED
    placement: Placement = Placement.AGGREGATE
    reuse_delay: float = DEFAULT_REUSE_DELAY
    isolation: Isolation = Isolation.NONE
    masquerade: bool = False


class GroupRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A prefix group."""

    name: str
    assignment: dict[str, str] = {}
    routing: str = ""
    weight: int = 1
    pinned_prefixes: dict[str, str] = {}
    slot: int = 0
    slots: int = 1
    prefixes: dict[str, str] = {}
    groups: tuple[GroupRecord, ...] = ()


class TopologyRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A topology."""

    name: str
    networks: tuple[str, ...]
    groups: tuple[GroupRecord, ...]
    slots: int = 1


class LayoutRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The whole layout."""

    networks: tuple[NetworkRecord, ...] = ()
    topologies: tuple[TopologyRecord, ...] = ()


class AttachmentRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node's interface and address on one network."""

    network: str
    interface: str = ""
    address: str = ""
    vlan_id: int = 0
    parent_interface: str = ""


class AllowanceRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node's own certificate may take."""

    names: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    addresses: int = 0


class NodeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node."""

    name: str
    address: str = ""
    labels: dict[str, str] = {}
    attachments: tuple[AttachmentRecord, ...] | None = None
    """None: on every network that its placements give. Absent before there was an empty list, which
    is written out."""
    pins: dict[str, str] = {}
    placements: dict[str, str] = {}
    create_time: int = 0
    allowance: AllowanceRecord = AllowanceRecord()
    self_reported: tuple[str, ...] = ()


class RemovedNodeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node that somebody removed, by force or when nothing was in use on it any more. Its agent
    does not register it again while this is there."""

    time: int = 0
    """Unix time in seconds."""
    addresses: int = 0
    """In use on it then."""
    request_id: str = ""
    machine_is_off: bool = False
    """Whoever removed it vouches that nothing of it has the addresses any more."""


_encoder = msgspec.json.Encoder()
_layout_decoder = msgspec.json.Decoder(LayoutRecord)
_node_decoder = msgspec.json.Decoder(NodeRecord)
_removed_node_decoder = msgspec.json.Decoder(RemovedNodeRecord)


def encode_layout(layout: Layout) -> bytes:
    """The document to store."""
    return _encoder.encode(
        LayoutRecord(
            networks=tuple(_from_network(network) for network in layout.networks),
            topologies=tuple(
                TopologyRecord(
                    topology.name,
                    topology.networks,
                    tuple(_from_group(group) for group in topology.groups),
                    topology.slots,
                )
                for topology in layout.topologies
            ),
        )
    )


def decode_layout(document: bytes) -> Layout:
    """Reads a layout; raises RecordError."""
    try:
        record = _layout_decoder.decode(document)
        return Layout(
            networks=tuple(_to_network(network) for network in record.networks),
            topologies=tuple(
                Topology(
                    TopologyName(topology.name),
                    tuple(NetworkName(network) for network in topology.networks),
                    tuple(_to_group(group, topology.name) for group in topology.groups),
                    topology.slots,
                )
                for topology in record.topologies
            ),
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise RecordError(f"not a layout: {error}") from error


def encode_node(node: Node) -> bytes:
    """The document to store."""
    return _encoder.encode(
        NodeRecord(
            name=node.name,
            address=_text(node.address),
            labels=dict(node.labels),
            attachments=None
            if node.attachments is None
            else tuple(
                AttachmentRecord(
                    attachment.network,
                    attachment.interface,
                    _text(attachment.address),
                    attachment.vlan_id,
                    attachment.parent_interface,
                )
                for attachment in node.attachments
            ),
            pins=_texts(node.pins),
            placements=_texts(node.placements),
            create_time=node.create_time,
            allowance=AllowanceRecord(
                node.allowance.names, node.allowance.tenants, node.allowance.addresses
            ),
            self_reported=node.self_reported,
        )
    )


def decode_node(document: bytes) -> Node:
    """Reads a node; raises RecordError."""
    try:
        record = _node_decoder.decode(document)
        return Node(
            name=NodeName(record.name),
            address=_address(record.address),
            labels=record.labels,
            attachments=None
            if record.attachments is None
            else tuple(
                Attachment(
                    NetworkName(attachment.network),
                    attachment.interface,
                    _address(attachment.address),
                    attachment.vlan_id,
                    attachment.parent_interface,
                )
                for attachment in record.attachments
            ),
            pins=_placements(record.pins),
            placements=_placements(record.placements),
            create_time=record.create_time,
            allowance=NodeAllowance(
                record.allowance.names,
                tuple(Tenant(tenant) for tenant in record.allowance.tenants),
                record.allowance.addresses,
            ),
            self_reported=record.self_reported,
        )
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise RecordError(f"not a node: {error}") from error


def encode_removed_node(record: RemovedNodeRecord) -> bytes:
    """The document to store."""
    return _encoder.encode(record)


def decode_removed_node(document: bytes) -> RemovedNodeRecord:
    """Reads a removal; what cannot be read is one all the same."""
    try:
        return _removed_node_decoder.decode(document)
    except msgspec.MsgspecError:
        return RemovedNodeRecord()


def _from_network(network: Network) -> NetworkRecord:
    return NetworkRecord(
        name=network.name,
        cidr=str(network.cidr),
        block_length=network.block_length,
        tenants=network.tenants,
        vlan_id=network.vlan_id,
        gateway=_text(network.gateway),
        mtu=network.mtu,
        mode=network.mode,
        placement=network.placement,
        reuse_delay=network.reuse_delay,
        isolation=network.isolation,
        masquerade=network.masquerade,
    )


def _to_network(record: NetworkRecord) -> Network:
    return Network(
        name=NetworkName(record.name),
        cidr=ip_network(record.cidr),
        block_length=record.block_length,
        tenants=tuple(Tenant(tenant) for tenant in record.tenants),
        vlan_id=record.vlan_id,
        gateway=_address(record.gateway),
        mtu=record.mtu,
        mode=record.mode,
        placement=record.placement,
        reuse_delay=record.reuse_delay,
        isolation=record.isolation,
        masquerade=record.masquerade,
    )


def _from_group(group: Group) -> GroupRecord:
    return GroupRecord(
        name=group.name,
        assignment=dict(group.assignment),
        routing=group.routing,
        weight=group.weight,
        pinned_prefixes=_texts(group.pinned_prefixes),
        slot=group.slot,
        slots=group.slots,
        prefixes=_texts(group.prefixes),
        groups=tuple(_from_group(child) for child in group.groups),
    )


def _to_group(record: GroupRecord, parent: str) -> Group:
    path = f"{parent}/{record.name}"
    return Group(
        path=GroupPath(path),
        name=record.name,
        assignment=record.assignment,
        routing=record.routing,
        weight=record.weight,
        pinned_prefixes=_prefixes(record.pinned_prefixes),
        slot=record.slot,
        slots=record.slots,
        prefixes=_prefixes(record.prefixes),
        groups=tuple(_to_group(child, path) for child in record.groups),
    )


def _text(address: Address | None) -> str:
    return "" if address is None else str(address)


def _texts(
    items: Mapping[NetworkName, Prefix] | Mapping[TopologyName, GroupPath],
) -> dict[str, str]:
    return {str(key): str(value) for key, value in items.items()}


def _address(text: str) -> Address | None:
    return ip_address(text) if text else None


def _prefixes(items: Mapping[str, str]) -> dict[NetworkName, Prefix]:
    return {NetworkName(name): ip_network(text) for name, text in items.items()}


def _placements(items: Mapping[str, str]) -> dict[TopologyName, GroupPath]:
    return {TopologyName(topology): GroupPath(path) for topology, path in items.items()}
