"""What policies are made of, as people write them.

What is compiled from them, and what tiers mean, is in `services.common.model.rules`.

A policy's rules are of one direction each and are seen from its target: the peers of an ingress
rule are sources, those of an egress rule destinations; ports are always the destination's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from services.common.model.devices import (
    PROBE,
    Arm,
    DeviceGroupName,
    DeviceName,
    OnLoss,
    Probe,
    WhenDown,
)
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Address, Isolation, Prefix
from services.common.model.rules import (
    Action,
    CidrBlock,
    Direction,
    Mode,
    PolicyName,
    PortMatch,
    Protocol,
    Tier,
)


class Operator(StrEnum):
    """How a label is compared, by Kubernetes' names."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: Operator
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """Conditions that must all hold; none: everything is selected.

    In canonical form (`engine.selector.canonical`) equal selectors are equal values.
    """

    requirements: tuple[Requirement, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointSelector:
    """Endpoints; all that is said must hold."""

    tenants: tuple[Tenant, ...] = ()
    """Empty: of any."""
    segments: tuple[Segment, ...] = ()
    """Empty: of any."""
    networks: tuple[NetworkName, ...] = ()
    """Empty: any. As a peer: only the addresses on these."""
    labels: LabelSelector = LabelSelector()
    tenant_labels: LabelSelector = LabelSelector()
    """A tenant that nothing is known of has no labels."""


@dataclass(frozen=True, slots=True)
class NodeSelector:
    """Nodes; all that is said must hold."""

    names: tuple[NodeName, ...] = ()
    """Empty: any."""
    labels: LabelSelector = LabelSelector()


@dataclass(frozen=True, slots=True)
class NetworkPeer:
    """Every address of a network's CIDR."""

    network: NetworkName


@dataclass(frozen=True, slots=True)
class Anything:
    """Every address."""


Peer: TypeAlias = EndpointSelector | CidrBlock | NodeSelector | NetworkPeer | Anything
Target: TypeAlias = EndpointSelector | NodeSelector


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches if one of the peers and one of the ports match."""

    action: Action = Action.ALLOW
    peers: tuple[Peer, ...] = (Anything(),)
    """Never empty."""
    ports: tuple[PortMatch, ...] = (PortMatch(),)
    """Never empty."""
    via: DeviceGroupName | None = None
    """What it allows goes through a device of this group; None: directly."""
    mirror: DeviceGroupName | None = None
    """A device of this group gets copies of what it allows."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What was written, if it was another form."""

    kind: str
    document: str


@dataclass(frozen=True, slots=True)
class Policy:
    """What somebody wants to be allowed or denied."""

    name: PolicyName
    tier: Tier
    targets: tuple[Target, ...]
    """Applies to what any of these selects."""
    rules: Mapping[Direction, tuple[Rule, ...]]
    """By the directions it governs; a direction may have no rules."""
    priority: int = 0
    mode: Mode = Mode.ENFORCE
    description: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class TenantRecord:
    name: Tenant
    labels: Mapping[str, str] = field(default_factory=dict)
    isolation: Isolation | None = None
    """None: as its endpoints' networks say."""


@dataclass(frozen=True, slots=True)
class NamedPort:
    """An endpoint's name for one of its ports."""

    name: str
    protocol: Protocol
    port: int


@dataclass(frozen=True, slots=True)
class WantedAddress:
    """An address that an endpoint is to get."""

    network: NetworkName | None = None
    """None: any of the tenant's."""
    family: int = 0
    """4, 6, or 0: either."""
    address: Address | None = None
    """Exactly this one; None: any."""


@dataclass(frozen=True, slots=True)
class WantedAttachment:
    """What an orchestrator wants a node's agent to attach."""

    node: NodeName
    addresses: tuple[WantedAddress, ...] = ()
    """Empty: one of any network."""
    allocation: str = ""
    """Name under which ipam has them; empty: the endpoint's."""
    is_ending: bool = False
    """Its addresses are given back when it is detached."""
    refusal: str = ""
    """Why it must not be attached; empty: it may be."""
    is_gone: bool = False
    """What is left of it on the node is detached."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What is known of an endpoint, by whomever."""

    name: EndpointName
    tenant: Tenant
    segment: Segment
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[NamedPort, ...] = ()
    node: NodeName | None = None
    """None: not attached."""
    addresses: tuple[Address, ...] = ()
    wanted: WantedAttachment | None = None
    """As an orchestrator says."""
    instance: str = ""
    """Of the attach, as the agent says."""
    arriving: tuple[tuple[NodeName, str], ...] = ()
    """Nodes that it is moving to and that have attached it, with the instance of the attach."""
    labels_follow: bool = False
    """The agent says: it has no rules before an orchestrator has said its labels."""
    only_of_tenant: bool = False
    """Said by somebody who is limited to the tenant: worth nothing for another tenant's endpoint of
    that name."""


@dataclass(frozen=True, slots=True)
class PolicyNetwork:
    """What policy needs of a network."""

    name: NetworkName
    cidr: Prefix
    isolation: Isolation = Isolation.NONE
    masquerade: bool = False
    gateway: Address | None = None
    is_onlink: bool = False
    """Its addresses are those of its VLAN's own subnet."""


@dataclass(frozen=True, slots=True)
class PolicyNode:
    """What policy needs of a node."""

    name: NodeName
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class PlacedArm:
    """One side of a device, with the network on whose link it is."""

    arm: Arm
    network: NetworkName
    address: Address
    macs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceArm:
    """The outside of a device with two arms."""

    address: Address
    network: NetworkName | None = None
    """On whose link it is; None: the same as inside."""
    macs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceAddress:
    """Where a device is for the endpoints of a network."""

    network: NetworkName
    address: Address
    macs: tuple[str, ...] = ()
    """With which it sends, beside the one with which it answers."""
    outside: DeviceArm | None = None
    """Its second arm; what is above is the inside then. None: it has one."""

    @property
    def arms(self) -> tuple[PlacedArm, ...]:
        """One or two, the inside first."""
        inside = PlacedArm(Arm.INSIDE, self.network, self.address, self.macs)
        if self.outside is None:
            return (inside,)
        network = self.outside.network or self.network
        return (
            inside,
            PlacedArm(Arm.OUTSIDE, network, self.outside.address, self.outside.macs),
        )


@dataclass(frozen=True, slots=True)
class Device:
    """A firewall, or whatever else hands traffic back."""

    name: DeviceName
    addresses: tuple[DeviceAddress, ...]
    """One for each network of its group."""
    weight: int = 1
    is_draining: bool = False


@dataclass(frozen=True, slots=True)
class DeviceGroup:
    """Devices that share traffic."""

    name: DeviceGroupName
    networks: tuple[NetworkName, ...]
    devices: tuple[Device, ...]
    probe: Probe = PROBE
    when_down: WhenDown = WhenDown.CLOSED
    next: DeviceGroupName | None = None
    threshold_percent: int = 0
    on_loss: OnLoss = OnLoss.MOVE
    description: str = ""
