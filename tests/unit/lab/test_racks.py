"""A lab's racks: what is wrong with a file, and the routes that follow from one."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from lab import acl
from lab.file import parse, topology_document
from lab.routing import Route, Routing, routing
from services.common.errors import InvalidInput

CLUSTERS = Path(__file__).parents[3] / "lab" / "clusters"
GOOD = """
name: small
networks:
  - {name: pods, cidr: 10.1.0.0/16, mode: routed, gateway: 10.0.0.1}
  - {name: six, cidr: "fd00:1::/56", mode: routed, gateway: "fd00::1"}
  - {name: qa, cidr: 10.30.0.0/24, mode: onlink, gateway: 10.30.0.1, vlan_id: 30}
topologies:
  - name: racks
    networks: [pods, six]
    groups:
      - {name: one, assignment: {rack: one}, groups: [{name: a}, {name: b}]}
      - {name: two, assignment: {rack: two}}
  - {name: qa, networks: [qa]}
racks:
  - {name: one, router: [10.0.1.1/24, "fd00:0:0:1::1/64"]}
  - {name: two, router: [10.0.2.1/24]}
router:
  allow: [{from: qa, to: pods}]
nodes:
  - {name: n1, rack: one, labels: {rack: one}, addresses: {pods: 10.0.1.11, six: "fd00:0:0:1::11"}}
  - {name: n2, rack: one, labels: {rack: one}, addresses: {pods: 10.0.1.12, qa: 10.30.0.12}}
  - {name: n3, rack: two, labels: {rack: two}, addresses: {pods: 10.0.2.11}}
endpoints:
  - {name: e1, node: n1, tenant: shop, network: six}
machines:
  - {name: printer, network: qa, address: 10.30.0.20}
