"""`SyncRoutes` messages as values, and back."""

from __future__ import annotations

from typing import Final

from romana.ipam.v1 import sync_routes_pb2 as pb
from romana.topology.v1 import network_pb2

from services.agent.routing.resources import Peer, Resource, Route, Unreadable
from services.agent.streams.parsing import address, prefix
from services.common.errors import InvalidInput
from services.common.model.names import NetworkName, NodeName, Tenant
from services.common.model.network import Network
from services.common.rpc import enums
from services.common.sync import wire
from services.common.sync.model import Ack, Hello, Response

_VLAN_MOST: Final = 4094


def hello(value: Hello) -> pb.SyncRoutesRequest:
    """The first message."""
    return pb.SyncRoutesRequest(hello=wire.hello(value))


def ack(value: Ack) -> pb.SyncRoutesRequest:
    """Every other."""
    return pb.SyncRoutesRequest(ack=wire.ack(value))


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
    )


def _parse(item: pb.RouteResource, path: str) -> Resource:
    try:
        match item.WhichOneof("resource"):
            case "route":
                return _route(item.route, f"{path}.route")
            case "peer":
                return _peer(item.peer, f"{path}.peer")
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


def _network(message: network_pb2.Network, path: str) -> Network:
    cidr = prefix(message.cidr, f"{path}.cidr")
    gateway = address(message.gateway, f"{path}.gateway") if message.gateway else None
    if gateway is not None and gateway.version != cidr.version:
        raise InvalidInput.at(f"{path}.gateway", f"{gateway} is not of {cidr}'s family")
    if message.vlan_id > _VLAN_MOST:
        raise InvalidInput.at(f"{path}.vlan_id", f"{message.vlan_id} is above {_VLAN_MOST}")
    mode = enums.ATTACHMENT_MODE_OF.get(message.mode)
    if mode is None:
        raise InvalidInput.at(f"{path}.mode", f"{message.mode} is not an AttachmentMode")
    return Network(
        NetworkName(_named(message.name, f"{path}.name")),
        cidr,
        message.block_length,
        tenants=tuple(Tenant(name) for name in message.tenants),
        vlan_id=message.vlan_id,
        gateway=gateway,
        mtu=message.mtu,
        mode=mode,
    )


def _named(text: str, path: str) -> str:
    if not text:
        raise InvalidInput.at(path, "is missing")
    return text
