from __future__ import annotations

from typing import Any

import pytest
from romana.agent.v1 import endpoint_pb2 as pb

from services.agent.api.messages import parse_spec
from services.agent.kernel.wiring import DefaultRoute
from services.common.errors import InvalidInput

CONTAINER = pb.EndpointTarget(namespace=pb.NamespaceTarget(path="/run/netns/a"))
VM = pb.EndpointTarget(interface=pb.InterfaceTarget(interface="tap0"))


def spec(target: pb.EndpointTarget = CONTAINER, **more: Any) -> pb.EndpointSpec:
    return pb.EndpointSpec(name="a", tenant="t", target=target, **more)


def wrong(message: pb.EndpointSpec) -> set[str]:
    with pytest.raises(InvalidInput) as caught:
        parse_spec(message)
    return {one.path for one in caught.value.violations}


def test_routes_and_the_mac_address_of_a_container() -> None:
    read = parse_spec(
        spec(
            default_route=pb.ENDPOINT_DEFAULT_ROUTE_NEVER,
            routes=["10.0.0.0/8", "10.0.0.0/8", "fd00::/8"],
            mac="02-00-00-00-00-0A",
        )
    )
    assert read.default_route is DefaultRoute.NEVER
    assert read.routes == ("10.0.0.0/8", "fd00::/8")
    assert read.mac == "02:00:00:00:00:0a"
    assert parse_spec(spec()).default_route is DefaultRoute.AUTO


def test_what_is_wrong_with_them_is_said_by_field() -> None:
    message = spec(routes=["10.0.0.0/8", "0.0.0.0/0", "10.0.0.1/8"], mac="01:00:5e:00:00:01")
    assert wrong(message) == {"spec.routes[1]", "spec.routes[2]", "spec.mac"}
    odd = spec()
    odd.default_route = 9  # type: ignore[assignment]
    assert wrong(odd) == {"spec.default_route"}


def test_they_are_not_for_an_interface_that_is_there_already() -> None:
    message = spec(
        VM,
        default_route=pb.ENDPOINT_DEFAULT_ROUTE_ALWAYS,
        routes=["10.0.0.0/8"],
        mac="02:00:00:00:00:0a",
    )
    assert wrong(message) == {"spec.default_route", "spec.routes", "spec.mac"}
