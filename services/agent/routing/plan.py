"""What the kernel shall hold: links, sysctls, nexthops, routes, rules and proxies. Pure.

It follows from what is wanted alone, and from the interfaces that there are. A planner remembers
the plan before, so that an endpoint that comes costs what it adds, not what the node has:

    node       `services.agent.routing.node_plan`: changes with nodes, networks and interfaces
    prefixes   `services.agent.routing.prefixes`: of nodes' blocks, as many as 100,000
    endpoints  `services.agent.routing.endpoint_plan`: of this node's

What is the route of several is that of an endpoint first, then the node's, then that of a prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from services.agent.kernel import route_bytes
from services.agent.kernel.endpoint_names import is_host_interface
from services.agent.kernel.layered import Layered
from services.agent.kernel.numbers import Numbers
from services.agent.kernel.state import Interface, InterfaceAddress, KernelState, Key, Kind, Proxy
from services.agent.model import DeviceWay, LocalEndpoint, Myself, Remote
from services.agent.routing.device_plan import device_name
from services.agent.routing.endpoint_plan import EndpointPlans
from services.agent.routing.node_plan import NodePlan, NodeWanted, peer_name, plan_node
from services.agent.routing.prefixes import Changed, PrefixRoutes
from services.agent.routing.whereabouts import endpoints_here
from services.common.model.names import EndpointName, NetworkName
from services.common.model.node import Attachment


@dataclass(frozen=True, slots=True)
class Desired:
    """What shall be, and who wants it."""

    state: KernelState
    problems: Mapping[str, str]
    """What cannot be planned: messages by resource id."""
    owners: Mapping[tuple[Kind, Key], str]
    """Ids of the resources that objects are for; of routes to other nodes see `owner`."""
    touched: Mapping[Kind, frozenset[Key]] | None
    """By kind: keys of what may not be as in the plan before; of a kind that is not named, anything
    may be. None: so it is with all."""
    networks: Mapping[int, NetworkName]
    """By table."""
    attachments: tuple[Attachment, ...]
    """Where this node really is on networks."""
    links: frozenset[int]
    """Indexes of the interfaces to networks."""
    numbers: Numbers
    """Those that it has."""

    def owner(self, kind: Kind, key: Key) -> str:
        """The id of the resource that an object is for."""
        found = self.owners.get((kind, key))
        if found is not None:
            return found
        if kind is Kind.ROUTE and isinstance(key, bytes):
            network = self.networks.get(route_bytes.key_table(key))
            if network is not None:
                return f"route/{network}/{route_bytes.key_prefix(key)}"
        return f"{kind.value}/{key}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Everything that a plan follows from."""

    myself: Myself
    remote: Remote
    endpoints: Mapping[EndpointName, LocalEndpoint]
    interfaces: Mapping[str, Interface]
    """Those of the kernel, by name."""
    numbers: Numbers
    made_addresses: Mapping[str, frozenset[InterfaceAddress]] = field(default_factory=dict)
    """By interface: addresses of links that we make, whose length no network says."""
    devices: tuple[DeviceWay, ...] = ()


def plan(wanted: Wanted) -> Desired:
    return Planner().plan(wanted, None)


