"""Targets, peers and ports of policies as documents of the store."""

from __future__ import annotations

from ipaddress import ip_network

import msgspec

from services.common.model.devices import DeviceGroupName
from services.common.model.names import NetworkName, NodeName, Segment, Tenant
from services.common.model.rules import Action, CidrBlock, PortMatch, Protocol
from services.policy.model import (
    Anything,
    EndpointSelector,
    LabelSelector,
    NetworkPeer,
    NodeSelector,
    Operator,
    Peer,
    Requirement,
    Rule,
    Target,
)


class RequirementDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    key: str
    operator: Operator
    values: tuple[str, ...] = ()


Labels = tuple[RequirementDocument, ...]


class EndpointsDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    tenants: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    labels: Labels = ()
    tenant_labels: Labels = ()


class NodesDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    names: tuple[str, ...] = ()
    labels: Labels = ()


class BlockDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    cidr: str
    exceptions: tuple[str, ...] = ()


class TargetDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a policy applies: one of these."""

    endpoints: EndpointsDocument | None = None
    nodes: NodesDocument | None = None


class PeerDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """The other side: one of these."""

    endpoints: EndpointsDocument | None = None
    block: BlockDocument | None = None
    nodes: NodesDocument | None = None
    network: str | None = None
    any: bool = False


class PortDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is spoken to."""

    protocol: Protocol | None = None
    first: int = 0
    last: int = 0
    name: str = ""
    icmp_type: int | None = None
    icmp_code: int | None = None


class RuleDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule. Left out: every peer, every port."""

    action: Action = Action.ALLOW
    peers: tuple[PeerDocument, ...] = (PeerDocument(any=True),)
    ports: tuple[PortDocument, ...] = (PortDocument(),)
    via: str = ""
    mirror: str = ""


def from_target(target: Target) -> TargetDocument:
    if isinstance(target, EndpointSelector):
        return TargetDocument(endpoints=_from_endpoints(target))
    return TargetDocument(nodes=_from_nodes(target))


def to_target(record: TargetDocument) -> Target:
    """Reads a target; raises ValueError."""
    if record.endpoints is not None:
        return _to_endpoints(record.endpoints)
    if record.nodes is not None:
        return _to_nodes(record.nodes)
    raise ValueError("a target of a kind that is not known")


def from_rule(rule: Rule) -> RuleDocument:
    return RuleDocument(
        rule.action,
        tuple(map(_from_peer, rule.peers)),
        tuple(
            PortDocument(
                port.protocol, port.first, port.last, port.name, port.icmp_type, port.icmp_code
            )
            for port in rule.ports
        ),
        rule.via or "",
        rule.mirror or "",
    )


def to_rule(record: RuleDocument) -> Rule:
    """Reads a rule; raises ValueError."""
    if not record.peers or not record.ports:
        raise ValueError("a rule without peers or ports")
    return Rule(
        record.action,
        tuple(map(_to_peer, record.peers)),
        tuple(
            PortMatch(
                port.protocol, port.first, port.last, port.name, port.icmp_type, port.icmp_code
            )
            for port in record.ports
        ),
        DeviceGroupName(record.via) if record.via else None,
        DeviceGroupName(record.mirror) if record.mirror else None,
    )


def _from_peer(peer: Peer) -> PeerDocument:
    match peer:
        case EndpointSelector():
            return PeerDocument(endpoints=_from_endpoints(peer))
        case CidrBlock():
            block = BlockDocument(str(peer.cidr), tuple(map(str, peer.exceptions)))
            return PeerDocument(block=block)
        case NodeSelector():
            return PeerDocument(nodes=_from_nodes(peer))
        case NetworkPeer():
            return PeerDocument(network=peer.network)
        case Anything():
            return PeerDocument(any=True)


def _to_peer(record: PeerDocument) -> Peer:
    if record.endpoints is not None:
        return _to_endpoints(record.endpoints)
    if record.block is not None:
        return CidrBlock(
            ip_network(record.block.cidr), tuple(map(ip_network, record.block.exceptions))
        )
    if record.nodes is not None:
        return _to_nodes(record.nodes)
    if record.network is not None:
        return NetworkPeer(NetworkName(record.network))
    if record.any:
        return Anything()
    raise ValueError("a peer of a kind that is not known")


def _from_endpoints(selector: EndpointSelector) -> EndpointsDocument:
    return EndpointsDocument(
        selector.tenants,
        selector.segments,
        selector.networks,
        _from_labels(selector.labels),
        _from_labels(selector.tenant_labels),
    )


def _to_endpoints(record: EndpointsDocument) -> EndpointSelector:
    return EndpointSelector(
        tuple(map(Tenant, record.tenants)),
        tuple(map(Segment, record.segments)),
        tuple(map(NetworkName, record.networks)),
        _to_labels(record.labels),
        _to_labels(record.tenant_labels),
    )


def _from_nodes(selector: NodeSelector) -> NodesDocument:
    return NodesDocument(selector.names, _from_labels(selector.labels))


def _to_nodes(record: NodesDocument) -> NodeSelector:
    return NodeSelector(tuple(map(NodeName, record.names)), _to_labels(record.labels))


def _from_labels(selector: LabelSelector) -> Labels:
    return tuple(
        RequirementDocument(one.key, one.operator, one.values) for one in selector.requirements
    )


def _to_labels(record: Labels) -> LabelSelector:
    return LabelSelector(tuple(Requirement(one.key, one.operator, one.values) for one in record))
