"""Finds addresses that an endpoint has and somebody else, too: a node, a gateway, a reservation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Address, Network
from services.common.model.node import Node
from services.common.records.blocks import BlockPage
from services.ipam.consistency.rules import Finding
from services.ipam.ledger.index import Place
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import address_text


@dataclass(frozen=True, slots=True)
class DoubleUse:
    """An address in use, with the name that it is in use by."""

    place: Place
    bits: int
    page: int
    offset: int
    name: str

    @property
    def address(self) -> int:
        return self.place[1] + self.offset


@dataclass(frozen=True, slots=True)
class _Owner:
    what: str
    """For people."""
    node: NodeName | None = None
    network: NetworkName | None = None


class OwnAddresses:
    """Addresses that nodes and networks have, and what was found in use of them.

    Feed it with all networks and nodes, then with pages. What it finds is to be looked at again: a
    page may be older than a node that got an address when it was free.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._owners: dict[tuple[int, int], _Owner] = {}
        self.found: list[DoubleUse] = []

    def network(self, network: Network) -> None:
        for address in network.own_addresses():
            what = "the gateway" if address == network.gateway else "an edge of the subnet"
            self._owners[_key(address)] = _Owner(
                f"{what} of network {network.name!r}", network=network.name
            )

    def node(self, node: Node) -> None:
        for address in node.addresses:
            self._owners[_key(address)] = _Owner(f"an address of node {node.name!r}", node.name)

    def page(self, place: Place, bits: int, page: int, record: BlockPage) -> Iterator[Finding]:
        """Looks at a page; yields what an operator allowed, and keeps what nobody did."""
        block = self._ledger.index.blocks.get(place)
        for use in record.used:
            if (bits, place[1] + use.offset) in self._owners:
                self.found.append(DoubleUse(place, bits, page, use.offset, use.name))
            elif block is not None and block.reserved >> use.offset & 1:
                yield from self._reserved(place[0], place[1] + use.offset, bits, use.name)

    def finding(self, double: DoubleUse) -> Finding | None:
        """What to say of an address that still is in use; None: nobody else has it any more."""
        key = (double.bits, double.address)
        owner = self._owners[key]
        node = self._ledger.nodes.get(owner.node) if owner.node is not None else None
        net = self._ledger.networks.get(owner.network) if owner.network is not None else None
        own: set[Address] = set(node.addresses) if node is not None else set()
        if net is not None:
            own |= net.network.own_addresses()
        if key not in map(_key, own):
            return None
        text = address_text(double.address, double.bits)
        message = f"{text} is in use by {double.name!r}, and is {owner.what}"
        return Finding("ADDRESS_TWICE", message, text)

    def _reserved(
        self, network: NetworkName, address: int, bits: int, name: str
    ) -> Iterator[Finding]:
        text = address_text(address, bits)
        for reservation in self._ledger.reservations.values():
            if reservation.network == network and any(
                start <= address < stop for start, stop in reservation.intervals
            ):
                message = f"{text} is in use by {name!r}, and set aside as {reservation.name!r}"
                yield Finding("RESERVED_IN_USE", message, text, is_error=False)
                return


def _key(address: Address) -> tuple[int, int]:
    return address.max_prefixlen, int(address)
