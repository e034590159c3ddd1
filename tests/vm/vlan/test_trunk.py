"""Real 802.1Q: two nodes and a router on tagged ports of a VLAN-aware bridge.

`make test-vlan` runs these in a VM with a stock Debian kernel.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface
from typing import TypeVar

import pytest

from lab import links
from lab.capture import Capture
from lab.fabric import FABRIC, ROUTER, Fabric, down
from lab.file import parse
from lab.namespaces import call, name_of, path_of, run
from lab.probe import Outcome
from lab.spec import TRUNK_INTERFACE, Lab, Node
from services.agent.kernel.diff import KindChange
from services.agent.kernel.interfaces import Interfaces
from services.agent.kernel.iproute import Routing
from services.agent.kernel.netlink import Netlink
from services.agent.kernel.numbers import LINK_GROUP
from services.agent.kernel.state import Key, Kind, Value, VlanLink
from services.agent.kernel.vlan_links import VLAN_ALIAS, VlanLinks
from tests.support import probing
from tests.vm.vlan.needs import TRUNK

T = TypeVar("T")

TEXT = """
name: {name}
trunk: true
networks:
  - {{name: test, cidr: 10.20.0.0/24, vlan_id: 20, gateway: 10.20.0.1}}
  - {{name: qa, cidr: 10.30.0.0/24, vlan_id: 30, gateway: 10.30.0.1}}
  - {{name: production, cidr: 10.40.0.0/24, vlan_id: 40, gateway: 10.40.0.1}}
router:
  allow: [{{from: test, to: qa}}]
nodes:
  - {{name: n1, addresses: {{test: 10.20.0.11, production: 10.40.0.11}}}}
  - {{name: n2, addresses: {{test: 10.20.0.12, qa: 10.30.0.12}}}}
machines:
  - {{name: plain, network: test, address: 10.20.0.21}}
  - {{name: other, network: qa, address: 10.30.0.21}}
"""

pytestmark = [TRUNK, pytest.mark.timeout(300)]


def wanted(lab: Lab, node: Node) -> dict[Key, Value]:
    """The links that a node's agent has to make."""
    return {
        vlan.interface: VlanLink(
            TRUNK_INTERFACE, vlan.vlan_id, 0, frozenset({ip_interface(vlan.on_link(address))})
        )
        for vlan, address in ((lab.network(name), each) for name, each in node.addresses.items())
    }


def with_links(lab: Lab, node: str, work: Callable[[VlanLinks], T]) -> T:
    """Does something with the agent's driver in a node's namespace."""

    def inside() -> T:
        routing = Routing()
        try:
            with Netlink() as netlink:
                return work(VlanLinks(Interfaces(netlink), routing))
        finally:
            routing.close()

    return call(path_of(lab.name, node), inside)


def at(lab: Lab, host: str, command: str) -> str:
    """What `ip` says in a host's namespace."""
    return run(["ip", "-json", "-netns", name_of(lab.name, host), *command.split()])


def names_of(lab: Lab, node: str) -> set[str]:
    found = json.loads(at(lab, node, "link"))
    return {link["ifname"] for link in found}