class Planner:
    """Plans one node, again and again."""

    def __init__(self) -> None:
        self._numbered: tuple[Remote, Numbers, tuple[DeviceWay, ...]] | None = None
        self._wanted: NodeWanted | None = None
        self._node = NodePlan({})
        self._prefixes = PrefixRoutes()
        self._endpoints = EndpointPlans()
        self._routes: Layered[bytes, bytes] = Layered({})
        self._proxies: Layered[Proxy, None] = Layered({})
        self._owners: Layered[tuple[Kind, Key], str] = Layered({})

    def numbered(self, wanted: Wanted, keep: Callable[[Numbers], None]) -> Wanted:
        """The same with numbers for all; `keep` writes new ones to disk, before they are used."""
        remote, numbers = wanted.remote, wanted.numbers
        if self._numbered is not None:
            before, assigned, devices = self._numbered
            if (
                numbers is assigned
                and wanted.devices == devices
                and remote.networks is before.networks
                and remote.peers is before.peers
            ):
                return wanted
        ways = [device_name(one) for one in wanted.devices]
        assigned = numbers.assigned(
            [*remote.networks, *ways],
            [*(peer_name(network, node) for network, node in remote.peers), *ways],
        )
        if assigned == numbers:
            assigned = numbers
        else:
            keep(assigned)
        self._numbered = remote, assigned, wanted.devices
        return replace(wanted, numbers=assigned)

    def plan(
        self,
        wanted: Wanted,
        changed: Changed,
        keep: Callable[[Numbers], None] = lambda _: None,
    ) -> Desired:
        """Everything that shall be.

        Args:
            wanted: All that it follows from.
            changed: Which of `wanted.remote.routes` are not as in the plan before; None: any.
            keep: As in `numbered`: interfaces get numbers here.
        """
        node_is_new = self._plan_node(wanted, keep)
        node = self._node
        tables = {name: place.table for name, place in node.places.items()}
        prefixes, moved = self._prefixes.routes(wanted.remote, tables, node.ways, changed)
        if node_is_new:
            self._endpoints = EndpointPlans()
        here = endpoints_here(wanted.endpoints, wanted.remote, wanted.myself.node)
        touched = self._endpoints.update(here, wanted.interfaces, node)
        if node_is_new or moved is None:
            self._combine(prefixes)
            limits = None
        else:
            limits = self._change(prefixes, moved, touched)
        return Desired(
            KernelState(
                node.links,
                node.sysctls,
                node.nexthops,
                self._routes,
                node.rules,
                self._proxies,
                node.marking,
            ),
            {**node.problems, **self._endpoints.problems},
            self._owners,
            limits,
            {place.table: name for name, place in node.places.items()},
            tuple(
                Attachment(name, place.interface.name, place.address, place.interface.vlan_id)
                for name, place in node.places.items()
            ),
            frozenset(place.interface.index for place in node.places.values()),
            node.numbers,
        )

    def _plan_node(self, wanted: Wanted, keep: Callable[[Numbers], None]) -> bool:
        """Whether it may be another than before."""
        remote = wanted.remote
        of_node = NodeWanted(
            wanted.myself,
            remote.networks,
            remote.peers,
            {
                name: interface
                for name, interface in wanted.interfaces.items()
                if not is_host_interface(name)
            },
            wanted.numbers,
            wanted.made_addresses,
            wanted.devices,
        )
        if self._wanted is not None and of_node.is_same(self._wanted):
            return False
        self._node = plan_node(of_node)
        if self._node.numbers is not of_node.numbers:
            keep(self._node.numbers)
        self._wanted = replace(of_node, numbers=self._node.numbers)
        return True

    def _combine(self, prefixes: Layered[bytes, bytes]) -> None:
        endpoints = self._endpoints
        routes = {**prefixes.flat(), **self._node.routes}
        proxies: dict[Proxy, None] = {}
        owners = dict(self._node.owners)
        for kind, key in endpoints.keys:
            claim = endpoints.claim(kind, key)
            assert claim is not None
            owners[kind, key] = claim.owner
            if isinstance(key, Proxy):
                proxies[key] = None
            else:
                routes[key] = claim.value
        self._routes, self._proxies = Layered(routes), Layered(proxies)
        self._owners = Layered(owners)

    def _change(
        self,
        prefixes: Layered[bytes, bytes],
        moved: frozenset[bytes],
        touched: frozenset[tuple[Kind, bytes | Proxy]],
    ) -> Mapping[Kind, frozenset[Key]]:
        """Only what is different; returns keys of what may be."""
        node, endpoints = self._node, self._endpoints
        routes: dict[bytes, bytes] = {}
        proxies: dict[Proxy, None] = {}
        owners: dict[tuple[Kind, Key], str] = {}
        keys: set[bytes] = set(moved)
        answers: set[Proxy] = set()
        for kind, key in touched:
            claim = endpoints.claim(kind, key)
            owner = claim.owner if claim is not None else node.owners.get((kind, key))
            if owner is not None:
                owners[kind, key] = owner
            if isinstance(key, Proxy):
                answers.add(key)
                if claim is not None:
                    proxies[key] = None
            else:
                keys.add(key)
        for key in keys:
            claim = endpoints.claim(Kind.ROUTE, key)
            value = claim.value if claim is not None else node.routes.get(key, prefixes.get(key))
            if value is not None:
                routes[key] = value
        self._routes = self._routes.changed(routes, keys)
        self._proxies = self._proxies.changed(proxies, answers)
        self._owners = self._owners.changed(owners, touched)
        return {
            Kind.ROUTE: frozenset(keys),
            Kind.PROXY: frozenset(answers),
            Kind.NEXTHOP: _NOTHING,
        }


_NOTHING: Final = frozenset[Key]()
