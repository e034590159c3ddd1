"""Values as messages of the API."""

from __future__ import annotations

from typing import Final, TypeAlias

from romana.policy.v1 import endpoint_pb2, policy_pb2, selector_pb2

from services.common.etcd.types import Revision
from services.common.model.rules import CidrBlock, Direction, PortMatch
from services.common.rpc.models import to_message
from services.policy.agents.rule_parts import block, port, wanted
from services.policy.model import (
    Anything,
    Endpoint,
    EndpointSelector,
    LabelSelector,
    NetworkPeer,
    NodeSelector,
    Operator,
    Peer,
    Rule,
    Target,
    TenantRecord,
)
from services.policy.store.codec import Stored
from services.policy.store.entry import Entry

EndpointMessage: TypeAlias = endpoint_pb2.PolicyEndpoint

_OPERATORS: Final = {
    Operator.IN: selector_pb2.LABEL_OPERATOR_IN,
    Operator.NOT_IN: selector_pb2.LABEL_OPERATOR_NOT_IN,
    Operator.EXISTS: selector_pb2.LABEL_OPERATOR_EXISTS,
    Operator.DOES_NOT_EXIST: selector_pb2.LABEL_OPERATOR_DOES_NOT_EXIST,
}


def policy(entry: Entry[Stored]) -> policy_pb2.Policy:
    """A policy as stored; revision 0: it is not, and has no etag."""
    stored = entry.value
    value = stored.policy
    message = to_message(
        policy_pb2.Policy,
        value,
        targets=map(_target, value.targets),
        directions=value.rules,
        ingress=map(_rule, value.rules.get(Direction.INGRESS, ())),
        egress=map(_rule, value.rules.get(Direction.EGRESS, ())),
        etag=etag(entry.revision),
    )
    message.create_time.FromMilliseconds(stored.created)
    message.update_time.FromMilliseconds(stored.updated)
    return message


def tenant(entry: Entry[TenantRecord]) -> endpoint_pb2.Tenant:
    return to_message(endpoint_pb2.Tenant, entry.value, etag=etag(entry.revision))


def endpoint(value: Endpoint, revision: Revision) -> endpoint_pb2.PolicyEndpoint:
    """An endpoint; `revision`: of what an orchestrator said, 0 if none did."""
    return to_message(
        endpoint_pb2.PolicyEndpoint,
        value,
        ports=[
            endpoint_pb2.NamedPort(name=port.name, protocol=port.protocol.upper(), port=port.port)
            for port in value.ports
        ],
        etag=etag(revision),
        wanted=None if value.wanted is None else wanted(value.wanted),
    )


def etag(revision: Revision) -> str:
    """That of a record; empty: there is none."""
    return str(revision) if revision else ""


def _target(value: Target) -> policy_pb2.Target:
    if isinstance(value, EndpointSelector):
        return policy_pb2.Target(endpoints=_endpoints(value))
    return policy_pb2.Target(nodes=_nodes(value))


def _rule(value: Rule) -> policy_pb2.Rule:
    every_peer = value.peers == (Anything(),)
    every_port = value.ports == (PortMatch(),)
    return to_message(
        policy_pb2.Rule,
        value,
        peers=[] if every_peer else map(_peer, value.peers),
        ports=[] if every_port else map(port, value.ports),
    )


def _peer(value: Peer) -> policy_pb2.Peer:
    match value:
        case EndpointSelector():
            return policy_pb2.Peer(endpoints=_endpoints(value))
        case CidrBlock():
            return policy_pb2.Peer(cidr=block(value))
        case NodeSelector():
            return policy_pb2.Peer(nodes=_nodes(value))
        case NetworkPeer():
            return policy_pb2.Peer(network=value.network)
        case Anything():
            return policy_pb2.Peer(any=policy_pb2.Anything())


def _endpoints(value: EndpointSelector) -> selector_pb2.EndpointSelector:
    return to_message(
        selector_pb2.EndpointSelector,
        value,
        labels=_labels(value.labels),
        tenant_labels=_labels(value.tenant_labels),
    )


def _nodes(value: NodeSelector) -> selector_pb2.NodeSelector:
    return to_message(selector_pb2.NodeSelector, value, labels=_labels(value.labels))


def _labels(value: LabelSelector) -> selector_pb2.LabelSelector | None:
    """What is equal to one value, and named once, in the short form."""
    if not value.requirements:
        return None
    message = selector_pb2.LabelSelector()
    for one in value.requirements:
        if (
            one.operator is Operator.IN
            and len(one.values) == 1
            and one.key not in message.match_labels
        ):
            message.match_labels[one.key] = one.values[0]
        else:
            message.match_expressions.add(
                key=one.key, operator=_OPERATORS[one.operator], values=one.values
            )
    return message
