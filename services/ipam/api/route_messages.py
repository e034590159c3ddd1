"""`SyncRoutes` and `GetSyncStatus` messages as values, and back."""

from __future__ import annotations

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from romana.ipam.v1 import sync_routes_pb2 as pb
from romana.topology.v1 import network_pb2

from services.common.model.names import EndpointName, NetworkName, NodeName, TopologyName
from services.common.model.network import Address, Network
from services.common.rpc.models import to_message
from services.common.sync import wire
from services.common.sync.encoding import dialect, serialise
from services.common.sync.hub import Status
from services.ipam.model import Visit
from services.ipam.routes.source import Encoding


def network(identity: str, value: Network, topology: TopologyName) -> bytes:
    message = to_message(network_pb2.Network, value, topology=topology)
    return serialise(pb.RouteResource(id=identity, network=message))


def peer(identity: str, network: NetworkName, node: NodeName, address: Address) -> bytes:
    message = pb.Peer(network=network, node=node, address=str(address))
    return serialise(pb.RouteResource(id=identity, peer=message))


def route(identity: str, network: NetworkName, prefix: str, node: NodeName) -> bytes:
    message = pb.PrefixRoute(network=network, prefix=prefix, node=node)
    return serialise(pb.RouteResource(id=identity, route=message))


def visit(
    identity: str, network: NetworkName, address: str, name: EndpointName, value: Visit
) -> bytes:
    message = pb.Visit(
        network=network,
        address=address,
        name=name,
        node=value.node,
        to_node=value.to or "",
        ready=value.ready,
        known=value.known,
    )
    return serialise(pb.RouteResource(id=identity, visit=message))


ENCODING: Final = Encoding(network, peer, route, visit)


DIALECT: Final = dialect(pb.SyncRoutesResponse)


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
