"""Where this node is on each network: which interface, which address, which table.

What settings declare is taken as it is. For a network that they do not mention, the interface is
the one that has this node's address there, which ipam says; so a node with one interface needs no
settings at all.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from services.agent.kernel.state import Interface
from services.agent.model import Myself
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Address, Network
from services.common.model.node import Attachment

LINK_GATEWAY: Final = ipaddress.IPv4Address("169.254.1.1")
"""What containers' default routes go to, see `services.agent.kernel.veth`."""


@dataclass(frozen=True, slots=True)
class Place:
    """This node on one network."""

    network: Network
    table: int
    interface: Interface
    address: Address | None
    """The node's own."""
    shared: bool
    """Whether other networks of this family use the interface too."""


@dataclass(frozen=True, slots=True)
class Places:
    """This node on its networks."""

    by_network: Mapping[NetworkName, Place]
    problems: Mapping[NetworkName, str]
    """Why it is not really on a network that it should be on, or others do not reach it there."""


def find_places(
    myself: Myself,
    networks: Mapping[NetworkName, Network],
    peers: Mapping[tuple[NetworkName, NodeName], Address],
    interfaces: Mapping[str, Interface],
    tables: Mapping[str, int],
) -> Places:
    """Finds the interface for every network that ipam names."""
    problems: dict[NetworkName, str] = {}
    found: dict[NetworkName, tuple[Network, Interface, Address | None]] = {}
    declared = {attachment.network: attachment for attachment in myself.attachments}
    for name, network in networks.items():
        attachment = declared.get(name, Attachment(name))
        address = attachment.address or peers.get((name, myself.node))
        problem, interface = _interface(attachment, address, interfaces)
        if problem:
            problems[name] = problem
        if interface is not None:
            found[name] = (network, interface, address)
    users = Counter(
        (interface.name, network.cidr.version) for network, interface, _ in found.values()
    )
    return Places(
        {
            name: Place(
                network,
                tables[name],
                interface,
                address if address and address.version == network.cidr.version else None,
                users[(interface.name, network.cidr.version)] > 1,
            )
            for name, (network, interface, address) in found.items()
        },
        problems,
    )


def gateway_table(place: Place, places: Mapping[NetworkName, Place]) -> int:
    """The table of one network on the same interface, if possible of one with a gateway."""
    sharing = [
        other
        for other in places.values()
        if other.interface.name == place.interface.name
        and other.network.cidr.version == place.network.cidr.version
    ]
    sharing.sort(key=lambda other: (other.network.gateway is None, other.network.name))
    return sharing[0].table


def _interface(
    attachment: Attachment, address: Address | None, interfaces: Mapping[str, Interface]
) -> tuple[str, Interface | None]:
    """What is wrong, and the interface if it can be used all the same."""
    missing = f"no interface has this node's address {address}"
    if attachment.interface:
        interface = interfaces.get(attachment.interface)
        if interface is None:
            return f"interface {attachment.interface} is not there", None
    elif address is None:
        return "this node has no address there, and settings name no interface", None
    else:
        interface = next(_owners(interfaces, address), None)
        if interface is None:
            return missing, None
    if not interface.up:
        return f"interface {interface.name} is down", None
    if address is not None and next(_owners(interfaces, address), None) is None:
        return f"{missing}: what other nodes send to it is lost", interface
    return "", interface


def _owners(interfaces: Mapping[str, Interface], address: Address) -> Iterator[Interface]:
    return (interface for interface in interfaces.values() if interface.has(address))
