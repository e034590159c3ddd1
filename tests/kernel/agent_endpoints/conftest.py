"""A node in a namespace with an agent, and a real ipam that it reaches by a Unix socket."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from services.common.model.network import Dns, Mode
from tests.support.agent_node import NODE, Node, RealNode
from tests.support.ipam_process import IpamProcess, release_all, seed
from tests.support.netns import Namespace, Namespaces, missing
from tests.support.topologies import layout, network, node

if reason := missing():
    pytest.skip(f"needs {reason}", allow_module_level=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: Unix sockets take 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="rt-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def keys() -> Keys:
    """Of what topology and ipam have in the store."""
    return Keys(f"/test-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def shared_ipam(shared_etcd: LocalEtcd, keys: Keys) -> Iterator[IpamProcess]:
    """One replica for all tests: each starts as if it were its own, and may kill it."""
    with tempfile.TemporaryDirectory(prefix="rt-") as folder:
        replica = IpamProcess([shared_etcd.endpoint], keys.root, Path(folder))
        replica.address = f"unix:{folder}/ipam.sock"
        replica._environment["ROMANA_IPAM__LISTEN__ADDRESS"] = replica.address
        asyncio.run(_seed(shared_etcd.endpoint, keys))
        try:
            yield replica
        finally:
            replica.kill()


async def _seed(endpoint: str, keys: Keys) -> None:
    networks = [
        network("net", "10.1.0.0/24", dns=Dns((ip_address("10.0.0.53"),), ("corp.example",))),
        network("lan", "10.2.0.0/24", mode=Mode.ONLINK, gateway="10.2.0.254"),
        network("six", "fd00:1::/64", dns=Dns((ip_address("fd00:53::1"),), ("corp.example",))),
    ]
    async with EtcdClient([endpoint]) as client:
        await seed(client, keys, layout(networks), [node(NODE, address="192.168.0.1")])


@pytest.fixture
async def ipam(shared_ipam: IpamProcess) -> IpamProcess:
    """It runs, and nothing is allocated."""
    if shared_ipam.pid is None:
        shared_ipam.start()
    await shared_ipam.wait_until_active()
    async with shared_ipam.connect() as stub:
        await release_all(stub)
    return shared_ipam


@pytest.fixture
async def idle_node(ipam: IpamProcess, folder: Path) -> AsyncIterator[Node]:
    """A node whose agent is not started."""
    with Namespaces() as namespaces:
        made = Node(namespaces, folder, ipam)
        outside = namespaces.new("outside")
        made.home.link(outside, "up0", "up0")
        async with made:
            yield made


@pytest.fixture
async def node_(idle_node: Node) -> Node:
    """A node with an agent."""
    idle_node.start()
    return idle_node


@pytest.fixture
async def real(ipam: IpamProcess, folder: Path) -> AsyncIterator[RealNode]:
    """A node that runs the whole agent, and a machine beside it."""
    with Namespaces() as namespaces:
        made = RealNode(namespaces, folder, ipam)
        outside = namespaces.new("outside")
        made.home.link(outside, "up0", "up0")
        made.home.run("ip addr add 192.168.0.1/24 dev up0")
        outside.run("ip addr add 192.168.0.254/24 dev up0")
        outside.run("ip route add 10.1.0.0/24 via 192.168.0.1")
        async with made:
            made.start()
            await made.ready()
            yield made


class DualNode(RealNode):
    networks = ("net", "six")


@pytest.fixture
async def dual(ipam: IpamProcess, folder: Path) -> AsyncIterator[tuple[RealNode, Namespace]]:
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
        async with made:
            made.start()
            await made.ready()
            yield made, gateway
