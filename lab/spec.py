"""What a lab's file says: VLANs, racks, their routers, nodes, endpoints, machines, firewalls.

`networks` and `topologies` are those of a topology file and are handed to the topology service;
here only what the fabric is made of is looked at. Values only: `file` reads, `checks` checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from services.common.model.addresses import read_address, read_interface, read_prefix


def _read_address(text: object) -> IPv4Address | IPv6Address:
    return read_address(text if isinstance(text, str) else repr(text))


def _read_prefix(text: object) -> IPv4Network | IPv6Network:
    return read_prefix(text if isinstance(text, str) else repr(text))


def _read_interface(text: object) -> IPv4Interface | IPv6Interface:
    return read_interface(text if isinstance(text, str) else repr(text))


Address = Annotated[IPv4Address | IPv6Address, PlainValidator(_read_address)]
Prefix = Annotated[IPv4Network | IPv6Network, PlainValidator(_read_prefix)]
Interface = Annotated[IPv4Interface | IPv6Interface, PlainValidator(_read_interface)]

MANAGEMENT = IPv4Network("198.18.0.0/16")
"""Of every lab, since no lab sees another: RFC 2544's range for benchmarks."""
MANAGEMENT_INTERFACE = "eth0"
TRUNK_INTERFACE = "trunk0"
CONTROL_ADDRESS = MANAGEMENT[1]
"""Of the namespace with etcd and the services."""
TRANSFER: Mapping[int, IPv4Network | IPv6Network] = {
    4: IPv4Network("198.19.0.0/16"),
    6: IPv6Network("2001:2::/48"),
}
"""Between the core router and the racks' routers, two addresses a rack: RFC 2544 and RFC 5180."""
RACK_INTERFACE = "rack0"
"""Of a node, to its rack's router."""


class Protocol(StrEnum):
    ANY = "any"
    ICMP = "icmp"
    TCP = "tcp"
    UDP = "udp"


class Mode(StrEnum):
    """As in a topology file; the fabric makes `onlink` networks."""

    ONLINK = "onlink"
    ROUTED = "routed"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Network(_Part):
    """A network, as far as the fabric has to know it; the service knows more fields.

    An `onlink` one is a VLAN. A `routed` one lies behind the nodes of racks, and its gateway is an
    address that the routers of all racks have.
    """

    model_config = ConfigDict(extra="ignore")

    name: str
    cidr: Prefix
    gateway: Address
    vlan_id: int = 0
    mode: Mode = Mode.ONLINK

    @property
    def is_routed(self) -> bool:
        """Whether it lies behind the nodes of racks."""
        return self.mode is Mode.ROUTED

    @property
    def interface(self) -> str:
        """Of the nodes on it; of a VLAN, of everybody, and the bridge's name."""
        return RACK_INTERFACE if self.is_routed else f"vlan{self.vlan_id}"

    def on_link(self, address: Address) -> str:
        """An address with the length of its subnet."""
        return f"{address}/{self.cidr.prefixlen}"


class Access(_Part):
    """What may be opened from one network to another; answers pass by themselves."""

    source: str = Field(alias="from")
    destination: str = Field(alias="to")
    protocol: Protocol = Protocol.ANY
    ports: tuple[int, ...] = ()
    """Of the destination; empty: all."""


class Router(_Part):
    """The core router: gateway of every VLAN, refuses what is not allowed."""

    allow: tuple[Access, ...] = ()


class Rack(_Part):
    """Nodes on one link behind a router of their own, which has a cable to the core router."""

    name: str
    """Also of the prefix group that the nodes are in, and of the router."""
    router: tuple[Interface, ...]
    """The router's addresses in the rack, with the length of the rack's subnets: one a family."""

    @property
    def subnets(self) -> tuple[Prefix, ...]:
        """Where the nodes' addresses are."""
        return tuple(each.network for each in self.router)

    def router_of(self, version: int) -> Address:
        """The router's own address of a family that the rack has."""
        return next(each.ip for each in self.router if each.version == version)

    def on_link(self, address: Address) -> str:
        """An address with the length of its subnet; it is in one of them."""
        subnet = next(each for each in self.subnets if address in each)
        return f"{address}/{subnet.prefixlen}"


