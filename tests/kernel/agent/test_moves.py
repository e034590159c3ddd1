"""An endpoint that comes up on another node with its address, as a plain machine sees it."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from pathlib import Path

import pytest

from services.agent.kernel.announce import Announcer
from services.common.model.names import EndpointName
from services.common.model.network import Mode
from tests.kernel.agent.site import Net, Site, until
from tests.support.netns import Namespace, Namespaces

SUBNETS = {4: "10.3.0.0/24", 6: "fd03::/120"}
PREFIXES = {4: ("10.3.0.16/28", "10.3.0.32/28"), 6: ("fd03::10/124", "fd03::20/124")}


def mac_of(namespace: Namespace, interface: str) -> str:
    return str(json.loads(namespace.run(f"ip -j link show {interface}"))[0]["address"])


def believed(machine: Namespace, address: str) -> str:
    """Whose address the machine takes it for: a MAC address."""
    known = json.loads(machine.run(f"ip -j neigh show to {address} dev e-v") or "[]")
    return str(known[0].get("lladdr", "")) if known else ""


@pytest.mark.parametrize("version", [4, 6])
async def test_a_machines_neighbour_cache_follows_the_announcement(
    made: Namespaces, version: int, tmp_path: Path
) -> None:
    site = Site(made, {"v": Net("v", SUBNETS[version], SUBNETS[version], Mode.ONLINK)})
    net = site.nets["v"]
    one = site.node("n1", 2, {"v": PREFIXES[version][0]})
    two = site.node("n2", 3, {"v": PREFIXES[version][1]})
    address = net.host(17)
    one.endpoint("e1", v=address)
    machine = site.machine("m1", "v", 200)
    async with one.running(tmp_path / "1") as first, two.running(tmp_path / "2") as second:
        assert await asyncio.to_thread(machine.pings, address)
        assert believed(machine, address) == mac_of(one.namespace, "e-v")

        first.remove_endpoint(EndpointName("e1"))
        two.endpoint("e2", v=address)
        second.put_endpoint(two.endpoints["e2"])
        await asyncio.gather(first.reached(), second.reached())
        assert believed(machine, address) == mac_of(one.namespace, "e-v"), "nothing was said yet"
        said = [ipaddress.ip_address(address)]
        await asyncio.to_thread(
            two.namespace.call, lambda: asyncio.run(Announcer().announce("e-v", said))
        )
        await until(lambda: believed(machine, address) == mac_of(two.namespace, "e-v"), 10)
        assert await asyncio.to_thread(machine.pings, address)
