"""Addresses that endpoints must not have, since nodes, gateways or subnets have them.

What a change sets aside must not be in use: an address is nobody's twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from services.common.errors import AlreadyExists
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.model.network import Address, Network
from services.common.model.node import Node
from services.topology.checks.nodes import address_field
from services.topology.layout.usage import AddressUse, InUse


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """An address that is set aside, and for whom."""

    address: Address
    whose: str
    """For people, such as "the gateway of network 'qa'"."""
    field: str = ""
    """Field path in the request; empty: that is not known."""


@dataclass(eq=False)
class AddressInUse(AlreadyExists):
    """An address is to be set aside that an endpoint has."""

    reason: str = "ADDRESS_IN_USE"
    use: AddressUse | None = None
    """Where; whose name it is, a page of the store says."""


def of_networks(before: Layout, after: Layout) -> Iterator[OwnAddress]:
    """What networks set aside after a change and not before."""
    known = {network.name: network.own_addresses() for network in before.networks}
    for network in after.networks:
        for address in sorted(network.own_addresses() - known.get(network.name, set()), key=str):
            yield OwnAddress(address, _whose(address, network))


def of_nodes(before: Mapping[NodeName, Node], after: Iterable[Node]) -> Iterator[OwnAddress]:
    """What nodes have after a change and had not before."""
    for node in after:
        known = before.get(node.name)
        was = known.addresses if known is not None else ()
        for address in sorted({*node.addresses}.difference(was), key=str):
            whose = f"an address of node {node.name!r}"
            yield OwnAddress(address, whose, address_field(node, address))


def refuse_in_use(wanted: Iterable[OwnAddress], usage: InUse) -> None:
    for item in wanted:
        use = usage.user_of(item.address)
        if use is not None:
            metadata = {"address": str(item.address), "node": use.node, "network": use.network}
            raise AddressInUse(
                f"{item.address} cannot be {item.whose}: it is in use on node {use.node!r}",
                metadata={**metadata, **({"field": item.field} if item.field else {})},
                use=use,
            )


def _whose(address: Address, network: Network) -> str:
    if address == network.gateway:
        return f"the gateway of network {network.name!r}"
    return f"an address of network {network.name!r} itself, whose mode is onlink"
