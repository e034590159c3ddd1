"""What comes by the stream from ipam, one value per resource, and the `Remote` made of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from services.agent.model import Remote, Visit
from services.agent.routing.prefixes import Changed
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
    """Whose a prefix is. The prefix as text: 100,000 of them are compared in the event loop."""

    network: NetworkName
    prefix: str
    node: NodeName


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A resource that this agent does not understand: it fails, the others are applied."""

    message: str


Resource: TypeAlias = Network | Peer | Route | Visit | Unreadable

_RouteKey = tuple[NetworkName, Prefix]


class Assembly:
    """The resources as a `Remote`. What it returns never changes afterwards.

    `apply` may be called in a thread, by one caller at a time.
    """

    def __init__(self) -> None:
        self._networks: dict[str, Network] = {}
        self._peers: dict[str, Peer] = {}
        self._routes: dict[str, tuple[_RouteKey, NodeName]] = {}
        self._visits: dict[str, Visit] = {}
        self._unreadable: dict[str, str] = {}
        self._by_key: dict[_RouteKey, NodeName] = {}
        self._remote = Remote()
        self.unreadable: Mapping[str, str] = {}
        """Messages by id."""

    def apply(
        self, updated: Mapping[str, Resource], removed: Collection[str]
    ) -> tuple[Remote, Changed]:
        """Takes in changes; returns all, and which routes are not as before."""
        changed: set[_RouteKey] = set()
        others = visits = False
        for name in (*removed, *updated):
            for kind in (self._networks, self._peers, self._unreadable):
                others = kind.pop(name, None) is not None or others
            visits = self._visits.pop(name, None) is not None or visits
            gone = self._routes.pop(name, None)
            if gone is not None:
                self._by_key.pop(gone[0], None)
                changed.add(gone[0])
        for name, value in updated.items():
            match value:
                case Route():
                    self._add_route(name, value, changed)
                case Visit():
                    self._visits[name] = value
                    visits = True
                case _:
                    self._add_other(name, value)
                    others = True
        self.unreadable = dict(self._unreadable)
        if others:
            self._remote = Remote(
                {network.name: network for network in self._networks.values()},
                {(peer.network, peer.node): peer.address for peer in self._peers.values()},
                visits=self._remote.visits,
            )
        if visits:
            found = {(visit.network, visit.address): visit for visit in self._visits.values()}
            self._remote = replace(self._remote, visits=found)
        self._remote = replace(self._remote, routes=dict(self._by_key))
        return self._remote, changed

    def _add_other(self, name: str, value: Network | Peer | Unreadable) -> None:
        match value:
            case Peer():
                self._peers[name] = value
            case Network():
                self._networks[name] = value
            case Unreadable():
                self._unreadable[name] = value.message

    def _add_route(self, name: str, route: Route, changed: set[_RouteKey]) -> None:
        try:
            key = (route.network, ipaddress.ip_network(route.prefix))
        except ValueError as error:
            self._unreadable[name] = f"{route.prefix!r} is not a prefix: {error}"
            return
        self._routes[name] = (key, route.node)
        self._by_key[key] = route.node
        changed.add(key)
