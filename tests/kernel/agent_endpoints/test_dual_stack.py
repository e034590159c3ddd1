"""A whole agent with `routed` networks of both families behind one interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from tests.support.agent_node import RealNode
from tests.support.echo import Answer
from tests.support.ipam_process import IpamProcess, drop_nodes, seed
from tests.support.netns import Namespace, Namespaces
from tests.support.topologies import node as topology_node
from tests.support.waiting import becomes


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


class First(RealNode):
    """It says nothing of its networks: it is on all of them by its main addresses."""

    networks = ()
    more: ClassVar = {"NODE": "d1", "ADDRESS": ""}


class Second(First):
    more: ClassVar = {"NODE": "d2", "ADDRESS": ""}


@pytest.fixture
async def two(
    shared_etcd: LocalEtcd, keys: Keys, ipam: IpamProcess, folder: Path
) -> AsyncIterator[tuple[RealNode, RealNode]]:
    """Nodes on one link, without gateways."""
    known = [
        topology_node(
            f"d{number}", address=f"192.168.0.1{number}", other_address=f"fd00:ff::1{number}"
        )
        for number in (1, 2)
    ]
    async with EtcdClient([shared_etcd.endpoint]) as client:
        await seed(client, keys, nodes=known)
        with Namespaces() as namespaces, Namespaces() as others:
            for node in known:
                (folder / node.name).mkdir()
            first = First(namespaces, folder / "d1", ipam)
            second = Second(others, folder / "d2", ipam)
            first.home.link(second.home, "up0", "up0")
            async with first, second:
                for node, made in zip(known, (first, second), strict=True):
                    made.home.run(f"ip addr add {node.address}/24 dev up0")
                    made.home.run(f"ip addr add {node.other_address}/64 dev up0 nodad")
                    made.start()
                    await made.ready()
                yield first, second
        await drop_nodes(client, keys, [node.name for node in known])


async def test_nodes_without_attachments_are_reached_by_addresses_of_both_families(
    two: tuple[RealNode, RealNode],
) -> None:
    first, second = two
    pod, peer = first.namespaces.new("pod"), second.namespaces.new("peer")
    await first.attach("web-1", pod, network="net,six")
    there = (await second.attach("web-2", peer, network="net,six")).endpoint.addresses
    assert [":" in item.address for item in there] == [False, True]
    for item in there:
        assert await asyncio.to_thread(becomes, partial(pod.pings, item.address)), item.address
