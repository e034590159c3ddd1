"""What a lab's file says: VLANs, the router between them, nodes, endpoints, plain machines.

`networks` and `topologies` are those of a topology file and are handed to the topology service as
they are; here only what the fabric is made of is looked at. Pure: text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from services.common.errors import InvalidInput, Violation


def _read_address(text: object) -> IPv4Address | IPv6Address:
    return ip_address(text if isinstance(text, str) else repr(text))


def _read_prefix(text: object) -> IPv4Network | IPv6Network:
    return ip_network(text if isinstance(text, str) else repr(text))


Address = Annotated[IPv4Address | IPv6Address, PlainValidator(_read_address)]
Prefix = Annotated[IPv4Network | IPv6Network, PlainValidator(_read_prefix)]

MANAGEMENT = IPv4Network("198.18.0.0/16")
"""Of every lab, since no lab sees another: RFC 2544's range for benchmarks."""
MANAGEMENT_INTERFACE = "eth0"
TRUNK_INTERFACE = "trunk0"
CONTROL_ADDRESS = MANAGEMENT[1]
"""Of the namespace with etcd and the services."""
RESERVED_NAMES = frozenset({"fabric", "router", "control"})

_LAB_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
_HOST_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_MAX_VLAN = 4094
_MAX_PORT = 65535


class Protocol(StrEnum):
    """What an access rule lets pass."""

    ANY = "any"
    ICMP = "icmp"
    TCP = "tcp"
    UDP = "udp"


class Mode(StrEnum):
    """As in a topology file; the fabric makes `onlink` networks."""

    ONLINK = "onlink"
    ROUTED = "routed"


class _Part(BaseModel):
    """A mapping of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Vlan(_Part):
    """A network, as far as the fabric has to know it; the service knows more fields."""

    model_config = ConfigDict(extra="ignore")

    name: str
    cidr: Prefix
    gateway: Address
    vlan_id: int
    mode: Mode = Mode.ONLINK

    @property
    def interface(self) -> str:
        """Of whoever is on it, and the bridge's name."""
        return f"vlan{self.vlan_id}"

    def on_link(self, address: Address) -> str:
        """An address with the length of its subnet."""
        return f"{address}/{self.cidr.prefixlen}"


class Access(_Part):
    """What may be opened from one VLAN to another; answers pass by themselves."""

    source: str = Field(alias="from")
    destination: str = Field(alias="to")
    protocol: Protocol = Protocol.ANY
    ports: tuple[int, ...] = ()
    """Of the destination; empty: all."""


class Router(_Part):
    """The core router: gateway of every VLAN, refuses what is not allowed."""

    allow: tuple[Access, ...] = ()


class Node(_Part):
    """A machine with an agent."""

    name: str
    addresses: Mapping[str, Address]
    """Its own, by network: the VLANs that it is on."""
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


class Lab(_Part):
    """All of it. Names of nodes, endpoints and machines are unique together."""

    name: str
    networks: tuple[Vlan, ...]
    topologies: tuple[Mapping[str, object], ...] = ()
    router: Router = Router()
    nodes: tuple[Node, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    machines: tuple[Machine, ...] = ()
    trunk: bool = False
    """The router and each node have one interface with tagged frames of all their VLANs. The nodes'
    VLAN links are for agents to make. Needs a kernel with 802.1Q and VLAN-aware bridges."""
    strict_reverse_path: bool = True
    """rp_filter is 1 everywhere, as many distributions have it, else 0."""

    def vlan(self, name: str) -> Vlan:
        """A network by name; KeyError if there is none."""
        for vlan in self.networks:
            if vlan.name == name:
                return vlan
        raise KeyError(name)

    def node(self, name: str) -> Node:
        """A node by name; KeyError if there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def management(self, name: str) -> IPv4Address:
        """A node's address on the management network."""
        return MANAGEMENT[2 + [node.name for node in self.nodes].index(name)]

    def vlan_of(self, address: Address) -> str:
        """The network that an address is in; empty if none."""
        return next((vlan.name for vlan in self.networks if address in vlan.cidr), "")


def parse(text: str) -> Lab:
    """Reads a lab's file, YAML.

    Raises:
        InvalidInput: With the field path of everything that is wrong.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput.at("", f"is not YAML: {error}") from error
    try:
        lab = Lab.model_validate(document)
    except ValidationError as error:
        raise InvalidInput.of(
            [Violation(_path(each["loc"]), each["msg"]) for each in error.errors()]
        ) from error
    violations = [*_checked(lab)]
    if violations:
        raise InvalidInput.of(violations)
    return lab


def topology_document(text: str) -> str:
    """The topology file that is in a lab's file, as YAML."""
    document = yaml.safe_load(text)
    return yaml.safe_dump(
        {name: document[name] for name in ("networks", "topologies")}, sort_keys=False
    )


def _path(keys: Sequence[str | int]) -> str:
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}"
    return text.removeprefix(".")


