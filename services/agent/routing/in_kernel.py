"""What the kernel has of routes, beside what it shall have: for people who ask. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from services.agent.kernel import route_bytes
from services.agent.kernel.diff import diff
from services.agent.kernel.state import KernelState, Key, Kind, Proxy, Rule
from services.agent.model import Remote
from services.agent.routing.plan import Desired
from services.agent.streams import answering
from services.agent.streams.answering import Difference
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Address, Prefix


@dataclass(frozen=True, slots=True)
class RouteThere:
    """A prefix that ipam told the agent of."""

    network: NetworkName
    prefix: Prefix
    node: NodeName
    kept: bool
    """It has a route of its own; else whatever leads to the network's gateway leads there."""
    there: bool
    """The kernel has it, and by the same next hop."""
    next_hop: Address | None
    """Of the route that the kernel has."""
    interface: str
    """By which it leaves; empty: none."""


@dataclass(frozen=True, slots=True)
class InKernel:
    routes: tuple[RouteThere, ...]
    """Those that are not there first, then by network and prefix."""
    differences: tuple[Difference, ...]


def compare(
    remote: Remote, desired: Desired, actual: KernelState, interfaces: Mapping[int, str]
) -> InKernel:
    """Compares a kernel with what it shall hold.

    Args:
        remote: What ipam said.
        desired: What shall be.
        actual: What is.
        interfaces: Names by index.
    """
    tables = {name: table for table, name in desired.networks.items()}
    routes = [
        _route(network, prefix, node, tables.get(network), desired.state, actual, interfaces)
        for (network, prefix), node in remote.routes.items()
    ]
    routes.sort(
        key=lambda one: (
            one.there or not one.kept,
            one.network,
            one.prefix.version,
            one.prefix.network_address.packed,
            one.prefix.prefixlen,
        )
    )
    return InKernel(tuple(routes), tuple(_differences(desired, actual)))


def _route(
    network: NetworkName,
    prefix: Prefix,
    node: NodeName,
    table: int | None,
    desired: KernelState,
    actual: KernelState,
    interfaces: Mapping[int, str],
) -> RouteThere:
    key = b"" if table is None else route_bytes.route_key(table, prefix)
    wanted, found = desired.routes.get(key), actual.routes.get(key)
    there = found is not None and wanted == found
    next_hop: Address | None = None
    interface = ""
    if found is not None:
        way = route_bytes.unpack_value(found)
        nexthop = actual.nexthops.get(way.nexthop) if way.nexthop else None
        if way.nexthop:
            there = there and nexthop == desired.nexthops.get(way.nexthop)
        if nexthop is not None:
            next_hop = nexthop.gateway
            interface = interfaces.get(nexthop.interface, "")
        else:
            next_hop = ip_address(way.gateway) if way.gateway else None
            interface = interfaces.get(way.interface, "")
    return RouteThere(network, prefix, node, wanted is not None, there, next_hop, interface)


def _differences(desired: Desired, actual: KernelState) -> Iterator[Difference]:
    for step in diff(desired.state, actual):
        for kind, objects in (
            (answering.Kind.MISSING, step.additions),
            (answering.Kind.CHANGED, step.replacements),
            (answering.Kind.STRANGE, step.removals),
        ):
            for text in sorted(_text(desired, step.kind, key) for key in objects):
                yield Difference(kind, text)


def _text(desired: Desired, kind: Kind, key: Key) -> str:
    """For people."""
    owner = desired.owner(kind, key)
    match key:
        case bytes():
            network = desired.networks.get(route_bytes.key_table(key))
            where = f"of network {network}" if network else f"in table {route_bytes.key_table(key)}"
            whose = f" ({owner})" if owner.startswith("endpoint/") else ""
            return f"route {route_bytes.key_prefix(key)} {where}{whose}"
        case Rule():
            what = f" {key.table}" if key.table else ""
            return f"rule {key.priority} of IPv{key.family}: {key.action.value}{what}"
        case Proxy():
            return f"answering for {key.address} ({owner})"
    if kind is Kind.SYSCTL:
        return f"sysctl {str(key).replace('/', '.')}"
    return f"{kind.value} {key}" + (f" ({owner})" if owner != f"{kind.value}/{key}" else "")
