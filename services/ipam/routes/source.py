"""What agents have to know of routes, as resources: one topic per network.

    network/NETWORK           what the network is
    peer/NETWORK/NODE         a node's address there, the next hop of what lies behind it
    route/NETWORK/PREFIX      an aggregated prefix and its node
    visit/NETWORK/ADDRESS     where an address is that is not on its block's node, or about to move

`update` looks at what changed only: nodes and blocks that are named, routes that moved; at all
networks when the layout is another, and at all nodes when other groups have prefixes. After a reset
of the replica it compares with what was said before, so that streams go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from services.common.model.layout import Layout
from services.common.model.names import (
    EndpointName,
    GroupPath,
    NetworkName,
    NodeName,
    TopologyName,
)
from services.common.model.network import Address, Network
from services.common.sync.source import Source
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.index import Place
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import Visit, address_text, prefix_text
from services.ipam.routes.view import RoutePrefix, RoutesView


@dataclass(frozen=True, slots=True)
class Encoding:
    """How resources are serialised; the same values give the same bytes on every replica."""

    network: Callable[[str, Network, TopologyName], bytes]
    peer: Callable[[str, NetworkName, NodeName, Address], bytes]
    route: Callable[[str, NetworkName, str, NodeName], bytes]
    visit: Callable[[str, NetworkName, str, EndpointName, Visit], bytes]


class RouteSource:
    """Keeps a source equal to a ledger."""

    def __init__(self, source: Source, view: RoutesView, encoding: Encoding) -> None:
        self._source = source
        self._view = view
        self._encoding = encoding
        self._layout: Layout | None = None
        self._groups: dict[NetworkName, tuple[TopologyName, frozenset[GroupPath]]] | None = None
        """Of each network: what decides which nodes are on it, besides the nodes."""
        self._visits: dict[Place, frozenset[str]] = {}
        """Identities by block."""
        self._peers: dict[NodeName, dict[NetworkName, Address | None]] = {}

    def update(
        self, ledger: Ledger, nodes: Iterable[NodeName], blocks: Iterable[Place] | None
    ) -> None:
        """Takes over what changed; `nodes` and `blocks`: those of which something may have changed.

        None: of all blocks.
        """
        if ledger.layout is not self._layout:
            self._layout = ledger.layout
            before, self._groups = self._groups, _groups(ledger)
            self._take_networks(ledger, before or ())
            if before != self._groups:
                nodes = {*self._peers, *ledger.nodes}
        for node in nodes:
            self._take_node(ledger, node)
        self._view.sync(ledger)
        for at in self._view.drain_moved():
            self._take_route(at)
        self._take_visits(ledger, blocks)

    def _take_networks(self, ledger: Ledger, before: Iterable[NetworkName]) -> None:
        for name in before:
            if name not in ledger.networks:
                self._source.drop(name, f"network/{name}")
        for name, net in ledger.networks.items():
            identity = f"network/{name}"
            value = self._encoding.network(identity, net.network, net.topology)
            self._source.put(name, identity, value)

    def _take_node(self, ledger: Ledger, name: NodeName) -> None:
        node = ledger.nodes.get(name)
        before = self._peers.pop(name, {})
        after: dict[NetworkName, Address | None] = {}
        if node is not None:
            for network, net in ledger.networks.items():
                if ledger.area_of_node(node, network) is not None:
                    # its own agent finds the interface by the main address, of whichever family
                    after[network] = node.address_on(net.network) or node.address
            self._peers[name] = after
        for network in {*before, *after}:
            identity = f"peer/{network}/{name}"
            address = after.get(network)
            if address is None:
                self._source.drop(network, identity)
            elif before.get(network) != address:
                value = self._encoding.peer(identity, network, name, address)
                self._source.put(network, identity, value)
        self._source.assign(name, None if node is None else after)

    def _take_visits(self, ledger: Ledger, blocks: Iterable[Place] | None) -> None:
        visited = ledger.index.visited
        gone: dict[str, NetworkName] = {}
        for place in {*self._visits, *visited} if blocks is None else blocks:
            gone.update(dict.fromkeys(self._visits.pop(place, ()), place[0]))
            if place in visited:
                self._visits[place] = frozenset(self._put_visits(visited[place]))
                for identity in self._visits[place]:
                    gone.pop(identity, None)
        for identity, network in gone.items():
            self._source.drop(network, identity)

    def _put_visits(self, block: Block) -> Iterator[str]:
        """Puts those of a block; their identities."""
        network = block.network
        for offset, visit in (block.visits or {}).items():
            address = address_text(block.base + offset, block.bits)
            identity = f"visit/{network}/{address}"
            name = EndpointName(block.names[offset] or "")
            value = self._encoding.visit(identity, network, address, name, visit)
            self._source.put(network, identity, value)
            yield identity

    def _take_route(self, at: RoutePrefix) -> None:
        prefix = prefix_text(at.base, at.length, at.bits)
        identity = f"route/{at.network}/{prefix}"
        node = self._view.leads_to(at)
        if node is None:
            self._source.drop(at.network, identity)
        else:
            value = self._encoding.route(identity, at.network, prefix, node)
            self._source.put(at.network, identity, value)


def _groups(ledger: Ledger) -> dict[NetworkName, tuple[TopologyName, frozenset[GroupPath]]]:
    return {name: (net.topology, frozenset(net.areas)) for name, net in ledger.networks.items()}
