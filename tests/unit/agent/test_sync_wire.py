from __future__ import annotations

import ipaddress

import pytest
from romana.ipam.v1 import sync_routes_pb2 as pb
from romana.sync.v1 import sync_pb2
from romana.topology.v1 import network_pb2

from services.agent.routing.messages import parse_response
from services.agent.routing.resources import Peer, Route, Unreadable
from services.common.errors import InvalidInput
from services.common.model.network import Mode, Network


def response(*resources: pb.RouteResource) -> pb.SyncRoutesResponse:
    return pb.SyncRoutesResponse(nonce=3, phase=sync_pb2.PHASE_DELTA, updated=resources)


def network(**fields: object) -> pb.RouteResource:
    message = network_pb2.Network(name="a", cidr="10.1.0.0/16", block_length=29, **fields)  # type: ignore[arg-type]
    return pb.RouteResource(id="network/a", network=message)


def test_resources_are_read() -> None:
    parsed = parse_response(
        response(
            network(gateway="10.1.0.1", mode=network_pb2.ATTACHMENT_MODE_ONLINK),
            pb.RouteResource(id="p", peer=pb.Peer(network="a", node="n", address="10.1.0.2")),
            pb.RouteResource(
                id="r", route=pb.PrefixRoute(network="a", prefix="10.1.1.0/24", node="n")
            ),
        )
    )
    assert [type(value) for value in parsed.updated.values()] == [Network, Peer, Route]
    found = parsed.updated["network/a"]
    assert isinstance(found, Network)
    assert found.mode is Mode.ONLINK
    assert found.gateway == ipaddress.ip_address("10.1.0.1")


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        (network(gateway="fd00::1"), "updated[0].network.gateway"),
        (network(gateway="x"), "updated[0].network.gateway"),
        (network(vlan_id=5000), "updated[0].network.vlan_id"),
        (network(mode=99), "updated[0].network.mode"),
        (pb.RouteResource(id="p", peer=pb.Peer(network="a", node="n")), "updated[0].peer.address"),
        (
            pb.RouteResource(id="r", route=pb.PrefixRoute(network="a", node="n")),
            "updated[0].route.prefix",
        ),
        (pb.RouteResource(id="new"), "updated[0]"),
    ],
)
def test_a_wrong_resource_fails_alone_with_its_field(resource: pb.RouteResource, path: str) -> None:
    good = pb.RouteResource(id="ok", peer=pb.Peer(network="a", node="n", address="10.1.0.2"))
    parsed = parse_response(response(resource, good))
    found = parsed.updated[resource.id]
    assert isinstance(found, Unreadable)
    assert found.message.startswith(f"{path}:")
    assert isinstance(parsed.updated["ok"], Peer)


def test_a_response_without_a_phase_is_refused() -> None:
    with pytest.raises(InvalidInput):
        parse_response(pb.SyncRoutesResponse(nonce=1))
