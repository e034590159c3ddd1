"""A whole agent with `routed` networks of both families behind one interface."""

from __future__ import annotations

import asyncio

from tests.support.agent_node import RealNode
from tests.support.echo import Answer
from tests.support.netns import Namespace


async def test_both_addresses_of_an_endpoint_work(dual: tuple[RealNode, Namespace]) -> None:
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
    dual: tuple[RealNode, Namespace],
) -> None:
    node, gateway = dual
    pod = node.namespaces.new("pod")
    attached = (await node.attach("web-1", pod, network="net,six")).endpoint
    for used, unused in zip(
        (item.address for item in attached.addresses), ("10.1.0.5", "fd00:1::5"), strict=True
    ):
        assert await asyncio.to_thread(gateway.pings, used)
        assert await asyncio.to_thread(gateway.echo, unused) is Answer.UNREACHABLE
