"""A whole agent with `routed` networks of both families behind one interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from tests.support.agent_node import RealNode
from tests.support.echo import Answer
from tests.support.ipam_process import IpamProcess
from tests.support.netns import Namespace, Namespaces


class DualNode(RealNode):
    networks = ("net", "six")


@pytest.fixture
async def dual(ipam: IpamProcess, folder: Path) -> AsyncIterator[tuple[DualNode, Namespace]]:
    """The node, and the gateway that has routes to its networks."""
    with Namespaces() as namespaces:
        made = DualNode(namespaces, folder, ipam)
        gateway = namespaces.new("gateway")
        made.home.link(gateway, "up0", "up0")
        for namespace, number in ((made.home, 1), (gateway, 254)):
            namespace.run(f"ip addr add 192.168.0.{number}/24 dev up0")
            namespace.run(f"ip addr add fd00:ff::{number}/64 dev up0 nodad")
        gateway.run("ip route add 10.1.0.0/24 via 192.168.0.1")
        gateway.run("ip route add fd00:1::/64 via fd00:ff::1")
        made.home.run("ip route add default via 192.168.0.254")
        made.home.run("ip route add default via fd00:ff::fe dev up0")
        gateway.run("ip addr add fd00:ff::fe/64 dev up0 nodad")
        async with grpc.aio.insecure_channel(
            made.socket, options=(("grpc.max_reconnect_backoff_ms", 100),)
        ) as channel:
            made.channel = channel
            try:
                made.start()
                await made.ready()
                yield made, gateway
            finally:
                made.kill()


async def test_both_addresses_of_an_endpoint_work(dual: tuple[DualNode, Namespace]) -> None:
    node, gateway = dual
    pod, other = node.namespaces.new("pod"), node.namespaces.new("other")
    attached = (await node.attach("web-1", pod, network="net,six")).endpoint
    four, six = (item.address for item in attached.addresses)
    assert (":" in four, ":" in six) == (False, True)
    neighbour = (await node.attach("web-2", other, network="net,six")).endpoint
    for address in (four, six):
        assert await asyncio.to_thread(node.home.pings, address), "from the node"
        assert await asyncio.to_thread(gateway.pings, address), "from outside"
        assert await asyncio.to_thread(other.pings, address), "from its neighbour"
    for outside in ("192.168.0.254", "fd00:ff::fe"):
        assert await asyncio.to_thread(pod.pings, outside)
    for item in neighbour.addresses:
        assert await asyncio.to_thread(pod.pings, item.address)
    assert (await node.check("web-1")).problems == []


async def test_unused_addresses_of_own_blocks_answer_unreachable(
    dual: tuple[DualNode, Namespace],
) -> None:
    node, gateway = dual
    pod = node.namespaces.new("pod")
    attached = (await node.attach("web-1", pod, network="net,six")).endpoint
    for used, unused in zip(
        (item.address for item in attached.addresses), ("10.1.0.5", "fd00:1::5"), strict=True
    ):
        assert await asyncio.to_thread(gateway.pings, used)
        assert await asyncio.to_thread(gateway.echo, unused) is Answer.UNREACHABLE
