"""Compiled rules: what the policy service streams and a node enforces, and how they are judged by.

In one direction, an endpoint or node is judged by the rule sets of the policies that select it, in
their order:

    ADMIN      by priority, then name; the first rule that matches decides: ALLOW, DENY, or PASS,
               which goes on with TENANT
    TENANT     if there is one at all: what none of their rules allows is denied, and that is all
    BASELINE   by priority, then name; the first rule that matches decides: ALLOW or DENY
               what nothing decides is allowed

A connection is allowed if the egress of its source and the ingress of its destination both allow
it. What belongs to a connection that was allowed is allowed, both ways. Policies in AUDIT mode
decide nothing and, in TENANT, close nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, NewType

from services.common.model.devices import DeviceGroupName
from services.common.model.names import EndpointName, NodeName
from services.common.model.network import Address, Prefix

PolicyName = NewType("PolicyName", str)
GroupId = NewType("GroupId", str)
"""Of an address group: equal selectors have equal ids, on every replica."""
RuleSetId = NewType("RuleSetId", str)
"""Of one direction of one policy with port names resolved: equal content, equal id."""

MAX_PRIORITY: Final = 65535
MAX_PORT: Final = 65535


class Tier(IntEnum):
    """In the order in which they are asked."""

    ADMIN = 1
    TENANT = 2
    BASELINE = 3


class Mode(StrEnum):
    """Whether a policy is held to."""

    ENFORCE = "enforce"
    AUDIT = "audit"


class Direction(StrEnum):
    """Seen from the target."""

    INGRESS = "ingress"
    EGRESS = "egress"


class Action(StrEnum):
    """What a rule says of what it matches."""

    ALLOW = "allow"
    DENY = "deny"
    PASS = "pass"  # noqa: S105


class Protocol(StrEnum):
    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"
    ICMP = "icmp"
    ICMPV6 = "icmpv6"

    @property
    def has_ports(self) -> bool:
        return self in {Protocol.TCP, Protocol.UDP, Protocol.SCTP}


@dataclass(frozen=True, slots=True)
class CidrBlock:
    """A prefix with exceptions inside it."""

    cidr: Prefix
    exceptions: tuple[Prefix, ...] = ()


@dataclass(frozen=True, slots=True)
class PortMatch:
    protocol: Protocol | None = None
    """None: any, and nothing else is said."""
    first: int = 0
    """Port, 1 to 65535; 0: every port, or `name`."""
    last: int = 0
    """Equal to `first` for a single port."""
    name: str = ""
    """Of a port of the destination endpoint; instead of numbers."""
    icmp_type: int | None = None
    icmp_code: int | None = None


@dataclass(frozen=True, slots=True)
class OwnedPeers:
    """Addresses of owners' blocks, whether an endpoint is known to have them or not.

    A block has its owner before the first address of it is in use: so by these a node judges an
    endpoint right that it has not been told of.
    """

    blocks: GroupId
    """A group that is made of blocks."""
    known: GroupId | None = None
    """But not the members of this group; None: all addresses of the blocks."""


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule with peers and port names resolved; matches if a peer and a port match."""

    number: int
    """Of the rule in its direction of the policy; several compiled rules may have the same."""
    action: Action
    any_peer: bool = False
    """Every address; then there are no groups, no blocks and no owners."""
    groups: tuple[GroupId, ...] = ()
    blocks: tuple[CidrBlock, ...] = ()
    ports: tuple[PortMatch, ...] = ()
    """Without names; empty: everything."""
    owned: tuple[OwnedPeers, ...] = ()
    via: DeviceGroupName | None = None
    """What it allows goes through a device of this group; None: directly."""
    mirror: DeviceGroupName | None = None
    """A device of this group gets copies of what it allows."""

    @property
    def named_groups(self) -> set[GroupId]:
        """Of either kind: all that it depends on."""
        known = {one.known for one in self.owned if one.known is not None}
        return {*self.groups, *(one.blocks for one in self.owned), *known}


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One direction of one policy, as a node enforces it."""

    id: RuleSetId
    policy: PolicyName
    direction: Direction
    tier: Tier
    priority: int
    mode: Mode
    rules: tuple[CompiledRule, ...]

    @property
    def order(self) -> tuple[int, int, str, str]:
        """In which they are asked."""
        return self.tier, self.priority, self.policy, self.id


@dataclass(frozen=True, slots=True)
class Profile:
    """How one endpoint or node is judged: rule sets in the order in which they are asked."""

    ingress: tuple[RuleSetId, ...] = ()
    egress: tuple[RuleSetId, ...] = ()

    def of(self, direction: Direction) -> tuple[RuleSetId, ...]:
        return self.ingress if direction is Direction.INGRESS else self.egress

    @property
    def all(self) -> tuple[RuleSetId, ...]:
        return self.ingress + self.egress


@dataclass(frozen=True, slots=True)
class EndpointRules:
    name: EndpointName
    addresses: tuple[Address, ...]
    profile: Profile
    instance: str = ""
    """Of its attach: another one of that name and these addresses is not judged so."""


@dataclass(frozen=True, slots=True)
class NodeRules:
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
class GroupBlock:
    group: GroupId
    cidr: Prefix


@dataclass(frozen=True, slots=True)
class Packet:
    source: Address
    destination: Address
    protocol: Protocol | int
    """A number for protocols that policies cannot name."""
    port: int = 0
    """Destination's; 0 for protocols without ports."""
    icmp_type: int = 0
    icmp_code: int = 0
