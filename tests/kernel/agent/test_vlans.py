"""Two networks on one node: what goes through the gateway, and what never loops."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kernel.agent.site import Net, Site, TestNode
from tests.support.echo import Answer
from tests.support.netns import Namespace, Namespaces

V4 = {
    "a": Net("a", "10.1.0.0/16", "192.168.10.0/24"),
    "b": Net("b", "10.2.0.0/16", "192.168.20.0/24"),
}
V6 = {
    "a": Net("a", "fd01::/64", "fd10::/64"),
    "b": Net("b", "fd02::/64", "fd20::/64"),
}
PREFIXES = {
    4: ({"a": "10.1.1.0/24", "b": "10.2.1.0/24"}, {"a": "10.1.2.0/24", "b": "10.2.2.0/24"}),
    6: ({"a": "fd01::100/120", "b": "fd02::100/120"}, {"a": "fd01::200/120", "b": "fd02::200/120"}),
}
ADDRESSES = {
    4: ("10.1.1.1", "10.2.1.1", "10.1.2.1", "10.1.1.77"),
    6: ("fd01::101", "fd02::101", "fd01::201", "fd01::177"),
}


class World:
    """A shared node `n1` with endpoints on both networks, and `n2` with one on A."""

    def __init__(self, made: Namespaces, version: int) -> None:
        self.site = Site(made, V4 if version == 4 else V6)
        self.n1: TestNode = self.site.node("n1", 11, PREFIXES[version][0])
        self.n2: TestNode = self.site.node("n2", 12, PREFIXES[version][1])
        self.on_a, self.on_b, self.on_other, self.unused = ADDRESSES[version]
        self.a: Namespace = self.n1.endpoint("a1", a=self.on_a)
        self.b: Namespace = self.n1.endpoint("b1", b=self.on_b)
        self.other: Namespace = self.n2.endpoint("a2", a=self.on_other)


def count_forwarded(router: Namespace, interface: str) -> int:
    text = router.run(f"cat /sys/class/net/{interface}/statistics/rx_packets")
    return int(text)


@pytest.mark.parametrize("version", [4, 6])
async def test_networks_meet_at_the_gateway_only(
    made: Namespaces, tmp_path: Path, version: int
) -> None:
    world = World(made, version)
    async with world.n1.running(tmp_path / "n1"), world.n2.running(tmp_path / "n2"):
        for there, address in ((world.a, world.on_b), (world.b, world.on_a)):
            assert await asyncio.to_thread(there.pings, address)
        router = world.site.router
        router.sysctl("net.ipv4.ip_forward", 0)
        router.sysctl("net.ipv6.conf.all.forwarding", 0)
        assert await asyncio.to_thread(world.a.echo, world.on_b) is not Answer.REPLY
        assert await asyncio.to_thread(world.b.echo, world.on_a) is not Answer.REPLY


@pytest.mark.parametrize("version", [4, 6])
async def test_nodes_of_a_network_reach_each_other_without_the_gateway(
    made: Namespaces, tmp_path: Path, version: int
) -> None:
    world = World(made, version)
    world.site.router.sysctl("net.ipv4.ip_forward", 0)
    world.site.router.sysctl("net.ipv6.conf.all.forwarding", 0)
    async with world.n1.running(tmp_path / "n1"), world.n2.running(tmp_path / "n2"):
        assert await asyncio.to_thread(world.a.pings, world.on_other)
        assert await asyncio.to_thread(world.other.pings, world.on_a)


@pytest.mark.parametrize("version", [4, 6])
async def test_an_unused_address_is_unreachable_and_does_not_loop(
    made: Namespaces, tmp_path: Path, version: int
) -> None:
    world = World(made, version)
    async with world.n1.running(tmp_path / "n1"), world.n2.running(tmp_path / "n2"):
        for place in (world.a, world.b, world.other, world.site.router):
            answers = [await asyncio.to_thread(place.echo, world.unused) for _ in range(3)]
            assert Answer.UNREACHABLE in answers, (place, answers)
            assert Answer.LOOP not in answers, (place, answers)


@pytest.mark.parametrize("version", [4, 6])
async def test_a_node_reaches_its_own_endpoints_on_every_network(
    made: Namespaces, tmp_path: Path, version: int
) -> None:
    world = World(made, version)
    async with world.n1.running(tmp_path / "n1"):
        node = world.n1.namespace
        for address in (world.on_a, world.on_b):
            assert await asyncio.to_thread(node.pings, address)
            for attachment in world.n1.myself.attachments:
                own = str(attachment.address)
                assert await asyncio.to_thread(node.pings, address, source=own), own
