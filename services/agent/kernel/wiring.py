"""What the link of an endpoint shall be, and how what is differs from that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from services.common.model.names import EndpointName
from services.common.model.network import Address, Prefix

GATEWAY_4: Final = IPv4Address("169.254.1.1")
GATEWAY_6: Final = IPv6Address("fe80::1")
ADVERTISER_6: Final = IPv6Address("fd72:6f6d::1")
"""On the node's end of a VM's link beside `GATEWAY_6`: who answers DHCPv6 needs a prefix of the
link. It is the source of nothing, and no route leads there."""
ADVERTISED_LENGTH: Final = 64


class DefaultRoute(StrEnum):
    """Whether a container has its default route by an endpoint's interface, of each family."""

    AUTO = "auto"
    """If it has none by another interface when it is attached."""
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Wiring:
    """What the link of an endpoint shall be."""

    name: EndpointName
    host_interface: str
    namespace: str
    """Path; empty: the interface was there before (a VM's tap), and only its host end is ours."""
    interface: str
    """Inside the namespace."""
    mac: str
    mtu: int
    """Bytes."""
    addresses: tuple[Address, ...]
    default_route: DefaultRoute = DefaultRoute.AUTO
    routes: tuple[Prefix, ...] = ()
    """What is reached by it besides."""
    dhcp: bool = False
    """Of a VM: its guest is told by DHCP and router advertisements who it is."""

    @property
    def gateways(self) -> tuple[Address, ...]:
        """Next hops inside, one per family."""
        return tuple(dict.fromkeys(gateway_of(address) for address in self.addresses))

    @property
    def has_ipv4(self) -> bool:
        return any(isinstance(address, IPv4Address) for address in self.addresses)

    @property
    def has_ipv6(self) -> bool:
        return any(isinstance(address, IPv6Address) for address in self.addresses)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as it shall be."""

    text: str
    """For people."""
    gone: bool = False
    """The link is not there: it has to be made anew."""


def gateway_of(what: Address | Prefix) -> Address:
    """The next hop inside an endpoint for an address or prefix of a family."""
    return GATEWAY_4 if what.version == 4 else GATEWAY_6
