"""Other forwarding on a node goes on beside the agent: a bridge behind NAT, as Docker makes it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.common.model.network import Mode
from tests.kernel.agent.site import Net, Site, TestNode
from tests.support.bridge import INSIDE, PUBLISHED, Bridge, caller, serving
from tests.support.netns import Namespace, Namespaces

OUTSIDE = {4: "198.51.100.7", 6: "2001:db8:7::7"}
NETS = {
    (4, Mode.ONLINK): ("10.3.0.0/24", "10.3.0.0/24", "10.3.0.16/28"),
    (6, Mode.ONLINK): ("fd03::/120", "fd03::/120", "fd03::10/124"),
    (4, Mode.ROUTED): ("10.4.0.0/16", "192.168.4.0/24", "10.4.0.0/24"),
    (6, Mode.ROUTED): ("fd04::/64", "fd04:1::/120", "fd04::/124"),
}


class Beside:
    """A node with the agent and a bridge, a machine on its VLAN, and one beyond the gateway."""

    def __init__(self, made: Namespaces, version: int, mode: Mode) -> None:
        cidr, subnet, prefix = NETS[version, mode]
        self.net = Net("v", cidr, subnet, mode)
        self.site = Site(made, {"v": self.net})
        self.node: TestNode = self.site.node("n1", 2, {"v": prefix})
        self.bridge = Bridge(made, self.node.namespace)
        self.container = self.bridge.container
        self.machine = self.site.machine("m1", "v", 200)
        self.outside: Namespace = made.new("outside")
        self.site.router.link(self.outside, "out", "eth0")
        gateway = {4: "198.51.100.1/24", 6: "2001:db8:7::1/64"}[version]
        self.site.address(self.site.router, "out", gateway)
        length = gateway.partition("/")[2]
        self.site.address(self.outside, "eth0", f"{OUTSIDE[version]}/{length}")
        self.outside.run(f"ip route add default via {gateway.partition('/')[0]}")


@pytest.fixture(params=NETS, ids=lambda which: f"{which[1]}-ipv{which[0]}")
def beside(made: Namespaces, request: pytest.FixtureRequest) -> Beside:
    return Beside(made, *request.param)


async def test_a_bridge_reaches_the_vlan_and_beyond(beside: Beside, tmp_path: Path) -> None:
    own, there = beside.net.host(2), OUTSIDE[beside.net.model.cidr.version]
    with serving(beside.machine, 7000), serving(beside.outside, 7000):
        async with beside.node.running(tmp_path):
            for address in (beside.net.host(200), there):
                said = await asyncio.to_thread(caller, beside.container, address, 7000)
                assert said == own, address


async def test_a_published_port_is_reached_from_the_vlan_and_beyond(
    beside: Beside, tmp_path: Path
) -> None:
    own = beside.net.host(2)
    with serving(beside.container, INSIDE):
        async with beside.node.running(tmp_path):
            for peer in (beside.machine, beside.outside):
                said = await asyncio.to_thread(caller, peer, own, PUBLISHED)
                assert said, peer


async def test_a_bridge_and_endpoints_of_its_node_reach_each_other(
    beside: Beside, tmp_path: Path
) -> None:
    """Both by translated addresses: the node's own, and the port that is published on it."""
    cidr, own = beside.net.model.cidr, beside.net.host(2)
    address = {"10.3.0.0/24": "10.3.0.17", "fd03::/120": "fd03::11"}.get(str(cidr), str(cidr[9]))
    endpoint = beside.node.endpoint("e1", v=address)
    gateways = Bridge.gateways
    with serving(beside.container, INSIDE), serving(endpoint, 7000):
        async with beside.node.running(tmp_path):
            said = await asyncio.to_thread(caller, beside.container, address, 7000)
            assert said == own
            for to in (own, gateways[cidr.version == 6]):
                assert await asyncio.to_thread(caller, endpoint, to, PUBLISHED) == address


async def test_without_nat_a_bridge_is_reached_through_the_node(
    beside: Beside, tmp_path: Path
) -> None:
    """As a VPN, or libvirt's routed networks."""
    which = beside.net.model.cidr.version == 6
    beside.node.namespace.run(f"nft delete table {'ip6' if which else 'ip'} dk")
    beside.site.router.run(f"ip route add {Bridge.subnets[which]} via {beside.net.host(2)}")
    beside.machine.run(f"ip route add {Bridge.subnets[which]} via {beside.net.host(2)}")
    address = Bridge.addresses[which]
    async with beside.node.running(tmp_path):
        for peer in (beside.machine, beside.outside):
            assert await asyncio.to_thread(peer.pings, address), peer
        assert await asyncio.to_thread(beside.container.pings, beside.net.host(200))


async def test_a_neighbour_does_not_get_past_the_gateway_through_a_node(
    made: Namespaces, tmp_path: Path
) -> None:
    """What comes from one VLAN for another goes to the gateway, whoever sends it to the node."""
    site = Site(
        made,
        {
            "a": Net("a", "10.3.0.0/24", "10.3.0.0/24", Mode.ONLINK),
            "b": Net("b", "10.4.0.0/16", "192.168.4.0/24"),
        },
    )
    node = site.node("n1", 2, {"a": "10.3.0.16/28", "b": "10.4.0.0/24"})
    node.endpoint("e1", b="10.4.0.9")
    machine = site.machine("m1", "a", 200)
    machine.run(f"ip route add 10.4.0.0/16 via {site.nets['a'].host(2)}")
    async with node.running(tmp_path):
        assert await asyncio.to_thread(machine.pings, "10.4.0.9")
        drop = "nft add rule inet acl forward iifname br-a oifname br-b drop"
        site.router.run("nft add table inet acl")
        chain = "'{ type filter hook forward priority 0; }'"
        site.router.run(f"nft add chain inet acl forward {chain}")
        site.router.run(drop)
        assert not await asyncio.to_thread(machine.pings, "10.4.0.9")
