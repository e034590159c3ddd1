"""Two replicas of ipam as processes: each test finds one active, one not, and nothing allocated."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from services.common.model.layout import Layout
from tests.support.ipam_process import IpamProcess, release_all, seed, wait_until_one_active
from tests.support.retrying import again
from tests.support.topologies import layout, network, node

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

NODES = [
    node("h1", address="192.0.2.1", other_address="2001:db8:ffff::1"),
    node("h2", address="192.0.2.2"),
    node("h3", address="192.0.2.3", on=["net"]),
]


def usual_layout() -> Layout:
    return layout(
        [
            network("net", "10.0.0.0/24", 29),
            network("small", "10.0.1.0/30", 32, tenants=["own"]),
            network("slow", "10.0.2.0/31", 31, tenants=["slow"], reuse_delay=3600.0),
            network("six", "2001:db8::/64", 122),
        ]
    )


@dataclass(frozen=True)
class Pair:
    """Both replicas, and their store."""

    client: EtcdClient
    keys: Keys
    active: IpamProcess
    standby: IpamProcess
    stub: IpamServiceAsyncStub
    """Of the active one."""
    other: IpamServiceAsyncStub
    """Of the one that is not."""

    async def dump(self) -> dict[str, tuple[bytes, int]]:
        """All that ipam wrote."""
        found = await self.client.range(self.keys.ipam)
        return {item.key: (item.value, item.mod_revision) for item in found.items}


@pytest.fixture(scope="module")
def processes(
    shared_etcd: LocalEtcd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, list[IpamProcess]]]:
    folder, root = tmp_path_factory.mktemp("ipam"), f"/test-{uuid.uuid4().hex[:12]}"
    with (
        IpamProcess.started(shared_etcd.endpoint, root, folder, name="one") as one,
        IpamProcess.started(shared_etcd.endpoint, root, folder, name="two") as two,
    ):
        yield shared_etcd.endpoint, root, [one, two]


@pytest.fixture
async def pair(processes: tuple[str, str, list[IpamProcess]]) -> AsyncIterator[Pair]:
    endpoint, root, replicas = processes
    keys = Keys(root)
    async with EtcdClient([endpoint]) as client:
        await again(lambda: seed(client, keys, usual_layout(), NODES))
        active = await wait_until_one_active(replicas)
        standby = next(replica for replica in replicas if replica is not active)
        await standby.wait_until_serving()
        async with active.connect() as stub, standby.connect() as other:
            yield Pair(client, keys, active, standby, stub, other)
            await release_all(stub)
