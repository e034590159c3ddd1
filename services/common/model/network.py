"""What a network is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from services.common.model.names import NetworkName, Tenant

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

DEFAULT_REUSE_DELAY: Final = 30.0
"""Seconds; longer than ARP caches and most retransmissions remember a gone endpoint."""
IPV4_LINK: Final = 31
IPV6_LINK: Final = 127
"""Prefix lengths of subnets for two machines, in which both addresses are theirs."""
MAX_BLOCK_BITS: Final = 16
"""A block has at most 2**16 addresses."""


class Mode(StrEnum):
    """How endpoints are reached from outside their node."""

    ROUTED = "routed"
    ONLINK = "onlink"


class Placement(StrEnum):
    """How the place of a new block is chosen."""

    AGGREGATE = "aggregate"
    SEQUENTIAL = "sequential"


class Isolation(StrEnum):
    """Who is kept apart by default."""

    NONE = "none"
    TENANT = "tenant"
    SEGMENT = "segment"


@dataclass(frozen=True, slots=True)
class Dns:
    nameservers: tuple[Address, ...] = ()
    """The first one is asked first."""
    search: tuple[str, ...] = ()
    """Domains in which short names are looked for."""


def joined(said: Iterable[Dns | None]) -> Dns:
    """What several networks say, in their order, each thing once."""
    known = [dns for dns in said if dns is not None]
    return Dns(
        tuple(dict.fromkeys(server for dns in known for server in dns.nameservers)),
        tuple(dict.fromkeys(domain for dns in known for domain in dns.search)),
    )


@dataclass(frozen=True, slots=True)
class Network:
    name: NetworkName
    cidr: Prefix
    block_length: int
    """Prefix length of a block."""
    tenants: tuple[Tenant, ...] = ()
    """Empty: open to all."""
    vlan_id: int = 0
    """0: untagged."""
    gateway: Address | None = None
    mtu: int = 0
    """Bytes; 0: the interface's."""
    mode: Mode = Mode.ROUTED
    placement: Placement = Placement.AGGREGATE
    reuse_delay: float = DEFAULT_REUSE_DELAY
    """Seconds."""
    isolation: Isolation = Isolation.NONE
    """Unless the tenant says otherwise."""
    masquerade: bool = False
    """What leaves from it to an address outside of all networks gets the node's address."""
    dns: Dns | None = None
    """What endpoints are told; None: nothing."""

    def own_addresses(self) -> set[Address]:
        """Addresses in it that no endpoint may have: its gateway, and its edges if endpoints are
        part of the VLAN's own subnet."""
        own = set(edges(self.cidr)) if self.mode is Mode.ONLINK else set()
        if self.gateway is not None and self.gateway in self.cidr:
            own.add(self.gateway)
        return own

    def allows(self, tenant: Tenant) -> bool:
        return not self.tenants or tenant in self.tenants


def edges(cidr: Prefix) -> tuple[Address, ...]:
    """The addresses of a subnet that no machine may have for itself: of IPv4 the subnet's own and
    the broadcast address (but RFC 3021), of IPv6 that of whatever router is nearest, which every
    router answers for (RFC 4291, 2.6.1; but RFC 6164)."""
    if isinstance(cidr, IPv6Network):
        return (cidr.network_address,) if cidr.prefixlen < IPV6_LINK else ()
    return (cidr.network_address, cidr.broadcast_address) if cidr.prefixlen < IPV4_LINK else ()


def default_block_length(cidr: Prefix) -> int:
    """Eight addresses, or the whole network if it is smaller."""
    return max(cidr.prefixlen, cidr.max_prefixlen - 3)
