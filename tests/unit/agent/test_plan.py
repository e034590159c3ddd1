"""The plan's decisions that the kernel tests do not show."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from services.agent.kernel import route_bytes
from services.agent.kernel.numbers import (
    ASTRAY_PRIORITY,
    INCOMING_PRIORITY,
    LINK_GROUP,
    Numbers,
)
from services.agent.kernel.state import Action, Interface, InterfaceAddress, Kind, VlanLink
from services.agent.model import EndpointAddress, LocalEndpoint, Myself, Remote
from services.agent.routing.plan import Desired, Wanted, plan
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Mode, Network
from services.common.model.node import Attachment

A, B = NetworkName("a"), NetworkName("b")
ME, OTHER = NodeName("me"), NodeName("other")
E0 = Interface("e0", 2, addresses=(ipaddress.ip_interface("192.168.0.2/24"),))
NETWORK = Network(A, ipaddress.ip_network("10.1.0.0/16"), 29)
REMOTE = Remote(
    {A: NETWORK},
    {
        (A, ME): ipaddress.ip_address("192.168.0.2"),
        (A, OTHER): ipaddress.ip_address("192.168.0.3"),
    },
    {(A, ipaddress.ip_network("10.1.1.0/24")): OTHER},
)


def planned(
    remote: Remote = REMOTE,
    attachments: tuple[Attachment, ...] = (),
    interfaces: tuple[Interface, ...] = (E0,),
    endpoints: tuple[LocalEndpoint, ...] = (),
    made_addresses: Mapping[str, frozenset[InterfaceAddress]] = MappingProxyType({}),
) -> Desired:
    peers = [f"{network}/{node}" for network, node in remote.peers]
    return plan(
        Wanted(
            Myself(ME, attachments),
            remote,
            {endpoint.name: endpoint for endpoint in endpoints},
            {interface.name: interface for interface in interfaces},
            Numbers.none().assigned(remote.networks, peers),
            made_addresses,
        )
    )


def endpoint(network: NetworkName = A, interface: str = "h1") -> LocalEndpoint:
    address = EndpointAddress(ipaddress.ip_address("10.1.2.3"), network)
    return LocalEndpoint(EndpointName("e"), Tenant("t"), Segment(""), interface, (address,))


def test_a_node_without_settings_is_found_by_its_address() -> None:
    desired = planned()
    assert not desired.problems
    assert [item.interface for item in desired.attachments] == ["e0"]
    assert len(desired.state.nexthops) == 1


def test_two_networks_on_one_interface_are_told_apart_by_destination() -> None:
    second = Network(B, ipaddress.ip_network("10.2.0.0/16"), 29)
    remote = replace(
        REMOTE,
        networks={A: NETWORK, B: second},
        peers={**REMOTE.peers, (B, ME): ipaddress.ip_address("192.168.0.2")},
    )
    rules = [r for r in planned(remote).state.rules if r.priority == INCOMING_PRIORITY]
    assert {rule.destination for rule in rules} == {NETWORK.cidr, second.cidr}


def test_what_another_networks_table_does_not_know_goes_nowhere() -> None:
    """Two networks on one interface, of which one has a gateway, and one on another interface."""
    second = Network(B, ipaddress.ip_network("10.2.0.0/16"), 29)
    gateway = ipaddress.ip_address("192.168.0.1")
    remote = replace(
        REMOTE,
        networks={A: NETWORK, B: replace(second, gateway=gateway)},
        peers={**REMOTE.peers, (B, ME): ipaddress.ip_address("192.168.0.2")},
    )
    desired = planned(remote)
    tables = {name: table for table, name in desired.networks.items()}
    astray = [rule for rule in desired.state.rules if rule.priority == ASTRAY_PRIORITY]
    assert [(rule.interface, rule.table) for rule in astray] == [("e0", tables[B])]
    nowhere = [rule for rule in desired.state.rules if rule.action is Action.UNREACHABLE]
    assert [(rule.interface, rule.priority > ASTRAY_PRIORITY) for rule in nowhere] == [("e0", True)]


def test_a_node_behind_a_router_is_reached_by_the_gateway() -> None:
    far = {**REMOTE.peers, (A, OTHER): ipaddress.ip_address("172.16.0.3")}
    gateway = replace(NETWORK, gateway=ipaddress.ip_address("192.168.0.1"))
    desired = planned(replace(REMOTE, networks={A: gateway}, peers=far))
    assert not desired.state.nexthops
    assert [route_bytes.key_prefix(key).prefixlen for key in desired.state.routes] == [0]


def test_an_endpoints_own_route_wins_over_its_nodes_prefix() -> None:
    prefix = ipaddress.ip_network("10.1.2.3/32")
    remote = replace(REMOTE, routes={(A, prefix): ME})
    desired = planned(remote, interfaces=(E0, Interface("h1", 9)), endpoints=(endpoint(),))
    table = next(iter(desired.networks))
    assert desired.state.routes[route_bytes.route_key(table, prefix)] == route_bytes.on_link(4, 9)


def test_what_cannot_be_planned_is_named() -> None:
    assert planned(endpoints=(endpoint(),)).problems == {"endpoint/e": "interface h1 is not there"}
    down = Interface("h1", 9, up=False)
    assert (
        "is down" in planned(interfaces=(E0, down), endpoints=(endpoint(),)).problems["endpoint/e"]
    )
    unknown = planned(interfaces=(E0, Interface("h1", 9)), endpoints=(endpoint(B),))
    assert "network b" in unknown.problems["endpoint/e"]
    nowhere = planned(interfaces=())
    assert "192.168.0.2" in nowhere.problems["network/a"]


def test_owners_are_resources_of_the_stream() -> None:
    desired = planned()
    owners = {desired.owner(Kind.ROUTE, key) for key in desired.state.routes}
    assert "route/a/10.1.1.0/24" in owners
    assert {desired.owner(Kind.NEXTHOP, key) for key in desired.state.nexthops} == {"peer/a/other"}


def test_a_vlan_link_of_an_onlink_network_gets_the_nodes_address_there() -> None:
    onlink = replace(NETWORK, mode=Mode.ONLINK, mtu=1400)
    six = Network(B, ipaddress.ip_network("fd00::/64"), 125, mode=Mode.ONLINK)
    remote = replace(REMOTE, networks={A: onlink, B: six})
    four_own, six_own = ipaddress.ip_address("10.1.0.9"), ipaddress.ip_address("fd00::9")
    four = Attachment(A, "e0.5", four_own, 5, "e0")
    desired = planned(remote, (four, replace(four, network=B, address=six_own)))
    made = frozenset(map(ipaddress.ip_interface, ("10.1.0.9/16", "fd00::9/64")))
    assert desired.state.links == {"e0.5": VlanLink("e0", 5, 1400, made)}


def test_a_vlan_link_whose_address_has_no_length_is_a_problem() -> None:
    attachment = Attachment(A, "e0.5", ipaddress.ip_address("192.168.0.2"), 5, "e0")
    made = {"e0.5": frozenset([ipaddress.ip_interface("192.168.0.2/24")])}
    unknown = planned(attachments=(attachment,))
    assert "192.168.0.2 of e0.5 has no length" in unknown.problems["network/a"]
    known = planned(attachments=(attachment,), made_addresses=made)
    assert known.state.links == {"e0.5": VlanLink("e0", 5, 0, made["e0.5"])}
    assert "no length" not in known.problems.get("network/a", "")


def test_a_vlan_link_that_we_make_heeds_no_router_advertisements() -> None:
    """Else it has addresses and routes that nobody asked for; what others made goes on heeding."""
    own = ipaddress.ip_interface("fd00::9/64")
    six = Network(B, ipaddress.ip_network("fd00::/64"), 125, mode=Mode.ONLINK)
    remote = Remote({B: six}, {(B, ME): own.ip}, {})
    there = Interface(
        "e0.5", 7, kind="vlan", parent=2, vlan_id=5, group=LINK_GROUP, addresses=(own,), accept_ra=1
    )
    heeds = replace(E0, accept_ra=1)
    sysctls = planned(
        remote, (Attachment(B, "e0.5", own.ip, 5, "e0"),), (heeds, there)
    ).state.sysctls
    found = {path: value for path, value in sysctls.items() if path.endswith("accept_ra")}
    assert found == {"net/ipv6/conf/e0.5/accept_ra": "0", "net/ipv6/conf/e0/accept_ra": "2"}


def test_a_vlan_link_with_more_than_its_parent_takes_is_a_problem_and_has_what_that_takes() -> None:
    remote = replace(REMOTE, networks={A: replace(NETWORK, mtu=9000)})
    attachment = Attachment(A, "e0.5", ipaddress.ip_address("192.168.0.2"), 5, "e0")
    made = {"e0.5": frozenset([ipaddress.ip_interface("192.168.0.2/24")])}
    desired = planned(remote, (attachment,), made_addresses=made)
    expected = "the MTU of e0.5 is to be 9000 bytes, and e0 below it has 1500"
    assert desired.problems["network/a"] == expected
    assert desired.state.links == {"e0.5": VlanLink("e0", 5, 0, made["e0.5"])}


def test_a_vlan_link_is_made_unless_somebody_made_the_same() -> None:
    attachment = Attachment(A, "e0.5", ipaddress.ip_address("192.168.0.2"), 5, "e0")
    made = planned(attachments=(attachment,))
    assert made.state.links == {"e0.5": VlanLink("e0", 5)}
    same = Interface("e0.5", 7, kind="vlan", parent=2, vlan_id=5)
    used = planned(attachments=(attachment,), interfaces=(E0, same))
    assert not used.state.links
    assert not used.problems
    other = replace(same, vlan_id=6)
    refused = planned(attachments=(attachment,), interfaces=(E0, other))
    assert "somebody else's" in refused.problems["network/a"]
