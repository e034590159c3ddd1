"""`make compose-test`: Docker's own ports and masquerading on a machine that an agent works on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.model.network import Mode
from tests.compose.engine import BASE, DOCKER, NAMESPACE, Engine
from tests.kernel.agent.site import Net, Site, TestNode
from tests.support.bridge import caller, serving
from tests.support.netns import Namespace, Namespaces

OUTSIDE = "198.51.100.7"
SERVER = """
import socket
listening = socket.create_server(("", 80))
while True:
    listening.accept()[0].send(b"x")
"""
CALLER = "import socket, sys; print(socket.create_connection((sys.argv[1], 7000), 3).recv(99))"


@dataclass
class Beside:
    """This Docker engine's machine as a node on a VLAN, a machine there, and one beyond."""

    site: Site
    node: TestNode
    machine: Namespace
    outside: Namespace


@pytest.fixture
def beside(engine: Engine) -> Iterator[Beside]:
    net = Net("v", "10.77.0.0/24", "10.77.0.0/24", Mode.ONLINK)
    with Namespaces() as made:
        site = Site(made, {"v": net})
        home = Namespace(NAMESPACE, there=True)
        node = site.node("docker", 2, {"v": "10.77.0.16/28"}, home)
        machine = site.machine("m1", "v", 200)
        outside = made.new("outside")
        site.router.link(outside, "out", "eth0")
        site.address(site.router, "out", "198.51.100.1/24")
        site.address(outside, "eth0", f"{OUTSIDE}/24")
        outside.run("ip route add default via 198.51.100.1")
        try:
            yield Beside(site, node, machine, outside)
        finally:
            home.run("ip link del e-v", check=False)


async def test_dockers_own_ports_and_masquerading_work_beside_an_agent(
    engine: Engine, beside: Beside, tmp_path: Path
) -> None:
    run = (DOCKER, "run", "-d", "--rm", "--name", "beside", "-p", "8088:80", "--network", "beside")
    engine.do(DOCKER, "network", "create", "--subnet", "172.30.0.0/24", "beside")
    ask = (DOCKER, "exec", "beside", "python3.11", "-c", CALLER)
    try:
        engine.do(*run, BASE, "python3.11", "-c", SERVER)
        with serving(beside.machine, 7000), serving(beside.outside, 7000):
            async with beside.node.running(tmp_path):
                for peer, address in ((beside.machine, "10.77.0.200"), (beside.outside, OUTSIDE)):
                    assert await asyncio.to_thread(caller, peer, "10.77.0.2", 8088) == "x"
                    done = await asyncio.to_thread(engine.attempt, *ask, address)
                    assert "10.77.0.2" in done.stdout, done.stderr
    finally:
        engine.attempt(DOCKER, "rm", "-f", "beside")
        engine.attempt(DOCKER, "network", "rm", "beside")
