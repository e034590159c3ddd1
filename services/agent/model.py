"""What the agent is told, and what it makes of it.

`Remote` comes by the stream, `LocalEndpoint` from whoever attaches; `services.agent.routing.plan`
makes of both what the kernel shall hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.agent.kernel.wiring import DefaultRoute
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Address, Network, Prefix
from services.common.model.node import Attachment


@dataclass(frozen=True, slots=True)
class Myself:
    """The node that this agent is on."""

    node: NodeName
    attachments: tuple[Attachment, ...]
    """Its interfaces and addresses on networks."""


@dataclass(frozen=True, slots=True)
class Visit:
    """An address whose endpoint is not on the node of its block, or is about to move."""

    network: NetworkName
    address: Address
    name: EndpointName
    """Under which it is allocated."""
    node: NodeName
    """Where it is."""
    to: NodeName | None = None
    """Where it is moving to."""
    ready: bool = False
    """That node has said that it is ready."""
    known: bool = False
    """The node that it is on has said that it knows of the move."""


@dataclass(frozen=True, slots=True)
class Remote:
    """What ipam says: networks that this node is on, nodes on them, and whose which prefix is."""

    networks: Mapping[NetworkName, Network] = field(default_factory=dict)
    peers: Mapping[tuple[NetworkName, NodeName], Address] = field(default_factory=dict)
    """Nodes' addresses on a network, this node's included."""
    routes: Mapping[tuple[NetworkName, Prefix], NodeName] = field(default_factory=dict)
    """Aggregated prefixes; those of this node itself are its own."""
    visits: Mapping[tuple[NetworkName, Address], Visit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceWay:
    """Where packets go that are marked with the number of a device's arm."""

    number: int
    network: NetworkName
    """On whose link it is."""
    address: Address
    serves: NetworkName
    """For whose endpoints it is: mostly the same."""
    is_copied: bool = False
    """It gets copies of packets."""


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """An address of an endpoint."""

    address: Address
    network: NetworkName


@dataclass(frozen=True, slots=True)
class AddressWant:
    """One address that is asked for."""

    network: NetworkName | None = None
    """None: any of the tenant's."""
    family: int = 0
    """4, 6, or 0: either."""
    address: str = ""
    """Exactly this one; empty: any."""


@dataclass(frozen=True, slots=True)
class WantedEndpoint:
    """An endpoint that an orchestrator wants on this node, attached or not yet."""

    name: EndpointName
    tenant: Tenant
    segment: Segment
    labels: Mapping[str, str]
    addresses: tuple[AddressWant, ...] = ()
    """Empty: one of any network."""
    allocation: str = ""
    """Name of its addresses in ipam, for which the orchestrator gives them back; empty: the
    endpoint's."""
    is_ending: bool = False
    """Its addresses are no longer wanted once it is detached."""
    refusal: str = ""
    """Why it must not be attached; empty: it may be."""
    is_gone: bool = False
    """What is left of it here is detached."""


@dataclass(frozen=True, slots=True)
class LocalEndpoint:
    """One interface of a container or VM on this node."""

    name: EndpointName
    tenant: Tenant
    segment: Segment
    host_interface: str
    """The interface in the node's namespace."""
    addresses: tuple[EndpointAddress, ...]
    mac: str = ""
    """Inside the endpoint; empty: not known (a VM's)."""
    mtu: int = 0
    """Bytes; 0: the interface's."""
    namespace: str = ""
    """Path of its network namespace; empty: `host_interface` was there before (a VM's tap)."""
    interface: str = ""
    """Inside its namespace."""
    labels: Mapping[str, str] = field(default_factory=dict)
    create_time: int = 0
    """Unix time in seconds."""
    instance: str = ""
    """Another one with each attach; empty: not known."""
    labels_follow: bool = False
    """An orchestrator says its labels; until it has, there are no rules for it."""
    beside: bool = False
    """Something else has the default route in its namespace: see `kernel.inner_end`."""
    allocation: str = ""
    """Name of its addresses in ipam; empty: the endpoint's."""
    default_route: DefaultRoute = DefaultRoute.AUTO
    routes: tuple[str, ...] = ()
    """Prefixes that its namespace reaches by it besides."""
    dhcp: bool = False
    """A VM's guest is told by DHCP and router advertisements who it is."""
    moves: bool = False
    """It has come from another node, or is about to: whether it is here ipam says."""

    @property
    def allocation_name(self) -> str:
        """The name under which ipam has its addresses."""
        return self.allocation or self.name