"""


def read(text: str) -> Routing:
    return routing(parse(text), text)


def route(prefix: str, via: str = "", interface: str = "") -> Route:
    return Route(ip_network(prefix), ip_address(via) if via else None, interface)


def test_the_core_router_has_a_route_a_rack_and_network_beside_those_to_the_racks_links() -> None:
    assert {*read(GOOD).core} == {
        route("10.0.1.0/24", "198.19.0.1", "one"),
        route("fd00:0:0:1::/64", "2001:2::1", "one"),
        route("10.1.0.0/17", "198.19.0.1", "one"),
        route("fd00:1::/57", "2001:2::1", "one"),
        route("10.0.2.0/24", "198.19.0.3", "two"),
        route("10.1.128.0/17", "198.19.0.3", "two"),
        route("10.1.0.0/16"),
        route("fd00:1::/56"),
    }


def test_the_router_of_a_rack_has_a_route_a_node_and_network() -> None:
    assert {*read(GOOD).racks["one"]} == {
        route("10.1.0.0/18", "10.0.1.11", "nodes"),
        route("10.1.64.0/18", "10.0.1.12", "nodes"),
        route("10.1.0.0/17"),
        route("fd00:1::/58", "fd00:0:0:1::11", "nodes"),
        route("fd00:1::/57"),
        route("0.0.0.0/0", "198.19.0.0", "core"),
        route("::/0", "2001:2::", "core"),
    }


def test_a_node_that_has_all_of_its_rack_leaves_nothing_unreachable() -> None:
    assert {*read(GOOD).racks["two"]} == {
        route("10.1.128.0/17", "10.0.2.11", "nodes"),
        route("0.0.0.0/0", "198.19.0.2", "core"),
    }


def test_a_lab_without_racks_has_no_routes() -> None:
    assert read((CLUSTERS / "datacenter.yaml").read_text()) == Routing()


@pytest.mark.parametrize(
    ("before", "after", "path", "message"),
    [
        ("gateway: 10.0.0.1", "gateway: 10.0.1.2", "networks[0].gateway", "subnet of one"),
        ("gateway: 10.0.0.1", "gateway: fd00::2", "networks[0].gateway", "family"),
        ("mode: routed", "mode: routed, vlan_id: 9", "networks[0].vlan_id", "cables"),
        ("10.1.0.0/16", "198.19.0.0/16", "networks[0].cidr", "lab's routers"),
        ("name: one, router", "name: a-rack-with-a-long-name, router", "racks[0].name", "15"),
        ("name: two, router", "name: one, router", "racks[1].name", "taken"),
        ("name: two, router", "name: n1, router", "nodes[0].name", "taken"),
        ("router: [10.0.2.1/24]", "router: []", "racks[1].router", "no address"),
        ("[10.0.2.1/24]", "[10.0.2.1/24, 10.0.3.1/24]", "racks[1].router", "one family"),
        ("[10.0.2.1/24]", "[10.0.2.1]", "racks[1].router[0]", "length"),
        ("[10.0.2.1/24]", "[10.0.2.0/24]", "racks[1].router[0]", "first or last"),
        ("[10.0.2.1/24]", "[10.0.1.129/25]", "racks[1].router[0]", "overlaps one's"),
        ("[10.0.2.1/24]", "[10.1.2.1/24]", "racks[1].router[0]", "overlaps network pods"),
        ("[10.0.2.1/24]", "[here]", "racks[1].router[0]", "address"),
        ("n3, rack: two,", "n3,", "nodes[2].addresses.pods", "has to be in a rack"),
        ("n3, rack: two,", "n3, rack: three,", "nodes[2].rack", "no rack"),
        ("{pods: 10.0.2.11}", "{pods: 10.0.1.13}", "nodes[2].addresses.pods", "not in two's"),
        ("{pods: 10.0.2.11}", "{six: 10.0.2.11}", "nodes[2].addresses.six", "family"),
        ("{pods: 10.0.2.11}", "{pods: 10.0.2.1}", "nodes[2].addresses.pods", "router of two"),
        ("{pods: 10.0.2.11}", "{qa: 10.30.0.13}", "nodes[2].rack", "on no routed network"),
        ("network: qa, address", "network: pods, address", "machines[0].network", "routed"),
        ("name: small", "name: small\ntrunk: true", "trunk", "no trunks"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_path(
    before: str, after: str, path: str, message: str
) -> None:
    assert before in GOOD
    assert message in wrong(GOOD.replace(before, after, 1))[path]


@pytest.mark.parametrize(
    ("before", "after", "path", "message"),
    [
        ("{name: two, assignment", "{name: other, assignment", "racks[1].name", "no groups named"),
        ("[{name: a}, {name: b}]", "[{name: a}, {name: two}]", "racks[1].name", "2 groups named"),
        ("[{name: a}, {name: b}]", "[{name: a}]", "nodes[1].labels", "n2 and n1 are both in"),
        ("two, labels: {rack: two}", "two, labels: {rack: one}", "nodes[2].labels", "racks/one/"),
        ("two, labels: {rack: two}", "two, labels: {}", "nodes[2].labels", "fit no group"),
        ("networks: [pods, six]", "networks: [pods]", "networks[1].name", "in no topology"),
        ("assignment: {rack: two}", "weight: -1", "topologies[0].groups[1].weight", ""),
    ],
)
def test_what_only_the_carved_topology_can_tell_is_said_too(
    before: str, after: str, path: str, message: str
) -> None:
    assert before in GOOD
    assert message in wrong(GOOD.replace(before, after, 1))[path]


def test_a_routed_network_needs_racks_and_racks_need_one_and_a_topology() -> None:
    head, _, tail = GOOD.partition("racks:\n  - {name: one, router")
    no_racks = head + tail[tail.index("router:\n") :]
    assert "`racks` has none" in wrong(no_racks)["networks[0].mode"]
    assert "mode: routed" in wrong(GOOD.replace("mode: routed", "mode: onlink"))["racks"]
    head, _, tail = GOOD.partition("topologies:")
    assert "needs one" in wrong(head + tail[tail.index("racks:\n") :])["topologies"]


def test_a_network_without_mode_is_onlink_for_the_service_too() -> None:
    text = topology_document(GOOD.replace("mode: onlink, ", ""))
    assert "mode: onlink" in text


def test_racks_see_a_vlan_as_addresses_and_the_core_as_an_interface() -> None:
    lab = parse(GOOD)
    assert 'iifname "vlan30" ip daddr { 10.1.0.0/16 } accept' in acl.rendered(lab)
    assert "ip saddr { 10.30.0.0/24 } ip daddr { 10.1.0.0/16 } accept" in acl.rendered_in_rack(lab)
    inside = "{ 10.1.0.0/16, 10.0.1.0/24, 10.0.2.0/24 }"
    for rules in (acl.rendered(lab), acl.rendered_in_rack(lab)):
        assert f"ip saddr {inside} ip daddr {inside} accept" in rules


def wrong(text: str) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        read(text)
    return {violation.path: violation.message for violation in caught.value.violations}
