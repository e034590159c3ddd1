"""VLAN links that the agent makes for its attachments, on a kernel that has 802.1Q."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.agent.kernel.drivers import KernelDrivers
from services.agent.kernel.heard import ALL
from services.agent.model import Myself, Remote
from services.agent.routing.reconcile import Reconciler
from services.agent.uninstall import uninstall
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Network
from services.common.model.node import Attachment
from tests.kernel.agent.site import until
from tests.support.netns import Namespace, Namespaces, enter
from tests.vm.vlan.needs import TRUNK

pytestmark = TRUNK

A, ME = NetworkName("a"), NodeName("me")
OWN = ipaddress.ip_interface("192.168.5.2/24")
MINE = Myself(ME, (Attachment(A, "e0.5", OWN.ip, 5, "e0"),))
PREFIX = ipaddress.ip_address("2001:db8:5::")
DEADLINE = 60.0
"""Seconds: a VM without hardware support is some 20 times slower."""


@pytest.fixture
def pair() -> Iterator[tuple[Namespace, Namespace]]:
    """A node and a neighbour on its trunk; VLAN 5 is 192.168.5.0/24."""
    with Namespaces() as made:
        node, neighbour = made.new("node"), made.new("next")
        node.link(neighbour, "e0", "e0")
        neighbour.run("ip link add link e0 name e0.5 type vlan id 5")
        neighbour.run("ip link set e0.5 up")
        neighbour.run("ip addr add 192.168.5.1/24 dev e0.5")
        yield node, neighbour


def remote(mtu: int = 0, vlan_id: int = 5) -> Remote:
    network = Network(A, ipaddress.ip_network("10.5.0.0/16"), 29, vlan_id=vlan_id, mtu=mtu)
    return Remote({A: network}, {(A, ME): OWN.ip}, {})


async def test_a_link_is_made_repaired_changed_and_removed(
    pair: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    node, _ = pair
    before = node.run("ip -o link")

    def kernel() -> KernelDrivers:
        return KernelDrivers(tmp_path, enter=lambda: enter(node.path))

    made = {"e0.5": frozenset([OWN])}
    reconciler = Reconciler(kernel(), MINE, made_addresses=made)
    task = asyncio.create_task(reconciler.run())
    async with asyncio.timeout(DEADLINE):
        reconciler.set_remote(remote())
        assert not await reconciler.reached()
        assert await asyncio.to_thread(node.pings, "192.168.5.1")
        assert "alias romana vlan" in node.run("ip link show e0.5")
        assert "vlan protocol 802.1Q id 5" in node.run("ip -d link show e0.5")

        node.run("ip link del e0.5")
        await until(lambda: node.succeeds("ip link show e0.5"), DEADLINE)
        await until(lambda: reconciler.ready, DEADLINE)
        assert not await reconciler.reached()
        assert await asyncio.to_thread(node.pings, "192.168.5.1")

        reconciler.set_remote(remote(mtu=1400))
        assert not await reconciler.reached()
        assert "mtu 1400" in node.run("ip link show e0.5")
        index = node.run("ip -o link show e0.5").split(":")[0]
        reconciler._inputs.read(ALL)
        reconciler._loop.touch()
        assert not await reconciler.reached()
        assert node.run("ip -o link show e0.5").split(":")[0] == index, "it was not made anew"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert node.succeeds("ip link show e0.5"), "a stopped agent removes nothing"
    assert not await uninstall(kernel(), tmp_path)
    assert node.run("ip -o link") == before


def advertise(neighbour: Namespace) -> None:
    """A router on VLAN 5, with a prefix for all (RFC 4861 and 4862)."""
    prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 3600, 3600, 0, PREFIX.packed)
    advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + prefix

    def send() -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as wire:
            wire.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            wire.sendto(advertisement, ("ff02::1", 0, 0, socket.if_nametoindex("e0.5")))

    neighbour.call(send)


async def test_what_a_router_advertises_is_not_for_a_link_that_we_make(
    pair: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    node, neighbour = pair
    reconciler = Reconciler(
        KernelDrivers(tmp_path, enter=lambda: enter(node.path)),
        MINE,
        made_addresses={"e0.5": frozenset([OWN])},
    )
    task = asyncio.create_task(reconciler.run())
    async with asyncio.timeout(DEADLINE):
        reconciler.set_remote(remote())
        assert not await reconciler.reached()
        heard = "cat /proc/net/dev_snmp6/e0.5"

        def advertised() -> bool:
            advertise(neighbour)
            lines = dict(line.split() for line in node.run(heard).splitlines())
            return int(lines["Icmp6InRouterAdvertisements"]) > 2

        await until(advertised, DEADLINE)
        assert str(PREFIX)[:-1] not in node.run("ip -6 addr show dev e0.5")
        assert "proto ra" not in node.run("ip -6 route")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_of_a_renumbered_vlan_the_new_link_is_there_before_the_old_one_goes(
    pair: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    node, neighbour = pair
    neighbour.run("ip link add link e0 name e0.6 type vlan id 6")
    neighbour.run("ip link set e0.6 up")
    gateway = ipaddress.ip_address("192.168.5.1")
    wanted = {
        vlan_id: Remote(
            {
                A: Network(
                    A,
                    ipaddress.ip_network("10.5.0.0/16"),
                    29,
                    vlan_id=vlan_id,
                    gateway=gateway,
                )
            },
            {(A, ME): OWN.ip},
            {},
        )
        for vlan_id in (5, 6)
    }
    made = {"e0.5": frozenset([OWN]), "e0.6": frozenset([OWN])}
    kernel = KernelDrivers(tmp_path, enter=lambda: enter(node.path))
    reconciler = Reconciler(kernel, MINE, made_addresses=made)
    task = asyncio.create_task(reconciler.run())
    seen = node.start(["ip", "-o", "monitor", "link", "route"], stdout=subprocess.PIPE, text=True)
    try:
        async with asyncio.timeout(DEADLINE):
            reconciler.set_remote(wanted[5])
            assert not await reconciler.reached()
            assert await asyncio.to_thread(node.pings, "192.168.5.1")
            reconciler.set_remote(wanted[6])
            await reconciler.reached()
            assert node.succeeds("ip link show e0.5"), "it goes on until topology says where"
            neighbour.run("ip addr flush dev e0.5")
            neighbour.run("ip addr add 192.168.5.1/24 dev e0.6")
            reconciler.set_attachments([Attachment(A, "e0.6", OWN.ip, 6, "e0")])
            assert not await reconciler.reached()
            assert "vlan protocol 802.1Q id 6" in node.run("ip -d link show e0.6")
            assert not node.succeeds("ip link show e0.5")
            assert await asyncio.to_thread(node.pings, "192.168.5.1")
            assert "via 192.168.5.1 dev e0.6" in node.run("ip route show table all proto 114")
            node.run("ip link add end type veth peer name end2")  # a mark in what is seen
            lines: list[str] = []
            assert seen.stdout is not None
            while not any("end2" in line for line in lines):
                lines.append(await asyncio.to_thread(seen.stdout.readline))
    finally:
        seen.kill()
        seen.communicate()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    came = next(number for number, line in enumerate(lines) if " e0.6@e0:" in line)
    led = next(
        number
        for number, line in enumerate(lines)
        if "via 192.168.5.1 dev e0.6" in line and "Deleted" not in line
    )
    went = next(
        number for number, line in enumerate(lines) if "Deleted" in line and " e0.5@" in line
    )
    assert came < led < went


async def test_a_link_that_somebody_made_is_used_and_kept(
    pair: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    node, _ = pair
    node.run("ip link add link e0 name e0.5 type vlan id 5")
    node.run("ip link set e0.5 up")
    node.run(f"ip addr add {OWN} dev e0.5")
    # the kernel says so a moment later
    await until(lambda: "state UP" in node.run("ip link show e0.5"), DEADLINE)
    before = node.run("ip -d -o link show e0.5")
    reconciler = Reconciler(KernelDrivers(tmp_path, enter=lambda: enter(node.path)), MINE)
    task = asyncio.create_task(reconciler.run())
    async with asyncio.timeout(DEADLINE):
        reconciler.set_remote(remote())
        assert not await reconciler.reached()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not await uninstall(KernelDrivers(tmp_path, enter=lambda: enter(node.path)), tmp_path)
    assert node.run("ip -d -o link show e0.5") == before
