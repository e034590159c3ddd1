"""What others do to an endpoint's link is put right, and is that endpoint's trouble only."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from romana.agent.v1 import agent_service_pb2 as pb
from romana.agent.v1 import endpoint_pb2
from romana.ipam.v1 import allocation_pb2

from tests.support.agent_node import RealNode
from tests.support.ipam_process import poll
from tests.support.netns import Namespace

DEGRADED = endpoint_pb2.ENDPOINT_STATE_DEGRADED
ATTACHED = endpoint_pb2.ENDPOINT_STATE_ATTACHED


async def is_whole(node: RealNode, name: str) -> bool:
    found = await node.check(name)
    return not found.problems and found.endpoint.state == ATTACHED


async def state_of(node: RealNode, name: str) -> Any:
    listed = await node.stub.ListEndpoints(pb.ListEndpointsRequest(), timeout=10)
    return next(item for item in listed.endpoints if item.name == name)


async def is_ready(node: RealNode) -> bool:
    status = await node.stub.GetStatus(pb.GetStatusRequest(), timeout=10)
    code, _ = await asyncio.to_thread(node.cni, "STATUS")
    return bool(status.ready) and code == 0


@pytest.mark.parametrize(
    "damage",
    [
        "ip link set {link} down",
        "ip link set {link} address 02:00:00:00:00:01",
        "ip link set {link} arp off",
        "sysctl -qw net.ipv4.conf.{link}.forwarding=0",
        "sysctl -qw net.ipv4.conf.{link}.proxy_arp=0",
        "sysctl -qw net.ipv4.conf.{link}.rp_filter=0",
        "sysctl -qw net.ipv6.conf.{link}.forwarding=0",
        "ip -6 addr flush dev {link}",
    ],
)
async def test_what_was_done_to_the_nodes_end_is_undone(
    dual: tuple[RealNode, Namespace], damage: str
) -> None:
    node, gateway = dual
    pod, other = node.namespaces.new("pod"), node.namespaces.new("other")
    attached = (await node.attach("web-1", pod, network="net,six")).endpoint
    await node.attach("web-2", other, network="net")
    node.home.run(damage.format(link=attached.host_interface))
    assert (await node.check("web-1")).problems
    assert (await node.check("web-2")).problems == []
    assert await is_ready(node), "the other endpoints' node"
    await poll(lambda: is_whole(node, "web-1"), 60)
    pod.run("ip neigh flush nud reachable", check=False)
    for item in attached.addresses:
        assert await asyncio.to_thread(gateway.pings, item.address)


async def test_what_the_kernel_took_when_a_containers_link_went_down_is_put_back(
    dual: tuple[RealNode, Namespace],
) -> None:
    node, gateway = dual
    pod = node.namespaces.new("pod")
    attached = (await node.attach("web-1", pod, network="net,six")).endpoint
    pod.run("ip link set eth0 down")
    pod.run("ip link set eth0 up")
    assert (await node.check("web-1")).problems
    await poll(lambda: is_whole(node, "web-1"), 60)
    for item in attached.addresses:
        assert await asyncio.to_thread(gateway.pings, item.address)


async def test_a_containers_own_default_route_stays(real: RealNode) -> None:
    """Such as that of a VPN in it."""
    pod, vpn = real.namespaces.new("pod"), real.namespaces.new("vpn")
    attached = (await real.attach("web-1", pod)).endpoint
    pod.link(vpn, "tun0", "tun0")
    pod.run("ip route replace default dev tun0")
    real.home.run(f"ip link set {attached.host_interface} down")
    await poll(lambda: is_whole(real, "web-1"), 60)
    (default,) = json.loads(pod.run("ip -j route show default"))
    assert default["dev"] == "tun0"
    assert await asyncio.to_thread(real.home.pings, attached.addresses[0].address)


def tap(node: RealNode, vm: Namespace, address: str = "") -> None:
    """A VM starts: its interface comes."""
    node.home.link(vm, "tap0", "eth0")
    if address:
        vm.run(f"ip addr add {address}/32 dev eth0")
        vm.run("ip route add default via 169.254.1.1 dev eth0 onlink")


async def test_a_vm_that_starts_again_is_reached_again(real: RealNode) -> None:
    vm, other = real.namespaces.new("vm"), real.namespaces.new("other")
    tap(real, vm)
    spec = endpoint_pb2.EndpointSpec(
        name="vm",
        tenant="t",
        target=endpoint_pb2.EndpointTarget(
            interface=endpoint_pb2.InterfaceTarget(interface="tap0")
        ),
        addresses=[allocation_pb2.AddressSpec(network="net")],
    )
    attached = await real.stub.AttachEndpoint(pb.AttachEndpointRequest(spec=spec), timeout=60)
    address = attached.endpoint.addresses[0].address
    real.home.run("ip link del tap0")
    tap(real, vm, address)
    await poll(lambda: is_whole(real, "vm"), 60)
    assert await asyncio.to_thread(real.home.pings, address), "it went and came between two looks"

    real.home.run("ip link del tap0")

    async def degraded() -> bool:
        found = await state_of(real, "vm")
        return found.state == DEGRADED and "tap0 is gone" in found.problem

    await poll(degraded, 60)
    assert await is_ready(real)
    assert (await real.attach("web-1", other)).endpoint.addresses
    tap(real, vm, address)
    await poll(lambda: is_whole(real, "vm"), 60)
    assert await asyncio.to_thread(real.home.pings, address)
    assert await asyncio.to_thread(real.namespaces._made[1].pings, address)
