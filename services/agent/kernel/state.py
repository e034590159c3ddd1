"""The part of the kernel that is ours, as values: the plan makes it, the drivers read it back.

Every kind of object is a mapping from what identifies an object in the kernel to what may differ,
so that comparing two states is the same for all kinds. Routes are packed, see
`services.agent.kernel.route_bytes`: there are 100,000 of them, and of the others a few.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Interface, IPv6Interface
from types import MappingProxyType

from services.agent.kernel.nftables.contents import Contents
from services.agent.kernel.numbers import ALIAS, LINK_GROUP
from services.common.model.network import Address, Prefix

InterfaceAddress = IPv4Interface | IPv6Interface
Key = Hashable
Value = object
Objects = Mapping[Key, Value]

_NONE: Objects = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface as it is, anybody's."""

    name: str
    index: int
    up: bool = True
    mtu: int = 1500
    alias: str = ""
    kind: str = ""
    """Such as `vlan` or `veth`; empty for hardware."""
    parent: int = 0
    """Index of the interface below; 0: none."""
    vlan_id: int = 0
    group: int = 0
    """A number that whoever made it gave it."""
    addresses: tuple[InterfaceAddress, ...] = ()
    accept_ra: int = 0
    """Whether it would heed router advertisements if we did not have it forward: 0 not, 1 since it
    does not forward, 2 always."""

    @property
    def is_ours(self) -> bool:
        """Whether it is a VLAN link that we made: it has our group from the moment it is made."""
        return self.kind == "vlan" and (
            self.group == LINK_GROUP or self.alias.split(" ")[0] == ALIAS
        )

    def reaches(self, address: Address) -> bool:
        """Whether it is connected to the subnet of an address."""
        return any(
            address.version == own.version and address in own.network for own in self.addresses
        )

    def has(self, address: Address) -> bool:
        return any(own.ip == address for own in self.addresses)


@dataclass(frozen=True, slots=True)
class Look:
    """Which endpoints' interfaces may not be as they were; nothing is said of others."""

    at: frozenset[str]
    """Names: look at them."""
    gone: frozenset[str]
    """Names: nobody needs them any more, whether they are there still or not."""


@dataclass(frozen=True, slots=True)
class VlanLink:
    """An 802.1Q link that we make. Key: its name."""

    parent: str
    vlan_id: int
    mtu: int = 0
    """Bytes; 0: the parent's."""
    addresses: frozenset[InterfaceAddress] = frozenset()


@dataclass(frozen=True, slots=True)
class Nexthop:
    """How to reach a node on a network. Key: its id."""

    interface: int
    """Index."""
    gateway: Address


class Action(enum.Enum):
    """What a rule of policy routing does with a packet."""

    LOOKUP = "lookup"
    """Looks into a table, and goes on to the next rule if that says nothing."""
    GOTO = "goto"
    """Goes on with the first rule of a later priority."""
    NOP = "nop"
    """Goes on to the next rule: something to go to."""
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of policy routing: key and value in one."""

    family: int
    """4 or 6."""
    priority: int
    table: int = 0
    """Of LOOKUP."""
    source: Prefix | None = None
    destination: Prefix | None = None
    interface: str = ""
    """The one that a packet came in by; empty: any."""
    suppressed: int | None = None
    """Routes found by it do not count whose prefix is this short; None: all do."""
    action: Action = Action.LOOKUP
    target: int = 0
    """Of GOTO: a priority."""
    mark: int = 0
    mask: int = 0
    """Which bits of packets' marks are compared; 0: none."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An address that the node answers ARP or neighbour solicitations for: key and value in one."""

    interface: int
    """Index of the interface where it answers."""
    address: Address


class Kind(enum.Enum):
    """Kinds of objects, in the order in which they depend on each other."""

    LINK = "link"
    SYSCTL = "sysctl"
    NEXTHOP = "nexthop"
    ROUTE = "route"
    RULE = "rule"
    PROXY = "proxy"
    MARKING = "marking"


@dataclass(frozen=True, slots=True)
class KernelState:
    """All that is ours, or shall be."""

    links: Mapping[str, VlanLink] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """Values by path below /proc/sys."""
    nexthops: Mapping[int, Nexthop] = field(default_factory=dict)
    routes: Mapping[bytes, bytes] = field(default_factory=dict)
    rules: Mapping[Rule, None] = field(default_factory=dict)
    proxies: Mapping[Proxy, None] = field(default_factory=dict)
    marking: Mapping[str, Contents] = field(default_factory=dict)
    """The table by which packets get marks, by its name."""

    def of(self, kind: Kind) -> Objects:
        found: Objects = getattr(self, _FIELDS[kind], _NONE)
        return found

    def having(self, kind: Kind, objects: Objects) -> KernelState:
        """The same with other objects of one kind."""
        return replace(self, **{_FIELDS[kind]: objects})  # type: ignore[arg-type]  # kind says which


_FIELDS: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.LINK: "links",
        Kind.SYSCTL: "sysctls",
        Kind.NEXTHOP: "nexthops",
        Kind.ROUTE: "routes",
        Kind.RULE: "rules",
        Kind.PROXY: "proxies",
        Kind.MARKING: "marking",
    }
)
