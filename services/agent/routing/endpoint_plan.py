"""What the kernel shall hold for this node's endpoints. Pure.

Two endpoints want the same only for a while, as when one takes the place of another: then it is the
younger one's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from services.agent.kernel import route_bytes
from services.agent.kernel.state import Interface, Kind, Proxy
from services.agent.model import LocalEndpoint
from services.agent.routing.node_networks import Place
from services.agent.routing.node_plan import NodePlan
from services.common.model.names import EndpointName, NetworkName
from services.common.model.network import Address, Mode

Object: TypeAlias = tuple[Kind, bytes | Proxy]
"""A route by its key, or a proxy."""


@dataclass(frozen=True, slots=True)
class Claim:
    """That an endpoint wants something."""

    owner: str
    """Its resource id."""
    value: bytes
    """Of a route."""
    age: tuple[int, EndpointName]
    """The larger, the younger."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """One endpoint, and what it wants."""

    endpoint: LocalEndpoint
    interface: Interface | None
    objects: Mapping[Object, bytes]
    problem: str


class EndpointPlans:
    """Those of one node, on the same networks all the time."""

    def __init__(self) -> None:
        self._planned: dict[EndpointName, _Planned] = {}
        self._claims: dict[Object, dict[EndpointName, Claim]] = {}
        self.problems: dict[str, str] = {}
        """What cannot be planned: messages by resource id."""

    @property
    def keys(self) -> Collection[Object]:
        """All that is wanted."""
        return self._claims.keys()

    def claim(self, kind: Kind, key: bytes | Proxy) -> Claim | None:
        """Whose something is, and as what; None: no endpoint's."""
        claims = self._claims.get((kind, key))
        return None if claims is None else max(claims.values(), key=_age)

    def update(
        self,
        endpoints: Mapping[EndpointName, LocalEndpoint],
        interfaces: Mapping[str, Interface],
        node: NodePlan,
    ) -> frozenset[Object]:
        """Takes in what there is now; returns what may be wanted otherwise than before."""
        touched: set[Object] = set()
        for name in [name for name in self._planned if name not in endpoints]:
            touched.update(self._drop(name))
        for name, endpoint in endpoints.items():
            interface = interfaces.get(endpoint.host_interface)
            before = self._planned.get(name)
            if before is not None:
                if before.endpoint is endpoint and (
                    before.interface is interface or before.interface == interface
                ):
                    continue
                touched.update(self._drop(name))
            touched.update(self._put(_plan(endpoint, interface, node)))
        return frozenset(touched)

    def _put(self, planned: _Planned) -> Collection[Object]:
        endpoint = planned.endpoint
        owner, age = f"endpoint/{endpoint.name}", (endpoint.create_time, endpoint.name)
        self._planned[endpoint.name] = planned
        for one, value in planned.objects.items():
            self._claims.setdefault(one, {})[endpoint.name] = Claim(owner, value, age)
        if planned.problem:
            self.problems[owner] = planned.problem
        return planned.objects.keys()

    def _drop(self, name: EndpointName) -> Collection[Object]:
        planned = self._planned.pop(name)
        self.problems.pop(f"endpoint/{name}", None)
        for one in planned.objects:
            claims = self._claims[one]
            del claims[name]
            if not claims:
                del self._claims[one]
        return planned.objects.keys()


def _age(claim: Claim) -> tuple[int, EndpointName]:
    return claim.age


@dataclass(slots=True)
class _Collected:
    objects: dict[Object, bytes] = field(default_factory=dict)
    problem: str = ""


def _plan(endpoint: LocalEndpoint, interface: Interface | None, node: NodePlan) -> _Planned:
    found = _Collected()
    if interface is None:
        found.problem = f"interface {endpoint.host_interface} is not there"
    elif not interface.up:
        found.problem = f"interface {endpoint.host_interface} is down"
    else:
        for item in endpoint.addresses:
            place = node.places.get(item.network)
            if place is None:
                found.problem = _no_network(item.network, node)
                continue
            way = route_bytes.on_link(item.address.version, interface.index)
            for table in (place.table, route_bytes.MAIN_TABLE):
                found.objects[Kind.ROUTE, route_bytes.host_key(table, item.address)] = way
            for proxy in _answers(place, item.address, interface):
                found.objects[Kind.PROXY, proxy] = b""
    return _Planned(endpoint, interface, found.objects, found.problem)


def _answers(place: Place, address: Address, interface: Interface) -> Iterator[Proxy]:
    if place.network.mode is Mode.ONLINK:
        yield Proxy(place.interface.index, address)
    if place.network.gateway is not None:  # for VMs, which may have it as their next hop
        yield Proxy(interface.index, place.network.gateway)


def _no_network(name: NetworkName, node: NodePlan) -> str:
    problem = node.problems.get(f"network/{name}", "ipam does not name it")
    return f"network {name}: {problem}"
