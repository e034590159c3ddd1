"""What the agent is told of policies, one value per resource of the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from services.common.model.names import EndpointName, NetworkName, NodeName
from services.common.model.network import Address, Prefix
from services.common.model.rules import GroupId, Profile, RuleSet


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """How an endpoint of this node is judged."""

    name: EndpointName
    addresses: tuple[Address, ...]
    profile: Profile


@dataclass(frozen=True, slots=True)
class NodeRules:
    """How the node itself is judged."""

    name: NodeName
    profile: Profile


@dataclass(frozen=True, slots=True)
class GroupPage:
    """Sixty-four consecutive addresses of a group."""

    group: GroupId
    base: int
    """First address; its lowest six bits are 0."""
    bits: int
    """Of an address: 32 or 128."""
    members: int
    """Bit n: base + n is a member. Never 0."""


@dataclass(frozen=True, slots=True)
class NetworkRules:
    """What a network asks of a node."""

    name: NetworkName
    cidr: Prefix
    masquerade: bool = False


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A resource that this agent does not understand: it fails, the others are applied."""

    message: str


Resource: TypeAlias = EndpointRules | NodeRules | RuleSet | GroupPage | NetworkRules | Unreadable
