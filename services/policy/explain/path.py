"""Says which way a packet takes: on its node, from node to node, or by a gateway.

Networks are apart even on one node: what is for another network goes to the gateway of the
source's. An endpoint and its own node reach each other directly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Address
from services.policy.model import PolicyNetwork


class PathKind(Enum):
    SAME_NODE = "same node"
    DIRECT = "direct"
    GATEWAY = "gateway"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Path:
    kind: PathKind
    hops: tuple[str, ...]
    """Names of nodes and addresses of gateways, in order."""
    description: str


@dataclass(frozen=True, slots=True)
class End:
    """One end of a connection."""

    address: Address
    node: NodeName | None = None
    """Where it is; None: on no node that is known."""
    is_node: bool = False
    """It is the node itself."""


def path(source: End, destination: End, networks: Mapping[NetworkName, PolicyNetwork]) -> Path:
    begin, end = network_of(source.address, networks), network_of(destination.address, networks)
    hops = [str(one) for one in (source.node, destination.node) if one is not None]
    together = begin == end or source.is_node or destination.is_node
    if source.node is not None and source.node == destination.node and together:
        return Path(PathKind.SAME_NODE, (source.node,), f"both are on node {source.node}")
    if begin is None:
        return Path(
            PathKind.UNKNOWN, tuple(hops), f"{source.address} is on no network that is known"
        )
    if begin == end:
        nodes = " to ".join(hops)
        return Path(
            PathKind.DIRECT, tuple(hops), f"on network {begin.name}{f', {nodes}' if nodes else ''}"
        )
    if begin.gateway is None:
        return Path(
            PathKind.UNKNOWN,
            tuple(hops[:1]),
            f"network {begin.name} has no gateway, and {destination.address} is not on it",
        )
    where = (
        f"to network {end.name}" if end else f"to {destination.address}, outside of all networks"
    )
    masked = ", with the node's address as its source" if begin.masquerade and end is None else ""
    via = [str(source.node)] if source.node else []
    there = [str(destination.node)] if destination.node else []
    return Path(
        PathKind.GATEWAY,
        (*via, str(begin.gateway), *there),
        f"from network {begin.name} by its gateway {begin.gateway} {where}{masked}",
    )


def network_of(
    address: Address, networks: Mapping[NetworkName, PolicyNetwork]
) -> PolicyNetwork | None:
    for network in networks.values():
        if address.version == network.cidr.version and address in network.cidr:
            return network
    return None
