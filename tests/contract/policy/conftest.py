"""Two replicas of policy as processes: each test finds three nodes and nothing else. And what a
replica knows, in the test's own process."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from romana.policy.v1 import policy_service_pb2 as api

from services.common.audit.writer import AuditWriter
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from services.common.etcd.types import Delete, Put
from services.policy.api.audited import TEXTS
from services.policy.engine.engine import Engine
from services.policy.store.store import PolicyStore
from tests.conftest import Store
from tests.support.ipam_process import poll, seed
from tests.support.policy_process import PolicyProcess
from tests.support.topologies import layout, network, node

if TYPE_CHECKING:
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub

NODES = [node(f"h{number}", address=f"192.0.2.{number}") for number in (1, 2, 3)]


@dataclass(frozen=True)
class Pair:
    """Both replicas, and their store."""

    client: EtcdClient
    keys: Keys
    first: PolicyProcess
    second: PolicyProcess
    stub: PolicyServiceAsyncStub
    """Of the first."""
    other: PolicyServiceAsyncStub

    @property
    def addresses(self) -> list[str]:
        return [self.first.address, self.second.address]


@pytest.fixture(scope="module")
def processes(
    shared_etcd: LocalEtcd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, PolicyProcess, PolicyProcess]]:
    folder, root = tmp_path_factory.mktemp("policy"), f"/test-{uuid.uuid4().hex[:12]}"
    with (
        PolicyProcess.started(shared_etcd.endpoint, root, folder, name="one") as one,
        PolicyProcess.started(shared_etcd.endpoint, root, folder, name="two") as two,
    ):
        yield shared_etcd.endpoint, root, one, two


@pytest.fixture
async def pair(
    processes: tuple[str, str, PolicyProcess, PolicyProcess],
) -> AsyncIterator[Pair]:
    endpoint, root, one, two = processes
    keys = Keys(root)
    async with EtcdClient([endpoint]) as client:
        nets = layout([network("net", "10.0.0.0/24", 29), network("six", "2001:db8::/64", 122)])
        await seed(client, keys, nets, NODES)
        await one.wait_until_serving()
        await two.wait_until_serving()
        async with one.connect() as stub, two.connect() as other:
            yield Pair(client, keys, one, two, stub, other)
            await client.transact(
                (), [Delete(keys.policy, prefix=True), Delete(keys.blocks, prefix=True)]
            )
            # the next test begins when both have seen that there is nothing
            await client.put(keys.policy_generation, b"1")
            for each in (stub, other):
                await each.GetRealization(api.GetRealizationRequest())


@pytest.fixture
async def replica(store: Store) -> AsyncIterator[PolicyStore]:
    """What one knows of a store with a network and three nodes."""
    client, keys = store.client, store.keys
    made = PolicyStore(client, keys, Engine(), AuditWriter(keys, "policy", TEXTS))
    await seed(client, keys, layout([network("net", "10.0.0.0/24", 29)]), NODES)
    await client.transact((), [Put(keys.policy_generation, b"1"), Put(keys.commit, b"1")])
    running = asyncio.create_task(made.run())

    async def has_read() -> bool:
        return made.in_sync

    await poll(has_read, 30, what="the store to be read")
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
