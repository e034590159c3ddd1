"""Where an attached endpoint is, by what ipam says of its addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import NoReturn

import pytest

from services.agent.model import EndpointAddress, LocalEndpoint, Remote, Visit
from services.agent.routing.whereabouts import Whereabouts, endpoints_here, whereabouts
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant

N, VM = NetworkName("n"), EndpointName("vm")
ME, OTHER, THIRD = NodeName("me"), NodeName("other"), NodeName("third")
FOUR, SIX = ip_address("10.0.0.1"), ip_address("fd00::1")
ENDPOINT = LocalEndpoint(
    VM, Tenant("t"), Segment(""), "tap0", (EndpointAddress(FOUR, N), EndpointAddress(SIX, N))
)
CAME = replace(ENDPOINT, moves=True)


def remote(home: NodeName, *visits: tuple[NodeName, NodeName | None]) -> Remote:
    """Visits of the first address, and of the second."""
    found = [
        Visit(N, address, VM, node, to)
        for address, (node, to) in zip((FOUR, SIX), visits, strict=False)
    ]
    routes = {(N, ip_network(prefix)): home for prefix in ("10.0.0.0/29", "fd00::/125")}
    return Remote(routes=routes, visits={(one.network, one.address): one for one in found})


@pytest.mark.parametrize(
    ("endpoint", "known", "expected"),
    [
        (ENDPOINT, remote(ME), Whereabouts.HERE),
        # one that has not come by a move is here whatever routes say: `ownership` sees to those
        (ENDPOINT, remote(OTHER), Whereabouts.HERE),
        (ENDPOINT, remote(ME, (ME, OTHER), (ME, OTHER)), Whereabouts.LEAVING),
        (ENDPOINT, remote(ME, (OTHER, None), (OTHER, None)), Whereabouts.ELSEWHERE),
        (CAME, remote(OTHER, (OTHER, ME), (OTHER, ME)), Whereabouts.ARRIVING),
        (CAME, remote(OTHER, (ME, None), (ME, None)), Whereabouts.HERE),
        (CAME, remote(OTHER, (ME, THIRD), (ME, THIRD)), Whereabouts.LEAVING),
        (CAME, remote(OTHER, (OTHER, THIRD), (OTHER, THIRD)), Whereabouts.ELSEWHERE),
        # it was aborted, or the endpoint is home again
        (CAME, remote(OTHER), Whereabouts.ELSEWHERE),
        (CAME, remote(ME), Whereabouts.HERE),
        # a stream has told of one address only
        (ENDPOINT, remote(ME, (OTHER, None)), Whereabouts.ELSEWHERE),
        (CAME, remote(OTHER, (ME, None), (OTHER, ME)), Whereabouts.ARRIVING),
    ],
)
def test_where_it_is(endpoint: LocalEndpoint, known: Remote, expected: Whereabouts) -> None:
    assert whereabouts(endpoint, known, ME) is expected
    is_here = expected in {Whereabouts.HERE, Whereabouts.LEAVING}
    assert (VM in endpoints_here({VM: endpoint}, known, ME)) is is_here


def test_never_on_two_nodes() -> None:
    """Whatever ipam says, of those that have it attached at most one has it."""
    for visit in ((OTHER, None), (OTHER, ME), (ME, OTHER), (ME, None)):
        known = remote(ME, visit, visit)
        here = [
            node
            for node in (ME, OTHER)
            if VM in endpoints_here({VM: ENDPOINT if node == ME else CAME}, known, node)
        ]
        assert here == [visit[0]]


class AskedOnly(dict[object, NodeName]):
    """100,000 routes may not be looked through for one endpoint at every round."""

    def items(self) -> NoReturn:
        raise AssertionError

    __iter__ = keys = values = items  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("prefixes", "expected"),
    [
        ({"10.0.0.0/8": OTHER, "10.0.0.0/31": ME, "10.0.0.2/31": OTHER}, Whereabouts.HERE),
        ({"10.0.0.0/8": ME, "10.0.0.1/32": OTHER}, Whereabouts.ELSEWHERE),
        ({"0.0.0.0/0": ME}, Whereabouts.HERE),
        ({"10.0.0.2/31": ME}, Whereabouts.ELSEWHERE),
    ],
)
def test_what_has_come_home_is_where_the_longest_prefix_leads(
    prefixes: Mapping[str, NodeName], expected: Whereabouts
) -> None:
    routes = AskedOnly({(N, ip_network(text)): node for text, node in prefixes.items()})
    four = replace(CAME, addresses=CAME.addresses[:1])
    assert whereabouts(four, Remote(routes=routes), ME) is expected  # type: ignore[arg-type]
