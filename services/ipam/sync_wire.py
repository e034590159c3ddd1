"""`SyncRoutes` and `GetSyncStatus` messages as values, and back."""

from __future__ import annotations

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from romana.ipam.v1 import sync_routes_pb2 as pb
from romana.topology.v1 import network_pb2

from services.common.errors import InvalidInput
from services.common.model.names import NetworkName, NodeName, TopologyName
from services.common.model.network import Address, Mode, Network, Placement
from services.common.sync import wire
from services.common.sync.hub import Status
from services.common.sync.model import Ack, Hello
from services.common.sync.source import Piece
from services.common.sync.stream_server import Dialect
from services.ipam.route_source import Encoding

_MODES: Final = {
    Mode.ROUTED: network_pb2.ATTACHMENT_MODE_ROUTED,
    Mode.ONLINK: network_pb2.ATTACHMENT_MODE_ONLINK,
}
_PLACEMENTS: Final = {
    Placement.AGGREGATE: network_pb2.PLACEMENT_STRATEGY_AGGREGATE,
    Placement.SEQUENTIAL: network_pb2.PLACEMENT_STRATEGY_SEQUENTIAL,
}
_UPDATED_TAG: Final = bytes([pb.SyncRoutesResponse.UPDATED_FIELD_NUMBER << 3 | 2])
"""Key of a length-delimited field below 16."""


def network(identity: str, value: Network, topology: TopologyName) -> bytes:
    """A network, serialised."""
    message = network_pb2.Network(
        name=value.name,
        cidr=str(value.cidr),
        block_length=value.block_length,
        tenants=value.tenants,
        vlan_id=value.vlan_id,
        gateway=str(value.gateway) if value.gateway is not None else "",
        mtu=value.mtu,
        mode=_MODES[value.mode],
        placement=_PLACEMENTS[value.placement],
        topology=topology,
    )
    message.reuse_delay.FromNanoseconds(round(value.reuse_delay * 1e9))
    return _serialise(pb.RouteResource(id=identity, network=message))


def peer(identity: str, network: NetworkName, node: NodeName, address: Address) -> bytes:
    """A node's address, serialised."""
    message = pb.Peer(network=network, node=node, address=str(address))
    return _serialise(pb.RouteResource(id=identity, peer=message))


def route(identity: str, network: NetworkName, prefix: str, node: NodeName) -> bytes:
    """A route, serialised."""
    message = pb.PrefixRoute(network=network, prefix=prefix, node=node)
    return _serialise(pb.RouteResource(id=identity, route=message))


ENCODING: Final = Encoding(network, peer, route)


def parse_request(message: pb.SyncRoutesRequest) -> Hello | Ack:
    """Reads what an agent says; raises InvalidInput."""
    match message.WhichOneof("message"):
        case "hello":
            return wire.parse_hello(message.hello, "hello")
        case "ack":
            return wire.parse_ack(message.ack)
        case _:
            raise InvalidInput.at("message", "is missing")


def nonce(number: int) -> bytes:
    """A response with nothing but its nonce."""
    return pb.SyncRoutesResponse(nonce=number).SerializeToString()


def body(piece: Piece) -> bytes:
    """A response without its nonce. Resources are put in as they are, serialised before."""
    head = pb.SyncRoutesResponse(
        position=wire.position(piece.position),
        phase=wire.PHASES[piece.phase],
        removed=piece.removed,
    )
    parts = [head.SerializeToString()]
    for value in piece.updated.values():
        parts += (_UPDATED_TAG, _varint(len(value)), value)
    return b"".join(parts)


DIALECT: Final = Dialect(parse_request, nonce, body)


def status(value: Status, replica: str) -> pb.NodeSyncStatus:
    """What is known of a node's stream here."""
    message = pb.NodeSyncStatus(
        node=value.node,
        connected=value.connected,
        replica=replica,
        agent_version=value.agent_version,
        failures=[wire.failure(item) for item in value.failures],
        update_time=timestamp(value.update_time),
    )
    if value.sent is not None:
        message.sent.CopyFrom(wire.position(value.sent))
    if value.applied is not None:
        message.applied.CopyFrom(wire.position(value.applied))
    return message


def timestamp(seconds: float) -> Timestamp:
    """Unix time, to the millisecond."""
    made = Timestamp()
    made.FromMilliseconds(int(seconds * 1000))
    return made


def _serialise(message: pb.RouteResource) -> bytes:
    return message.SerializeToString(deterministic=True)


def _varint(number: int) -> bytes:
    """https://protobuf.dev/programming-guides/encoding/#varints"""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
