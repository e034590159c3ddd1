"""Beside other plug-ins: as a second interface, and with reference plug-ins chained after it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from romana.agent.v1 import endpoint_pb2

from tests.kernel.agent_endpoints.test_cni_again import add, addresses, cni, ways
from tests.kernel.agent_endpoints.test_upkeep import is_whole
from tests.support.agent_node import RealNode
from tests.support.bridge import caller, serving
from tests.support.ipam_process import poll
from tests.support.netns import Namespace, Namespaces

REFERENCE = Path("/usr/lib/cni")


def primary(namespaces: Namespaces, pod: Namespace) -> Namespace:
    """A first interface by another plug-in, with the default route; returns its gateway."""
    gateway = namespaces.new("first")
    pod.link(gateway, "eth0", "eth0")
    pod.run("ip addr add 192.168.77.2/24 dev eth0")
    gateway.run("ip addr add 192.168.77.1/24 dev eth0")
    pod.run("ip route add default via 192.168.77.1")
    return gateway


async def test_never_leaves_a_container_without_a_default_route_of_ours(
    dual: tuple[RealNode, Namespace],
) -> None:
    """What its addresses send goes by it all the same, whatever the main table says."""
    node, gateway = dual
    pod = node.namespaces.new("pod")
    config = {"networks": ["net", "six"], "defaultRoute": "never"}
    before = ways(pod)
    result = await add(node, pod, "net1", **config)
    assert result["routes"] == []
    assert "default" not in pod.run("ip route") + pod.run("ip -6 route")
    for address in addresses(result):
        assert await asyncio.to_thread(gateway.pings, address)
        there = "fd00:ff::fe" if ":" in address else "192.168.0.254"
        assert await asyncio.to_thread(lambda: pod.pings(there, source=address))  # noqa: B023
    pod.run("ip link set net1 down")
    pod.run("ip link set net1 up")
    await poll(lambda: is_whole(node, "pods/c1/net1"), 60)
    assert "default" not in pod.run("ip route") + pod.run("ip -6 route")
    assert (await cni(node, "DEL", "c1", pod.path, "net1", config=config))[0] == 0
    assert ways(pod) == before


async def test_always_takes_the_default_route_over(real: RealNode) -> None:
    pod = real.namespaces.new("pod")
    primary(real.namespaces, pod)
    result = await add(real, pod, "net1", defaultRoute="always")
    assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]
    assert pod.run("ip route show default").split()[2] == "169.254.1.1"
    assert await asyncio.to_thread(pod.pings, "192.168.0.254")
    assert await is_whole(real, "pods/c1/net1")


async def test_by_grpc_the_same_is_said(real: RealNode) -> None:
    pod = real.namespaces.new("pod")
    primary(real.namespaces, pod)
    mac = "02:00:00:00:00:0a"
    done = await real.attach(
        "second",
        pod,
        interface="net1",
        default_route=endpoint_pb2.ENDPOINT_DEFAULT_ROUTE_NEVER,
        routes=["192.168.0.0/24"],
        mac=mac,
    )
    assert done.endpoint.mac == mac
    assert mac in pod.run("ip link show net1")
    assert pod.run("ip route show default").split()[2] == "192.168.77.1"
    assert await asyncio.to_thread(pod.pings, "192.168.0.254")
    assert await is_whole(real, "second")


async def test_routes_lead_by_the_second_interface(real: RealNode) -> None:
    pod = real.namespaces.new("pod")
    primary(real.namespaces, pod)
    routes = [{"dst": "192.168.0.0/24"}]
    result = await add(real, pod, "net1", routes=routes)
    assert result["routes"] == [{"dst": "192.168.0.0/24", "gw": "169.254.1.1"}]
    assert await asyncio.to_thread(pod.pings, "192.168.0.254")
    pod.run("ip link set net1 down")
    pod.run("ip link set net1 up")
    await poll(lambda: pod.pings("192.168.0.254"), 60)


@pytest.mark.parametrize(
    ("routes", "code"),
    [
        ([{"dst": "192.168.77.0/24"}], 103),
        ([{"dst": "fd00:ff::/64"}], 7),
    ],
    ids=["somebody has it", "no address of that family"],
)
async def test_a_route_that_cannot_be_leaves_nothing_done(
    real: RealNode, routes: list[Any], code: int
) -> None:
    pod = real.namespaces.new("pod")
    primary(real.namespaces, pod)
    before = ways(pod)
    status, error = await cni(real, "ADD", "c1", pod.path, "net1", config={"routes": routes})
    assert (status, error["code"]) == (1, code), error
    assert ways(pod) == before
    assert await real.addresses() == []
    assert real.links() == []


@pytest.mark.parametrize("how", ["arguments", "runtime"])
async def test_a_mac_address_that_is_demanded(real: RealNode, how: str) -> None:
    pod, mac = real.namespaces.new("pod"), "02:12:34:56:78:9a"
    given: dict[str, Any] = (
        {"args": f"K8S_POD_NAMESPACE=t;MAC={mac}"}
        if how == "arguments"
        else {"config": {"runtimeConfig": {"mac": mac}}}
    )
    status, result = await cni(real, "ADD", "c1", pod.path, **given)
    assert status == 0, result
    assert result["interfaces"][1]["mac"] == mac
    (link,) = json.loads(pod.run("ip -j link show eth0"))
    assert link["address"] == mac
    assert await asyncio.to_thread(real.home.pings, addresses(result)[0])
    assert await is_whole(real, "pods/c1/eth0")


def chained(node: RealNode, pod: Namespace, kind: str, command: str, **config: Any) -> None:
    """Runs a reference plug-in as a runtime does after ours."""
    environment = (
        f"CNI_COMMAND={command} CNI_CONTAINERID=c1 CNI_NETNS={pod.path} CNI_IFNAME=eth0 "
        f"CNI_PATH={REFERENCE}"
    )
    document = {"cniVersion": "1.0.0", "name": "pods", "type": kind, **config}
    node.home.run(f"env {environment} {REFERENCE / kind}", stdin=json.dumps(document))


@pytest.mark.skipif(
    not (REFERENCE / "portmap").exists(), reason="needs Debian's containernetworking-plugins"
)
async def test_portmap_and_bandwidth_come_after_it(real: RealNode) -> None:
    pod = real.namespaces.new("pod")
    previous = await add(real, pod, cniVersion="1.0.0")
    ports = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    rate = {"ingressRate": 10**8, "ingressBurst": 10**8, "egressRate": 10**8, "egressBurst": 10**8}
    settings: dict[str, dict[str, Any]] = {
        "portmap": {"runtimeConfig": {"portMappings": ports}},
        "bandwidth": {"runtimeConfig": {"bandwidth": rate}},
    }
    for kind, config in settings.items():
        chained(real, pod, kind, "ADD", prevResult=previous, **config)
    outside = real.namespaces._made[1]
    with serving(pod, 80):
        assert await asyncio.to_thread(caller, outside, "192.168.0.1", 8080) == "192.168.0.254"
    host = previous["interfaces"][0]["name"]
    assert "tbf" in real.home.run(f"tc qdisc show dev {host}")
    for kind, config in reversed(settings.items()):
        chained(real, pod, kind, "DEL", prevResult=previous, **config)
    assert (await cni(real, "DEL", "c1", pod.path))[0] == 0
    assert real.home.run("ip -br link show type ifb") == ""