def make_links(lab: Lab, node: Node) -> None:
    step = KindChange(Kind.LINK, wanted(lab, node), {}, {})
    assert with_links(lab, node.name, lambda driver: driver.apply(step)) == {}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Its nodes' VLAN links are made by the agent's code."""
    made = parse(TEXT.format(name=f"trunk-{uuid.uuid4().hex[:6]}"))
    Fabric(made).up()
    for node in made.nodes:
        make_links(made, node)
        gateway = made.network("test").gateway
        at(made, node.name, f"route add default via {gateway}")
    yield made
    down(made.name)


def test_the_agent_reads_back_the_links_that_it_made(lab: Lab) -> None:
    for node in lab.nodes:
        assert with_links(lab, node.name, lambda driver: driver.read()) == wanted(lab, node)


def test_the_agent_removes_and_remakes_only_its_own(lab: Lab) -> None:
    (node,) = (each for each in lab.nodes if each.name == "n1")
    at(lab, "n1", f"link add link {TRUNK_INTERFACE} name theirs type vlan id 99")
    removal = KindChange(Kind.LINK, {}, {}, {"vlan40": None, "theirs": None})
    assert with_links(lab, "n1", lambda driver: driver.apply(removal)) == {}
    assert {"theirs", TRUNK_INTERFACE, "vlan20"} <= names_of(lab, "n1")
    assert {*with_links(lab, "n1", VlanLinks.read)} == {"vlan20"}
    at(lab, "n1", "link del theirs")
    make_links(lab, node)
    assert {*with_links(lab, "n1", VlanLinks.read)} == {"vlan20", "vlan40"}


def test_a_link_that_was_made_and_not_finished_is_known_as_ours(lab: Lab) -> None:
    """As a crash between making it and its alias leaves it."""
    (node,) = (each for each in lab.nodes if each.name == "n1")
    at(lab, "n1", "link del vlan40")
    made = f"link add link {TRUNK_INTERFACE} name vlan40 group {LINK_GROUP}"
    at(lab, "n1", f"{made} type vlan id {lab.network('production').vlan_id}")
    make_links(lab, node)
    assert with_links(lab, "n1", VlanLinks.read) == wanted(lab, node)
    (link,) = json.loads(at(lab, "n1", "link show vlan40"))
    assert link["ifalias"] == VLAN_ALIAS


async def test_nodes_reach_each_other_on_a_vlan_that_both_are_on(lab: Lab) -> None:
    assert await probing.reachable(path_of(lab.name, "n1"), ip_address("10.20.0.12"))
    assert await probing.reachable(path_of(lab.name, "n2"), ip_address("10.20.0.21"))
    assert await probing.reachable(path_of(lab.name, "plain"), ip_address("10.20.0.11"))


async def test_frames_on_the_trunk_are_tagged(lab: Lab) -> None:
    with Capture(path_of(lab.name, FABRIC)) as capture:
        assert await probing.reachable(path_of(lab.name, "n1"), ip_address("10.20.0.12"))
        assert await probing.reachable(path_of(lab.name, "n2"), ip_address("10.30.0.1"))
        assert {each.vlan_id for each in capture.seen() if each.echo} == {20, 30}


async def test_another_vlan_is_reached_through_the_router_where_it_allows(lab: Lab) -> None:
    n1 = path_of(lab.name, "n1")
    assert await probing.reachable(n1, ip_address("10.30.0.21"))
    with Capture(path_of(lab.name, ROUTER)) as capture:
        await probing.ping(n1, ip_address("10.30.0.21"), timeout=5)
        seen = [
            (each.interface, each.outgoing)
            for each in capture.seen()
            if each.echo and each.interface.startswith("vlan")
        ]
    assert seen == [("vlan20", False), ("vlan30", True)]
    back = await probing.ping(path_of(lab.name, "other"), ip_address("10.20.0.21"), timeout=5)
    assert back.outcome is Outcome.PROHIBITED


async def test_a_port_carries_only_its_vlans(lab: Lab) -> None:
    """n2 is not on production: a link with that tag leads nowhere."""
    vlan = lab.network("production")
    links.make(
        path_of(lab.name, "n2"),
        [
            links.VlanLink(vlan.interface, TRUNK_INTERFACE, vlan.vlan_id),
            links.Up(vlan.interface),
            links.Own("10.40.0.99/24", vlan.interface),
        ],
    )
    echoed = await probing.ping(path_of(lab.name, "n2"), ip_address("10.40.0.11"), timeout=1)
    assert echoed.outcome is not Outcome.ANSWERED
    assert await probing.reachable(path_of(lab.name, "n1"), vlan.gateway)
