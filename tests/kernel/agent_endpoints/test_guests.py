"""Guests of VMs are told by the node who they are, each by the interface that it is behind."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from romana.agent.v1 import agent_service_pb2 as pb

from tests.support.agent_node import RealNode
from tests.support.guest import Guest, missing
from tests.support.ipam_process import poll
from tests.support.netns import Namespace

if reason := missing():
    pytest.skip(f"needs {reason}", allow_module_level=True)


def guest(node: RealNode, name: str) -> Guest:
    """One behind an interface of that name."""
    made = Guest(node.namespaces.new(f"g-{name}"), node.folder)
    made.plug(node.home, name)
    return made


async def attach(
    node: RealNode, name: str, tap: str, network: str = "net,six", *, dhcp: bool = True
) -> list[str]:
    spec = node.spec(name, "/x", network=network)
    spec.target.interface.interface = tap
    spec.dhcp = dhcp
    made = await node.stub.AttachEndpoint(pb.AttachEndpointRequest(spec=spec), timeout=60)
    assert made.endpoint.dhcp is dhcp
    return [item.address for item in made.endpoint.addresses]


async def asked_4(guest: Guest) -> dict[str, str]:
    return await asyncio.to_thread(guest.ask_4)


async def asked_6(guest: Guest) -> dict[str, str]:
    return await asyncio.to_thread(guest.ask_6)


async def until(holds: Any) -> None:
    async def met() -> bool:
        return bool(await asyncio.to_thread(holds))

    await poll(met, 60)


def process(node: RealNode) -> int:
    """Number of the node's dnsmasq; 0: there is none."""
    try:
        number = int((node.folder / "state/guests/dnsmasq.pid").read_text())
        os.kill(number, 0)
    except (OSError, ValueError):
        return 0
    state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    return 0 if state == "Z" else number


Dual = tuple[RealNode, Namespace]


async def test_a_guest_gets_all_it_needs_and_is_reached(dual: Dual) -> None:
    node, gateway = dual
    made = guest(node, "tap1")
    four, six = await attach(node, "vm-1", "tap1")
    told = await asked_4(made)
    assert told["ip"] == four
    assert told["subnet"] == "255.255.255.255"
    assert told["router"] == "169.254.1.1"
    assert told["staticroutes"] == "169.254.1.1/32 0.0.0.0 0.0.0.0/0 169.254.1.1"
    assert (told["mtu"], told["dns"], told["search"]) == ("1500", "10.0.0.53", "corp.example")
    told = await asked_6(made)
    assert told["new_ip6_address"] == six
    assert told["new_dhcp6_name_servers"] == "fd00:53::1"
    assert told["new_dhcp6_domain_search"] == "corp.example."
    assert made.addresses() == {f"{four}/32", f"{six}/128"}
    await until(lambda: made.default_routes_6() == {"fe80::1"})
    for outside in ("192.168.0.254", "fd00:ff::fe"):
        assert await asyncio.to_thread(made.home.pings, outside)
    for address in (four, six):
        assert await asyncio.to_thread(gateway.pings, address)
    assert (await node.check("vm-1")).problems == []


async def test_each_guest_gets_its_own_and_nobody_else_an_answer(dual: Dual) -> None:
    node, gateway = dual
    first, second, third = (guest(node, f"tap{number}") for number in (1, 2, 3))
    given = [await attach(node, f"vm-{number}", f"tap{number}") for number in (1, 2)]
    await attach(node, "vm-3", "tap3", dhcp=False)
    assert (await asked_4(first))["ip"] == given[0][0]
    assert (await asked_4(second))["ip"] == given[1][0]  # with the same MAC address
    assert await asyncio.to_thread(third.ask_4, 2) == {}
    assert await asyncio.to_thread(third.ask_6, 4) == {}
    outside = Guest(gateway, node.folder, "up0")
    assert await asyncio.to_thread(outside.ask_4, 2) == {}


async def test_another_mac_address_behind_the_interface_gets_the_same(dual: Dual) -> None:
    node, _ = dual
    made = guest(node, "tap1")
    four, six = await attach(node, "vm-1", "tap1")
    assert (await asked_4(made))["ip"] == four
    assert (await asked_6(made))["new_ip6_address"] == six
    made.start("02:00:00:00:00:99")
    assert (await asked_4(made))["ip"] == four
    assert (await asked_6(made))["new_ip6_address"] == six


async def test_dnsmasq_outlives_the_agent_and_the_agent_dnsmasq(dual: Dual) -> None:
    node, _ = dual
    made = guest(node, "tap1")
    four, _ = await attach(node, "vm-1", "tap1")
    assert (await asked_4(made))["ip"] == four
    before = process(node)
    assert before
    node.kill()
    assert (await asked_4(made))["ip"] == four
    node.start()
    await node.ready()
    assert (await asked_4(made))["ip"] == four
    assert process(node) == before
    os.kill(before, signal.SIGKILL)
    await until(lambda: process(node) not in {0, before})
    assert (await asked_4(made))["ip"] == four


async def test_leases_and_process_go_with_the_endpoints(dual: Dual) -> None:
    node, _ = dual
    first, _ = guest(node, "tap1"), guest(node, "tap2")
    four, _ = await attach(node, "vm-1", "tap1")
    await attach(node, "vm-2", "tap2")
    assert (await asked_4(first))["ip"] == four
    leases = node.folder / "state/guests/leases"
    assert four in leases.read_text()
    await node.detach("vm-1")
    await until(lambda: four not in leases.read_text())
    assert await asyncio.to_thread(first.ask_4, 2) == {}
    shown = node.home.run("ip addr show dev tap1")
    assert "169.254.1.1" not in shown
    assert "fd72:6f6d::1" not in shown
    assert "fe80::1/64" not in shown
    await node.detach("vm-2")
    await until(lambda: not process(node))


async def test_without_dnsmasq_the_endpoint_says_so(
    dual: Dual, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _ = dual
    guest(node, "tap1")
    node.kill()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    node.start()
    monkeypatch.undo()
    await node.ready()
    await attach(node, "vm-1", "tap1")

    async def said() -> bool:
        problems = (await node.check("vm-1")).problems
        return any("dnsmasq is not installed" in each for each in problems)

    await poll(said, 30)
