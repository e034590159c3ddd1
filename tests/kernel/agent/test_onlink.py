"""Endpoints in a VLAN's own subnet: the node answers for them, and for nothing else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.common.model.network import Mode
from tests.kernel.agent.site import Net, Site
from tests.support.echo import Answer
from tests.support.netns import Namespaces

SUBNETS = {4: "10.3.0.0/24", 6: "fd03::/120"}
PREFIXES = {4: ("10.3.0.16/28", "10.3.0.32/28"), 6: ("fd03::10/124", "fd03::20/124")}


@pytest.fixture(params=[4, 6])
def site(made: Namespaces, request: pytest.FixtureRequest) -> Site:
    subnet = SUBNETS[request.param]
    return Site(made, {"v": Net("v", subnet, subnet, Mode.ONLINK)})


def prefixes(site: Site) -> tuple[str, str]:
    return PREFIXES[site.nets["v"].model.cidr.version]


async def test_a_plain_machine_reaches_an_endpoint_at_once(site: Site, tmp_path: Path) -> None:
    net = site.nets["v"]
    node = site.node("n1", 2, {"v": prefixes(site)[0]})
    inner = node.endpoint("e1", v=net.host(17))
    machine = site.machine("m1", "v", 200)
    async with node.running(tmp_path):
        assert await asyncio.to_thread(machine.pings, net.host(17))
        assert await asyncio.to_thread(inner.pings, net.host(200))
        assert await asyncio.to_thread(inner.pings, net.gateway)
        assert await asyncio.to_thread(inner.pings, net.host(2))
        machine.run("ip neigh flush all")
        assert await asyncio.to_thread(machine.pings, net.host(17))
        delay = node.namespace.run(
            f"cat /proc/sys/net/ipv{net.model.cidr.version}/neigh/e-v/proxy_delay"
        )
        assert delay.strip() == "0", "the answer is delayed as a proxy's is by default"


async def test_a_node_answers_for_its_endpoints_only(site: Site, tmp_path: Path) -> None:
    net = site.nets["v"]
    node = site.node("n1", 2, {"v": prefixes(site)[0]})
    node.endpoint("e1", v=net.host(17))
    machine = site.machine("m1", "v", 200)
    async with node.running(tmp_path):
        assert await asyncio.to_thread(machine.pings, net.host(17))
        assert await asyncio.to_thread(machine.echo, net.host(18)) is not Answer.REPLY
        neighbours = machine.run("ip neigh show dev e-v")
        answered = [line for line in neighbours.splitlines() if "lladdr" in line]
        assert any(line.startswith(f"{net.host(17)} ") for line in answered)
        assert not any(line.startswith(f"{net.host(18)} ") for line in answered)


async def test_endpoints_on_two_nodes_reach_each_other(site: Site, tmp_path: Path) -> None:
    net = site.nets["v"]
    one = site.node("n1", 2, {"v": prefixes(site)[0]})
    two = site.node("n2", 3, {"v": prefixes(site)[1]})
    here = one.endpoint("e1", v=net.host(17))
    there = two.endpoint("e2", v=net.host(33))
    async with one.running(tmp_path / "1"), two.running(tmp_path / "2"):
        assert await asyncio.to_thread(here.pings, net.host(33))
        assert await asyncio.to_thread(there.pings, net.host(17))
        assert await asyncio.to_thread(here.pings, net.host(3)), "the other node itself"


async def test_a_prefix_that_covers_the_gateway_does_not_hide_it(
    site: Site, tmp_path: Path
) -> None:
    net = site.nets["v"]
    node = site.node("n1", 2, {"v": net.cidr})
    inner = node.endpoint("e1", v=net.host(17))
    async with node.running(tmp_path):
        assert await asyncio.to_thread(inner.pings, net.gateway)
