"""What comes by the stream from ipam, one value per resource, and the `Remote` made of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from services.agent.model import Remote
from services.agent.prefixes import Changed
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Address, Network, Prefix


@dataclass(frozen=True, slots=True)
class Peer:
    """A node's address on a network."""

    network: NetworkName
    node: NodeName
    address: Address


@dataclass(frozen=True, slots=True)
class Route:
    """Whose a prefix is."""

    network: NetworkName
    prefix: Prefix
    node: NodeName


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A resource that this agent does not understand: it fails, the others are applied."""

    message: str


Resource: TypeAlias = Network | Peer | Route | Unreadable


class Assembly:
    """The resources as a `Remote`. What it returns never changes afterwards."""

    def __init__(self, held: Mapping[str, Resource]) -> None:
        self._known: dict[str, Resource] = {}
        self._networks: dict[NetworkName, Network] = {}
        self._peers: dict[tuple[NetworkName, NodeName], Address] = {}
        self._routes: dict[tuple[NetworkName, Prefix], NodeName] = {}
        self.apply(held, ())

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Messages by id."""
        return {
            name: value.message
            for name, value in self._known.items()
            if isinstance(value, Unreadable)
        }

    def remote(self) -> Remote:
        """As it is now."""
        return Remote(dict(self._networks), dict(self._peers), dict(self._routes))

    def apply(self, updated: Mapping[str, Resource], removed: Collection[str]) -> Changed:
        """Takes in changes; returns which routes are not as before."""
        changed: set[tuple[NetworkName, Prefix]] = set()
        for name in removed:
            self._drop(name, changed)
        for name, value in updated.items():
            self._drop(name, changed)
            self._known[name] = value
            match value:
                case Network():
                    self._networks[value.name] = value
                case Peer():
                    self._peers[value.network, value.node] = value.address
                case Route():
                    self._routes[value.network, value.prefix] = value.node
                    changed.add((value.network, value.prefix))
                case Unreadable():
                    pass
        return changed

    def _drop(self, name: str, changed: set[tuple[NetworkName, Prefix]]) -> None:
        match self._known.pop(name, None):
            case Network() as network:
                self._networks.pop(network.name, None)
            case Peer() as peer:
                self._peers.pop((peer.network, peer.node), None)
            case Route() as route:
                self._routes.pop((route.network, route.prefix), None)
                changed.add((route.network, route.prefix))
            case _:
                pass
