"""What policy keeps in etcd: one JSON document per policy, tenant and endpoint.

Prefixes and addresses are text, and what equals its default is left out, so that an operator can
read a document with etcdctl. Unknown fields are ignored and new ones must have defaults, so that
replicas of neighbouring versions can run together. Names are in the keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar

import msgspec

from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Address, Isolation
from services.common.model.rules import Direction, Mode, PolicyName, Protocol, Tier
from services.common.records.errors import RecordError
from services.policy.model import (
    Endpoint,
    NamedPort,
    Origin,
    Policy,
    TenantRecord,
    WantedAddress,
    WantedAttachment,
)
from services.policy.store.codec_rules import (
    RuleDocument,
    TargetDocument,
    from_rule,
    from_target,
    to_rule,
    to_target,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored:
    """A policy, and when it was written."""

    policy: Policy
    created: int
    """Unix time in milliseconds."""
    updated: int
    """The same."""


class PolicyDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    targets: tuple[TargetDocument, ...]
    rules: dict[Direction, tuple[RuleDocument, ...]]
    tier: str = Tier.TENANT.name
    priority: int = 0
    mode: Mode = Mode.ENFORCE
    description: str = ""
    labels: dict[str, str] = {}
    origin: tuple[str, str] | None = None
    created: int = 0
    updated: int = 0


class TenantDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    labels: dict[str, str] = {}
    isolation: Isolation | None = None


class PortDocument(msgspec.Struct, frozen=True, array_like=True):
    name: str
    protocol: Protocol
    port: int


class WantedDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an endpoint is to be attached."""

    node: str
    addresses: tuple[tuple[str, int, str], ...] = ()
    """Network, family, address."""
    allocation: str = ""
    ending: bool = False
    refusal: str = ""
    gone: bool = False


class EndpointDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """What somebody said of an endpoint."""

    tenant: str
    segment: str = ""
    labels: dict[str, str] = {}
    ports: tuple[PortDocument, ...] = ()
    addresses: tuple[str, ...] = ()
    wanted: WantedDocument | None = None
    instance: str = ""
    labels_follow: bool = False
    only_of_tenant: bool = False


_encoder = msgspec.json.Encoder(order="sorted")
_policies = msgspec.json.Decoder(PolicyDocument)
_tenants = msgspec.json.Decoder(TenantDocument)
_endpoints = msgspec.json.Decoder(EndpointDocument)


def encode_policy(stored: Stored) -> bytes:
    policy = stored.policy
    origin = policy.origin
    return _encoder.encode(
        PolicyDocument(
            targets=tuple(map(from_target, policy.targets)),
            rules={
                direction: tuple(map(from_rule, rules)) for direction, rules in policy.rules.items()
            },
            tier=policy.tier.name,
            priority=policy.priority,
            mode=policy.mode,
            description=policy.description,
            labels=dict(policy.labels),
            origin=(origin.kind, origin.document) if origin is not None else None,
            created=stored.created,
            updated=stored.updated,
        )
    )


def decode_policy(name: PolicyName, document: bytes) -> Stored:
    """Reads a policy; raises RecordError."""
    record = _decode(_policies, document, "a policy")
    try:
        policy = Policy(
            name=name,
            tier=Tier[record.tier],
            targets=tuple(map(to_target, record.targets)),
            rules={
                direction: tuple(map(to_rule, record.rules[direction]))
                for direction in Direction
                if direction in record.rules
            },
            priority=record.priority,
            mode=record.mode,
            description=record.description,
            labels=record.labels,
            origin=Origin(*record.origin) if record.origin is not None else None,
        )
    except (KeyError, ValueError) as error:
        raise RecordError(f"not a policy: {error}") from error
    return Stored(policy, record.created, record.updated)


def encode_tenant(tenant: TenantRecord) -> bytes:
    return _encoder.encode(TenantDocument(dict(tenant.labels), tenant.isolation))


def decode_tenant(name: Tenant, document: bytes) -> TenantRecord:
    """Reads a tenant; raises RecordError."""
    record = _decode(_tenants, document, "a tenant")
    return TenantRecord(name, record.labels, record.isolation)


def encode_endpoint(endpoint: Endpoint) -> bytes:
    """The document to store, without the node, which is in the key of what agents say."""
    return _encoder.encode(
        EndpointDocument(
            tenant=endpoint.tenant,
            segment=endpoint.segment,
            labels=dict(endpoint.labels),
            ports=tuple(PortDocument(p.name, p.protocol, p.port) for p in endpoint.ports),
            addresses=tuple(map(str, endpoint.addresses)),
            wanted=_from_wanted(endpoint.wanted),
            instance=endpoint.instance,
            labels_follow=endpoint.labels_follow,
            only_of_tenant=endpoint.only_of_tenant,
        )
    )


def decode_endpoint(name: EndpointName, document: bytes, node: NodeName | None = None) -> Endpoint:
    """Reads an endpoint; `node`: of the agent that said it. Raises RecordError."""
    record = _decode(_endpoints, document, "an endpoint")
    try:
        addresses: tuple[Address, ...] = tuple(map(ip_address, record.addresses))
        wanted = _to_wanted(record.wanted)
    except ValueError as error:
        raise RecordError(f"not an endpoint: {error}") from error
    return Endpoint(
        name=name,
        tenant=Tenant(record.tenant),
        segment=Segment(record.segment),
        labels=record.labels,
        ports=tuple(NamedPort(p.name, p.protocol, p.port) for p in record.ports),
        node=node,
        addresses=addresses,
        wanted=wanted,
        instance=record.instance,
        labels_follow=record.labels_follow,
        only_of_tenant=record.only_of_tenant,
    )


def _from_wanted(wanted: WantedAttachment | None) -> WantedDocument | None:
    if wanted is None:
        return None
    return WantedDocument(
        node=wanted.node,
        addresses=tuple(
            (one.network or "", one.family, "" if one.address is None else str(one.address))
            for one in wanted.addresses
        ),
        allocation=wanted.allocation,
        ending=wanted.is_ending,
        refusal=wanted.refusal,
        gone=wanted.is_gone,
    )


def _to_wanted(record: WantedDocument | None) -> WantedAttachment | None:
    if record is None:
        return None
    return WantedAttachment(
        node=NodeName(record.node),
        addresses=tuple(
            WantedAddress(
                NetworkName(network) if network else None,
                family,
                ip_address(address) if address else None,
            )
            for network, family, address in record.addresses
        ),
        allocation=record.allocation,
        is_ending=record.ending,
        refusal=record.refusal,
        is_gone=record.gone,
    )


def _decode(decoder: msgspec.json.Decoder[T], document: bytes, what: str) -> T:
    try:
        return decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"not {what}: {error}") from error
