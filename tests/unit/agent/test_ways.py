from __future__ import annotations

import ipaddress
from dataclasses import replace

from services.agent.kernel.numbers import NEAR_WAY_PRIORITY, TRANSLATED_PRIORITY, WAY_PRIORITY
from services.agent.kernel.route_bytes import MAIN_TABLE
from services.agent.kernel.state import Interface, Rule
from services.agent.routing.node_networks import Place
from services.agent.routing.ways import MAIN, way, way_rules
from services.common.model.names import NetworkName
from services.common.model.network import Network


def place(name: str, cidr: str, table: int, interface: str = "v1", gateway: str = "") -> Place:
    network = Network(
        NetworkName(name),
        ipaddress.ip_network(cidr),
        29,
        gateway=ipaddress.ip_address(gateway) if gateway else None,
    )
    return Place(network, table, Interface(interface, 2), None, shared=False)


def of(priority: int, *places: Place, ways: dict[str, int]) -> set[Rule]:
    named = {one.network.name: one for one in places}
    return {rule for _, rule in way_rules(named, ways) if rule.priority == priority}


def test_networks_that_share_an_interface_share_its_way_back() -> None:
    a = replace(place("a", "10.1.0.0/24", 1), shared=True)
    b = replace(place("b", "10.2.0.0/24", 2, gateway="10.2.0.1"), shared=True)
    ways = {"v1": 4}
    near = {(rule.destination, rule.table) for rule in of(NEAR_WAY_PRIORITY, a, b, ways=ways)}
    assert near == {(a.network.cidr, 1), (b.network.cidr, 2)}
    (back,) = of(WAY_PRIORITY, a, b, ways=ways)
    assert (back.table, back.mark) == (2, way("v1", ways))


def test_who_is_on_the_link_itself_is_answered_directly() -> None:
    link = [
        ipaddress.ip_interface(text) for text in ("192.168.1.2/24", "10.1.0.2/24", "fd00::2/64")
    ]
    a = place("a", "10.1.0.0/16", 1, gateway="192.168.1.1")
    a = replace(a, interface=replace(a.interface, addresses=tuple(link)))
    (near,) = of(NEAR_WAY_PRIORITY, a, ways={"v1": 4})
    assert (str(near.destination), near.table) == ("192.168.1.0/24", MAIN_TABLE)


def test_an_interface_without_a_number_goes_back_by_main() -> None:
    a = place("a", "10.1.0.0/24", 1)
    assert not of(WAY_PRIORITY, a, ways={})
    assert {rule.mark for rule in of(TRANSLATED_PRIORITY, a, ways={}) if rule.interface} == {MAIN}
