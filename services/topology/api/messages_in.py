"""Makes drafts of protobuf messages; nothing is checked but what the domain cannot express."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration
from romana.topology.v1 import network_pb2, node_pb2, topology_pb2, topology_service_pb2

from services.common.document.fields import Findings
from services.common.errors import InvalidInput
from services.common.model.network import Isolation, Mode, Placement
from services.common.rpc import enums
from services.topology.forms.apply_request import Asked
from services.topology.forms.builtin import Builtin, builtin
from services.topology.forms.file import Format, read_document
from services.topology.model.draft import (
    AllowanceDraft,
    AttachmentDraft,
    EmptyAttachments,
    GroupDraft,
    NetworkDraft,
    NodeDraft,
    SpecDraft,
    TopologyDraft,
)

_ISOLATIONS = {
    network_pb2.NETWORK_ISOLATION_UNSPECIFIED: Isolation.NONE,
    network_pb2.NETWORK_ISOLATION_NONE: Isolation.NONE,
    network_pb2.NETWORK_ISOLATION_TENANT: Isolation.TENANT,
    network_pb2.NETWORK_ISOLATION_SEGMENT: Isolation.SEGMENT,
}
_EMPTY_ATTACHMENTS: Mapping[int, EmptyAttachments] = {
    node_pb2.EMPTY_ATTACHMENTS_UNSPECIFIED: EmptyAttachments.NOT_SAID,
    node_pb2.EMPTY_ATTACHMENTS_EVERY_NETWORK: EmptyAttachments.EVERY_NETWORK,
    node_pb2.EMPTY_ATTACHMENTS_NO_NETWORK: EmptyAttachments.NO_NETWORK,
}
_FORMATS: Mapping[int, Format | None] = {
    topology_pb2.DOCUMENT_FORMAT_UNSPECIFIED: None,
    topology_pb2.DOCUMENT_FORMAT_YAML: Format.YAML,
    topology_pb2.DOCUMENT_FORMAT_JSON: Format.JSON,
    topology_pb2.DOCUMENT_FORMAT_ROMANA_V2: Format.ROMANA_V2,
}
_BUILTINS = {
    topology_pb2.BUILTIN_NAME_FLAT: Builtin.FLAT,
    topology_pb2.BUILTIN_NAME_KUBEADM: Builtin.KUBEADM,
}


def asked(request: topology_service_pb2.ApplyTopologyRequest) -> Asked:
    """What is to be applied; raises InvalidInput if it cannot be read at all."""
    match request.WhichOneof("source"):
        case "spec":
            findings = Findings()
            return Asked.of(_spec(request.spec, findings), findings)
        case "document":
            form = document_format(request.document.format, "document.format")
            document = read_document(request.document.text, form)
            return Asked.of(document.draft, document.findings)
        case "builtin":
            name = _BUILTINS.get(request.builtin.name)
            if name is None:
                raise InvalidInput.at("builtin.name", "is not the name of a built-in topology")
            return Asked.of(builtin(name, request.builtin.cidr))
        case _:
            raise InvalidInput.at("spec", "one of spec, document and builtin is needed")


def document_format(value: int, at: str) -> Format | None:
    """How a document is written; None: not said."""
    if value not in _FORMATS:
        raise InvalidInput.at(at, f"{value} is not a format")
    return _FORMATS[value]


def node(message: node_pb2.Node, at: str) -> NodeDraft:
    """A node; output-only fields are ignored."""
    return NodeDraft(
        at=at,
        name=message.name,
        address=message.address,
        labels=dict(message.labels),
        attachments=tuple(
            AttachmentDraft(
                at=f"{at}.attachments[{number}]",
                network=part.network,
                interface=part.interface,
                address=part.address,
                vlan_id=part.vlan_id,
                parent_interface=part.parent_interface,
            )
            for number, part in enumerate(message.attachments)
        ),
        empty_attachments=_empty_attachments(message, at),
        pins=dict(message.pins),
        allowance=AllowanceDraft(
            at=f"{at}.allowance",
            names=tuple(message.allowance.names),
            tenants=tuple(message.allowance.tenants),
            addresses=message.allowance.addresses,
        )
        if message.HasField("allowance")
        else None,
    )


def _empty_attachments(message: node_pb2.Node, at: str) -> EmptyAttachments:
    meant = _EMPTY_ATTACHMENTS.get(message.empty_attachments)
    if meant is None:
        raise InvalidInput.at(
            f"{at}.empty_attachments", f"{message.empty_attachments} is not one of its values"
        )
    return meant


def _spec(message: topology_pb2.TopologySpec, findings: Findings) -> SpecDraft:
    at = "spec"
    return SpecDraft(
        at=at,
        networks=tuple(
            _network(network, f"{at}.networks[{number}]", findings)
            for number, network in enumerate(message.networks)
        ),
        topologies=tuple(
            TopologyDraft(
                at=f"{at}.topologies[{number}]",
                name=topology.name,
                networks=tuple(topology.networks),
                groups=tuple(
                    _group(group, f"{at}.topologies[{number}].groups[{place}]")
                    for place, group in enumerate(topology.groups)
                ),
                slots=topology.slots,
            )
            for number, topology in enumerate(message.topologies)
        ),
    )


def _network(message: network_pb2.Network, at: str, findings: Findings) -> NetworkDraft:
    if message.mode not in enums.ATTACHMENT_MODE_OF:
        findings.wrong(f"{at}.mode", f"{message.mode} is not an attachment mode")
    if message.placement not in enums.PLACEMENT_OF:
        findings.wrong(f"{at}.placement", f"{message.placement} is not a placement strategy")
    if message.isolation not in _ISOLATIONS:
        findings.wrong(f"{at}.isolation", f"{message.isolation} is not an isolation")
    return NetworkDraft(
        at=at,
        name=message.name,
        cidr=message.cidr,
        block_length=message.block_length,
        tenants=tuple(message.tenants),
        vlan_id=message.vlan_id,
        gateway=message.gateway,
        mtu=message.mtu,
        mode=enums.ATTACHMENT_MODE_OF.get(message.mode, Mode.ROUTED),
        placement=enums.PLACEMENT_OF.get(message.placement, Placement.AGGREGATE),
        reuse_delay=_seconds(message.reuse_delay) if message.HasField("reuse_delay") else None,
        isolation=_ISOLATIONS.get(message.isolation, Isolation.NONE),
        masquerade=message.masquerade,
    )


def _group(message: topology_pb2.PrefixGroup, at: str) -> GroupDraft:
    return GroupDraft(
        at=at,
        name=message.name,
        assignment=dict(message.assignment),
        routing=message.routing,
        weight=message.weight,
        prefixes=dict(message.prefixes),
        groups=tuple(
            _group(group, f"{at}.groups[{number}]") for number, group in enumerate(message.groups)
        ),
        nodes=tuple(
            node(part, f"{at}.nodes[{number}]") for number, part in enumerate(message.nodes)
        ),
        slots=message.slots,
        slot=message.slot if message.HasField("slot") else None,
    )


def _seconds(message: Duration) -> float:
    return message.seconds + message.nanos / 1e9