class Node(_Part):
    name: str
    addresses: Mapping[str, Address]
    """Its own, by network: the VLANs that it is on; for routed networks, that in the rack."""
    rack: str = ""
    """Empty: it is in none, and on VLANs only."""
    labels: Mapping[str, str] = {}


class Endpoint(_Part):
    """A container that is attached to its node."""

    name: str
    node: str
    tenant: str
    segment: str = ""
    labels: Mapping[str, str] = {}
    """For policies."""
    network: str = ""
    """Empty: whichever ipam chooses."""


class Machine(_Part):
    """A plain machine on a VLAN: no agent, a fixed address, the gateway as default route."""

    name: str
    network: str
    address: Address


class Outside(_Part):
    """The second arm of a firewall."""

    address: Address
    network: str = ""
    """Empty: that of the first."""


@dataclass(frozen=True, slots=True)
class Arm:
    """An interface of a firewall."""

    inside: str
    """The network of its first arm."""
    network: str
    address: Address
    is_outside: bool = False

    @property
    def at(self) -> str:
        """The field path below the firewall's."""
        return f"outside.{self.inside}.address" if self.is_outside else f"addresses.{self.inside}"


class Firewall(_Part):
    """A device for policies to lead connections through: it forwards between its own interfaces, or
    by the same one, if it has a single one on a VLAN."""

    name: str
    addresses: Mapping[str, Address]
    """Its own, by VLAN. The gateway of the first of each family is its default route."""
    outside: Mapping[str, Outside] = {}
    """By the VLAN of the first arm: what comes in by one leaves by the other."""

    @property
    def arms(self) -> tuple[Arm, ...]:
        """First arms, then second ones."""
        return (
            *(Arm(name, name, address) for name, address in self.addresses.items()),
            *(
                Arm(name, each.network or name, each.address, is_outside=True)
                for name, each in self.outside.items()
            ),
        )


class Lab(_Part):
    """All of it. Names of nodes, endpoints, machines and firewalls are unique together."""

    name: str
    networks: tuple[Network, ...]
    topologies: tuple[Mapping[str, object], ...] = ()
    router: Router = Router()
    racks: tuple[Rack, ...] = ()
    nodes: tuple[Node, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    machines: tuple[Machine, ...] = ()
    firewalls: tuple[Firewall, ...] = ()
    trunk: bool = False
    """The router and each node have one interface with tagged frames of all their VLANs. The nodes'
    VLAN links are for agents to make. Needs a kernel with 802.1Q and VLAN-aware bridges."""
    strict_reverse_path: bool = True
    """rp_filter is 1 everywhere, as many distributions have it, else 0."""

    @property
    def vlans(self) -> tuple[Network, ...]:
        """The networks that the core router is on."""
        return tuple(network for network in self.networks if not network.is_routed)

    @property
    def routed(self) -> tuple[Network, ...]:
        """The networks behind the nodes of racks."""
        return tuple(network for network in self.networks if network.is_routed)

    def network(self, name: str) -> Network:
        """A network by name; KeyError if there is none."""
        for network in self.networks:
            if network.name == name:
                return network
        raise KeyError(name)

    def rack(self, name: str) -> Rack:
        """A rack by name; KeyError if there is none."""
        for rack in self.racks:
            if rack.name == name:
                return rack
        raise KeyError(name)

    def node(self, name: str) -> Node:
        """A node by name; KeyError if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def arm_interface(self, arm: Arm) -> str:
        """The firewall's own name of it."""
        vlan = self.network(arm.inside)
        return f"outside{vlan.vlan_id}" if arm.is_outside else vlan.interface

    def rack_of(self, node: str, network: str) -> str:
        """The rack that a node's endpoints of a network are behind; empty if it is a VLAN."""
        return self.node(node).rack if self.network(network).is_routed else ""

    def management(self, name: str) -> IPv4Address:
        return MANAGEMENT[2 + [node.name for node in self.nodes].index(name)]

    def transfer(self, rack: str, version: int) -> tuple[Address, Address]:
        """Addresses of the core and of a rack's router towards each other: a /31 or /127."""
        first = 2 * [each.name for each in self.racks].index(rack)
        return TRANSFER[version][first], TRANSFER[version][first + 1]
