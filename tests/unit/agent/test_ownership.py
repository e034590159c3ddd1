"""Whether ipam and a node agree on an endpoint's addresses."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from services.agent.endpoints.ipam_client import Allocated
from services.agent.endpoints.ownership import differs, is_covered, owned
from services.agent.model import EndpointAddress, LocalEndpoint, Remote
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant

N, M = NetworkName("n"), NetworkName("m")
ME, OTHER = NodeName("me"), NodeName("other")
GIVEN = (EndpointAddress(ip_address("10.0.0.1"), N), EndpointAddress(ip_address("fd00::1"), M))
ENDPOINT = LocalEndpoint(EndpointName("a"), Tenant("t"), Segment(""), "rom1", GIVEN)


def test_the_same_in_any_order_is_no_difference() -> None:
    for given in (GIVEN, GIVEN[::-1]):
        assert not differs(ENDPOINT, Allocated(given, Tenant("t"), Segment("")))


@pytest.mark.parametrize(
    "known",
    [
        None,
        Allocated(GIVEN[:1], Tenant("t"), Segment("")),
        Allocated(GIVEN, Tenant("other"), Segment("")),
        Allocated(GIVEN, Tenant("t"), Segment("s")),
    ],
)
def test_less_or_another_owner_is_a_difference(known: Allocated | None) -> None:
    assert differs(ENDPOINT, known)


def test_an_endpoint_is_covered_by_prefixes_of_its_own_node_and_network() -> None:
    routes = {
        (N, ip_network("10.0.0.0/29")): ME,
        (N, ip_network("10.0.1.0/29")): OTHER,
        (M, ip_network("fd00::/125")): ME,
    }
    assert is_covered(ENDPOINT, owned(Remote(routes=routes), ME))
    for lost in list(routes):
        rest = {key: node for key, node in routes.items() if key != lost}
        expected = routes[lost] == OTHER
        assert is_covered(ENDPOINT, owned(Remote(routes=rest), ME)) is expected
