"""`SyncRoutes` messages as values, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from romana.ipam.v1 import sync_routes_pb2 as pb
from romana.topology.v1 import network_pb2

from services.agent.model import Visit
from services.agent.routing.in_kernel import InKernel, RouteThere
from services.agent.routing.resources import Peer, Resource, Route, Unreadable
from services.agent.streams.answering import in_parts
from services.agent.streams.parsing import address, read_message
from services.common.errors import InvalidInput
from services.common.model.names import EndpointName, NetworkName, NodeName
from services.common.model.network import Network
from services.common.sync import wire
from services.common.sync.model import Ack, Hello, Response

_VLAN_MOST: Final = 4094
_NOT_FOR_AGENTS: Final = frozenset({"topology", "placement", "isolation"})
"""Whatever they are, also something that this agent does not know yet."""


def hello(value: Hello) -> pb.SyncRoutesRequest:
    """The first message."""
    return pb.SyncRoutesRequest(hello=wire.hello(value))


def ack(value: Ack) -> pb.SyncRoutesRequest:
    """Every other."""
    return pb.SyncRoutesRequest(ack=wire.ack(value))


def kernel_parts(found: InKernel | None) -> Sequence[pb.KernelRoutes]:
    """What the kernel has, in parts of a bounded size; None: it is not known what it shall have."""
    if found is None:
        return [pb.KernelRoutes(waiting=True)]
    return in_parts(
        pb.KernelRoutes,
        lambda part: pb.KernelRoutes(routes=part),
        _kernel_route,
        found.routes,
        found.differences,
    )


def _kernel_route(found: RouteThere) -> pb.KernelRoute:
    return pb.KernelRoute(
        network=found.network,
        prefix=str(found.prefix),
        node=found.node,
        kept=found.kept,
        there=found.there,
        next_hop="" if found.next_hop is None else str(found.next_hop),
        interface=found.interface,
    )


def parse_response(message: pb.SyncRoutesResponse) -> Response[Resource]:
    """Reads a response. A resource that is wrong is `Unreadable`, and fails alone.

    Raises:
        InvalidInput: The response itself is wrong.
    """
    updated = {
        item.id: _parse(item, f"updated[{index}]") for index, item in enumerate(message.updated)
    }
    return Response(
        message.nonce,
        wire.parse_position(message.position),
        wire.parse_phase(message.phase),
        updated,
        tuple(message.removed),
        message.trace_parent,
    )


def _parse(item: pb.RouteResource, path: str) -> Resource:
    try:
        match item.WhichOneof("resource"):
            case "route":
                return _route(item.route, f"{path}.route")
            case "peer":
                return _peer(item.peer, f"{path}.peer")
            case "visit":
                return _visit(item.visit, f"{path}.visit")
            case "network":
                return _network(item.network, f"{path}.network")
            case _:
                return Unreadable(f"{path}: this agent does not know what it is")
    except InvalidInput as error:
        return Unreadable(error.message)


def _route(message: pb.PrefixRoute, path: str) -> Route:
    return Route(
        NetworkName(_named(message.network, f"{path}.network")),
        _named(message.prefix, f"{path}.prefix"),
        NodeName(_named(message.node, f"{path}.node")),
    )


def _peer(message: pb.Peer, path: str) -> Peer:
    return Peer(
        NetworkName(_named(message.network, f"{path}.network")),
        NodeName(_named(message.node, f"{path}.node")),
        address(message.address, f"{path}.address"),
    )


def _visit(message: pb.Visit, path: str) -> Visit:
    return Visit(
        NetworkName(_named(message.network, f"{path}.network")),
        address(message.address, f"{path}.address"),
        EndpointName(_named(message.name, f"{path}.name")),
        NodeName(_named(message.node, f"{path}.node")),
        NodeName(message.to_node) if message.to_node else None,
        message.ready,
        message.known,
    )


def _network(message: network_pb2.Network, path: str) -> Network:
    network = read_message(Network, message, path, leave=_NOT_FOR_AGENTS)
    _named(network.name, f"{path}.name")
    if network.gateway is not None and network.gateway.version != network.cidr.version:
        raise InvalidInput.at(
            f"{path}.gateway", f"{network.gateway} is not of {network.cidr}'s family"
        )
    if network.vlan_id > _VLAN_MOST:
        raise InvalidInput.at(f"{path}.vlan_id", f"{network.vlan_id} is above {_VLAN_MOST}")
    return network


def _named(text: str, path: str) -> str:
    if not text:
        raise InvalidInput.at(path, "is missing")
    return text
