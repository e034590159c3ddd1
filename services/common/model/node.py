"""What a node is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.common.model.description import OUTPUT_ONLY
from services.common.model.names import GroupPath, NetworkName, NodeName, Tenant, TopologyName
from services.common.model.network import Address, Network


@dataclass(frozen=True, slots=True)
class Attachment:
    """A node's interface and address on one network."""

    network: NetworkName
    interface: str = ""
    """Empty: not known."""
    address: Address | None = None
    vlan_id: int = 0
    """0: untagged."""
    parent_interface: str = ""
    """When set, the agent makes `interface` as a VLAN link on it."""


@dataclass(frozen=True, slots=True)
class NodeAllowance:
    """What its own certificate may take of ipam."""

    names: tuple[str, ...] = ()
    """Patterns of endpoints' names, besides those that every node may take."""
    tenants: tuple[Tenant, ...] = ()
    """Empty: all that its networks are for."""
    addresses: int = 0
    """In blocks that it holds on each network; 0: not said."""


@dataclass(frozen=True, slots=True)
class Node:
    name: NodeName
    address: Address | None = None
    """Its main address; None only if it is not needed: every attachment has one."""
    other_address: Address | None = None
    """Its main address of the other family."""
    labels: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] | None = None
    """None: it is on every network that its placements give, by way of its main address. Empty: it
    is on none."""
    pins: Mapping[TopologyName, GroupPath] = field(default_factory=dict)
    placements: Mapping[TopologyName, GroupPath] = field(default_factory=dict, metadata=OUTPUT_ONLY)
    """The leaf it is in, per topology; a topology that it does not fit is absent."""
    create_time: int = field(default=0, metadata=OUTPUT_ONLY)
    """Unix time in seconds."""
    allowance: NodeAllowance = NodeAllowance()
    cordoned: bool = False
    """It gets no new addresses."""
    self_reported: tuple[str, ...] = field(default=(), metadata=OUTPUT_ONLY)
    """Fields that its own agent said, sorted; see `topology.checks.own_node`."""

    @property
    def declared(self) -> tuple[Attachment, ...]:
        return self.attachments or ()

    def is_attached(self, network: NetworkName) -> bool:
        """Says whether it is on that network, placements aside."""
        return self.attachments is None or any(a.network == network for a in self.attachments)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Its main addresses, and those on its networks; each once."""
        own = (self.address, self.other_address, *(one.address for one in self.declared))
        return tuple(dict.fromkeys(address for address in own if address is not None))

    def address_on(self, network: Network) -> Address | None:
        """By which others reach it there: what is declared, else its main address of the family."""
        for attachment in self.declared:
            if attachment.network == network.name and attachment.address is not None:
                return attachment.address
        for address in (self.address, self.other_address):
            if address is not None and address.version == network.cidr.version:
                return address
        return None