def _checked(lab: Lab) -> Iterator[Violation]:
    if not _LAB_NAME.fullmatch(lab.name):
        yield Violation("name", "is not 1 to 31 of a-z, 0-9 and '-', starting with a-z or 0-9")
    yield from _check_networks(lab)
    yield from _check_names(lab)
    known = {vlan.name for vlan in lab.networks}
    for number, access in enumerate(lab.router.allow):
        at = f"router.allow[{number}]"
        for field, name in (("from", access.source), ("to", access.destination)):
            if name not in known:
                yield Violation(f"{at}.{field}", f"no network {name!r}")
        if access.ports and access.protocol not in {Protocol.TCP, Protocol.UDP}:
            yield Violation(f"{at}.ports", "only tcp and udp have ports")
        if any(not 0 < port <= _MAX_PORT for port in access.ports):
            yield Violation(f"{at}.ports", "a port is 1 to 65535")
    nodes = {node.name: node for node in lab.nodes}
    for number, endpoint in enumerate(lab.endpoints):
        at = f"endpoints[{number}]"
        if endpoint.node not in nodes:
            yield Violation(f"{at}.node", f"no node {endpoint.node!r}")
        elif endpoint.network and endpoint.network not in nodes[endpoint.node].addresses:
            yield Violation(f"{at}.network", f"{endpoint.node} is not on {endpoint.network!r}")
    yield from _check_addresses(lab)


def _check_networks(lab: Lab) -> Iterator[Violation]:
    seen: list[Vlan] = []
    for number, vlan in enumerate(lab.networks):
        at = f"networks[{number}]"
        if not 0 < vlan.vlan_id <= _MAX_VLAN:
            yield Violation(f"{at}.vlan_id", f"is not 1 to {_MAX_VLAN}")
        if vlan.gateway not in vlan.cidr:
            yield Violation(f"{at}.gateway", f"is not in {vlan.cidr}")
        if vlan.mode is not Mode.ONLINK:
            yield Violation(f"{at}.mode", "the fabric makes onlink networks only")
        if vlan.cidr.version == MANAGEMENT.version and vlan.cidr.overlaps(MANAGEMENT):
            yield Violation(f"{at}.cidr", f"overlaps the management network {MANAGEMENT}")
        for other in seen:
            if other.name == vlan.name:
                yield Violation(f"{at}.name", f"{vlan.name!r} is there twice")
            if other.vlan_id == vlan.vlan_id:
                yield Violation(f"{at}.vlan_id", f"is that of {other.name}")
            if other.cidr.version == vlan.cidr.version and other.cidr.overlaps(vlan.cidr):
                yield Violation(f"{at}.cidr", f"overlaps {other.name}'s {other.cidr}")
        seen.append(vlan)


def _check_names(lab: Lab) -> Iterator[Violation]:
    seen: set[str] = set(RESERVED_NAMES)
    named = (
        *(("nodes", number, node.name) for number, node in enumerate(lab.nodes)),
        *(("endpoints", number, each.name) for number, each in enumerate(lab.endpoints)),
        *(("machines", number, each.name) for number, each in enumerate(lab.machines)),
    )
    for kind, number, name in named:
        at = f"{kind}[{number}].name"
        if not _HOST_NAME.fullmatch(name):
            yield Violation(at, "is not 1 to 63 of a-z, 0-9 and '-', starting with a-z or 0-9")
        elif name in seen:
            yield Violation(at, f"{name!r} is taken")
        seen.add(name)


def _check_addresses(lab: Lab) -> Iterator[Violation]:
    vlans = {vlan.name: vlan for vlan in lab.networks}
    taken = {vlan.gateway: f"the gateway of {vlan.name}" for vlan in lab.networks}
    placed = [
        (f"nodes[{number}].addresses.{network}", node.name, network, address)
        for number, node in enumerate(lab.nodes)
        for network, address in node.addresses.items()
    ] + [
        (f"machines[{number}].address", machine.name, machine.network, machine.address)
        for number, machine in enumerate(lab.machines)
    ]
    for at, name, network, address in placed:
        vlan = vlans.get(network)
        if vlan is None:
            yield Violation(at, f"no network {network!r}")
        elif address not in vlan.cidr:
            yield Violation(at, f"{address} is not in {network}'s {vlan.cidr}")
        if address in taken:
            yield Violation(at, f"{address} is that of {taken[address]}")
        taken[address] = name
    for number, node in enumerate(lab.nodes):
        if not node.addresses:
            yield Violation(f"nodes[{number}].addresses", "a node is on at least one network")
