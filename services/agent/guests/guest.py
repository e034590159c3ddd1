"""What a VM's guest is told of itself. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from services.agent.model import LocalEndpoint
from services.common.model.names import NetworkName
from services.common.model.network import Address, Network, Prefix, joined


@dataclass(frozen=True, slots=True)
class Told:
    """An address, and the network that it is of."""

    address: Address
    cidr: Prefix


@dataclass(frozen=True, slots=True)
class Guest:
    """The guest behind one interface of the node."""

    interface: str
    addresses: tuple[Told, ...]
    """One of each family at most: the first that its endpoint has."""
    mtu: int
    """Bytes; 0: not said."""
    nameservers: tuple[Address, ...]
    search: tuple[str, ...]

    def address(self, version: int) -> Told | None:
        """That of a family, if there is one."""
        return next((told for told in self.addresses if told.address.version == version), None)


def guest_of(endpoint: LocalEndpoint, networks: Mapping[NetworkName, Network]) -> Guest:
    """What the guest of an endpoint is told; addresses of networks that are not known are not."""
    chosen: dict[int, tuple[Address, Network]] = {}
    for item in endpoint.addresses:
        network = networks.get(item.network)
        if network is not None:
            chosen.setdefault(item.address.version, (item.address, network))
    said = joined(network.dns for _, network in chosen.values())
    return Guest(
        endpoint.host_interface,
        tuple(Told(address, network.cidr) for address, network in chosen.values()),
        endpoint.mtu,
        said.nameservers,
        said.search,
    )


def servers(guest: Guest) -> tuple[list[IPv4Address], list[IPv6Address]]:
    """Its name servers, by family."""
    return (
        [server for server in guest.nameservers if isinstance(server, IPv4Address)],
        [server for server in guest.nameservers if isinstance(server, IPv6Address)],
    )
