"""A node in a namespace with an agent, and a real ipam that it reaches by a Unix socket."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import pytest

from services.common.model.network import Mode
from tests.conftest import Store
from tests.support.agent_node import NODE, Node
from tests.support.ipam_process import IpamProcess, seed
from tests.support.netns import Namespaces, missing
from tests.support.topologies import layout, network, node

if reason := missing():
    pytest.skip(f"needs {reason}", allow_module_level=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: Unix sockets take 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="rt-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
async def ipam(store: Store, folder: Path) -> AsyncIterator[IpamProcess]:
    networks = [
        network("net", "10.1.0.0/24"),
        network("lan", "10.2.0.0/24", mode=Mode.ONLINK),
        network("six", "fd00:1::/64"),
    ]
    await seed(store.client, store.keys, layout(networks), [node(NODE, address="192.168.0.1")])
    replica = IpamProcess([store.endpoint], store.keys.root, folder)
    replica.address = f"unix:{folder}/ipam.sock"
    replica._environment["ROMANA_IPAM__LISTEN__ADDRESS"] = replica.address
    try:
        replica.start()
        await replica.wait_until_active()
        yield replica
    finally:
        replica.kill()


@pytest.fixture
async def idle_node(ipam: IpamProcess, folder: Path) -> AsyncIterator[Node]:
    """A node whose agent is not started."""
    with Namespaces() as namespaces:
        made = Node(namespaces, folder, ipam)
        outside = namespaces.new("outside")
        made.home.link(outside, "up0", "up0")
        async with grpc.aio.insecure_channel(
            made.socket, options=(("grpc.max_reconnect_backoff_ms", 100),)
        ) as channel:
            made.channel = channel
            try:
                yield made
            finally:
                made.kill()
                await asyncio.sleep(0)


@pytest.fixture
async def node_(idle_node: Node) -> Node:
    """A node with an agent."""
    idle_node.start()
    return idle_node
