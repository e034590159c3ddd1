"""Whether an endpoint that is attached on this node is here, as ipam says. Pure.

An endpoint that moves while it runs is attached on two nodes for a while. Ipam says at any moment
which of them has it: routes, proxies and announcements are that one's alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from ipaddress import ip_network

from services.agent.model import EndpointAddress, LocalEndpoint, Remote
from services.common.model.names import EndpointName, NodeName


class Whereabouts(Enum):
    """From what is here to what is elsewhere."""

    HERE = auto()
    LEAVING = auto()
    """It is here, and moving to another node."""
    ARRIVING = auto()
    """It is on another node, and moving to this one."""
    ELSEWHERE = auto()
    """It is on another node, as far as is known."""


def endpoints_here(
    endpoints: Mapping[EndpointName, LocalEndpoint], remote: Remote, node: NodeName
) -> Mapping[EndpointName, LocalEndpoint]:
    """Those to which routes lead."""
    if not remote.visits and not any(endpoint.moves for endpoint in endpoints.values()):
        return endpoints
    return {
        name: endpoint for name, endpoint in endpoints.items() if is_here(endpoint, remote, node)
    }


def is_here(endpoint: LocalEndpoint, remote: Remote, node: NodeName) -> bool:
    """Whether routes lead to it."""
    return whereabouts(endpoint, remote, node) in {Whereabouts.HERE, Whereabouts.LEAVING}


def whereabouts(endpoint: LocalEndpoint, remote: Remote, node: NodeName) -> Whereabouts:
    """Where an attached endpoint is: all its addresses are in the same place, or on their way."""
    found = {_of_address(item, endpoint, remote, node) for item in endpoint.addresses}
    return next((each for each in reversed(Whereabouts) if each in found), Whereabouts.HERE)


def _of_address(
    item: EndpointAddress, endpoint: LocalEndpoint, remote: Remote, node: NodeName
) -> Whereabouts:
    visit = remote.visits.get((item.network, item.address))
    if visit is not None:
        if visit.node == node:
            return Whereabouts.HERE if visit.to is None else Whereabouts.LEAVING
        return Whereabouts.ARRIVING if visit.to == node else Whereabouts.ELSEWHERE
    if not endpoint.moves or _leads_to(item, remote) == node:
        return Whereabouts.HERE
    return Whereabouts.ELSEWHERE


def _leads_to(item: EndpointAddress, remote: Remote) -> NodeName | None:
    """The node of the longest prefix; asked for by length, since there are up to 100,000."""
    network = remote.networks.get(item.network)
    shortest = 0 if network is None else network.cidr.prefixlen
    for length in range(item.address.max_prefixlen, shortest - 1, -1):
        prefix = ip_network((item.address.packed, length), strict=False)
        if (node := remote.routes.get((item.network, prefix))) is not None:
            return node
    return None
