"""The topology service while etcd is killed under it; what it demands of many claims at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial

import grpc
import grpc.aio
import pytest
from romana.topology.v1 import node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.etcd.process import LocalEtcd
from services.common.etcd.types import Compare, Delete, Operation, Outcome, Put
from services.common.model.node import Node
from services.common.records.layout import decode_node
from services.common.rpc.status import error_of
from services.topology.store.claims import MAX_COMPARES
from tests.conftest import Store
from tests.contract.topology.asking import allocate, apply, failing, racks, register
from tests.contract.topology.replicas import Replica, replica_of
from tests.support.ipam_process import poll

KEYS = Keys("/faults")
KILLS = 3
WORKERS = 6
NODES = 40
"""For each worker."""
PATIENCE = 60.0


class Load:
    """Workers in pairs: both of a pair want the same addresses, under names of their own."""

    def __init__(self, replicas: tuple[Replica, ...]) -> None:
        self._replicas = replicas
        self.acknowledged: dict[str, node_pb2.Node] = {}
        self.refused: Counter[str] = Counter()
        self.retries = 0
        self.progress = asyncio.Event()

    async def work(self, worker: int) -> None:
        for number in range(NODES):
            address = f"192.0.{worker // 2}.{number + 1}"
            node = node_pb2.Node(name=f"w{worker}-{number}", address=address)
            await self._register(node, start=worker + number)

    async def _register(self, node: node_pb2.Node, start: int) -> None:
        """As a client does: again, by another replica, while the service is unavailable or busy."""
        attempt = start
        while True:
            attempt += 1
            stub = self._replicas[attempt % len(self._replicas)].stub
            try:
                answer = await stub.RegisterNode(api.RegisterNodeRequest(node=node), timeout=15)
            except grpc.aio.AioRpcError as error:
                reason = error_of(error).reason
                if error.code() is grpc.StatusCode.ALREADY_EXISTS:
                    self.refused[reason] += 1
                    return
                if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}:
                    raise
                self.retries += 1
                await asyncio.sleep(0.05)
            else:
                self.acknowledged[node.name] = answer.node
                self.progress.set()
                return

    def has_retried(self, times: int) -> bool:
        return self.retries >= times

    async def until(self, number: int) -> None:
        while len(self.acknowledged) < number:
            self.progress.clear()
            await self.progress.wait()


async def watch(replica: Replica, seen: dict[str, node_pb2.Node]) -> None:
    """Follows for ever; a stream that ends is begun again, with everything."""
    while True:
        try:
            async for message in replica.stub.WatchTopology(api.WatchTopologyRequest()):
                if message.HasField("spec"):
                    seen.clear()
                seen.update((node.name, node) for node in message.updated_nodes)
                for name in message.removed_nodes:
                    seen.pop(name, None)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def replicas_on(etcd: LocalEtcd) -> AsyncIterator[tuple[Replica, Replica]]:
    async with (
        EtcdClient([etcd.endpoint], timeout=2) as one,
        EtcdClient([etcd.endpoint], timeout=2) as two,
        replica_of(one, KEYS) as first,
        replica_of(two, KEYS) as second,
    ):
        yield first, second


async def stored(etcd: LocalEtcd) -> dict[str, Node]:
    async with EtcdClient([etcd.endpoint]) as client:
        found = await client.range(KEYS.nodes)
    return {str(node.name): node for node in (decode_node(item.value) for item in found.items)}


@pytest.mark.timeout(180)
async def test_no_acknowledged_node_is_lost_and_no_address_given_twice_when_etcd_is_killed(
    etcd_server: LocalEtcd,
) -> None:
    async with replicas_on(etcd_server) as replicas:
        await apply(replicas[0], racks("a", "b", "c"))
        load = Load(replicas)
        seen: dict[str, node_pb2.Node] = {}
        watching = asyncio.create_task(watch(replicas[1], seen))
        workers = [asyncio.create_task(load.work(number)) for number in range(WORKERS)]
        expected = WORKERS * NODES // 2
        async with asyncio.timeout(PATIENCE * 2):
            for kill in range(1, KILLS + 1):
                await load.until(expected * kill // (KILLS + 2))
                etcd_server.kill()
                enough = load.retries + 3
                await poll(partial(load.has_retried, enough), PATIENCE, what="clients to retry")
                await etcd_server.start()
            await asyncio.gather(*workers)
        there = await stored(etcd_server)

        assert set(load.acknowledged) == set(there)
        assert len(there) == expected
        assert load.refused == {"NODE_ADDRESS_TAKEN": expected}
        assert max(Counter(node.address for node in there.values()).values()) == 1
        for name, node in load.acknowledged.items():
            assert {p.topology: p.group for p in node.placements} == there[name].placements
        groups = Counter(path for node in there.values() for path in node.placements.values())
        assert {number for _, number in groups.items()} == {expected // 3}

        await poll(lambda: set(seen) == set(there), PATIENCE, what="the watcher to know all")
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def test_while_the_store_is_away_reads_go_on_and_writes_are_unavailable(
    etcd_server: LocalEtcd,
) -> None:
    async with replicas_on(etcd_server) as (replica, other):
        await apply(replica, racks("a"))
        await register(replica, "x", "192.0.2.1")
        etcd_server.kill()
        assert (await replica.stub.GetNode(api.GetNodeRequest(name="x"))).node.name == "x"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await register(replica, "y", "192.0.2.2")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await replica.stub.GetStatus(api.GetStatusRequest())).nodes == 1
        await etcd_server.start()
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await register(other, "y", "192.0.2.2")
                    break
                await asyncio.sleep(0.05)
        got = await other.stub.ListNodes(api.ListNodesRequest())
        assert [node.name for node in got.nodes] == ["x", "y"]


def interrupting(
    store: Store, monkeypatch: pytest.MonkeyPatch, node: str, group: str, base: str
) -> Callable[[], int]:
    """Lets ipam take a block right before the next transaction; returns its number of compares."""
    transact = store.client.transact
    compares: list[int] = []

    async def interrupted(demands: list[Compare], *operations: list[Operation]) -> Outcome:
        if len(demands) > 1 and not compares:
            compares.append(len(demands))
            monkeypatch.setattr(store.client, "transact", transact)
            await allocate(store, node, base, group)
        return await transact(demands, *operations)

    monkeypatch.setattr(store.client, "transact", interrupted)
    return lambda: compares[0]


MANY = [f"r{number}" for number in range(MAX_COMPARES + 5)]


async def test_a_claim_in_one_of_more_groups_than_can_be_compared_is_not_overlooked(
    replica: Replica, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(replica, racks(*MANY))
    pinned = node_pb2.Node(name="x", address="192.0.2.1", pins={"n": "n/r100"})
    await replica.stub.RegisterNode(api.RegisterNodeRequest(node=pinned))
    number = interrupting(store, monkeypatch, "x", "n/r100", "10.0.200.0")
    found = await failing(apply(replica, racks("y", "z")))
    assert (found.reason, found.metadata["node"]) == ("WOULD_STRAND", "x")
    assert number() < MAX_COMPARES


async def test_claims_that_were_seen_do_not_hinder_a_change_of_many_groups(
    replica: Replica, store: Store
) -> None:
    await apply(replica, racks(*MANY))
    await register(replica, "x", "192.0.2.1")
    await allocate(store, "x", "10.0.0.0", "n/r0")
    await store.client.transact(
        (), (Delete(store.keys.blocks, prefix=True), Put(store.keys.commit, b"2"))
    )
    assert (await apply(replica, racks("z"))).changed


async def test_a_claim_on_one_of_more_nodes_than_can_be_compared_is_not_overlooked(
    replica: Replica, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ", ".join(f"{{name: x{i}, address: 192.0.2.{i}}}" for i in range(1, MAX_COMPARES))
    await apply(
        replica,
        "networks: [{name: n, cidr: 10.0.0.0/16}]\n"
        f"topologies: [{{networks: [n], groups: [{{name: a, nodes: [{names}]}}, {{name: b}}]}}]",
    )
    number = interrupting(store, monkeypatch, "x7", "n/a", "10.0.0.0")
    found = await failing(apply(replica, racks("b")))
    assert (found.reason, found.metadata["node"]) == ("WOULD_STRAND", "x7")
    assert number() < MAX_COMPARES


async def test_a_new_replica_on_a_store_that_comes_late_reads_everything(
    etcd_server: LocalEtcd,
) -> None:
    async with EtcdClient([etcd_server.endpoint], timeout=1) as client:
        async with replica_of(client, KEYS) as replica:
            await replica.stub.ApplyTopology(
                api.ApplyTopologyRequest(
                    builtin=topology_pb2.BuiltinTopology(name=topology_pb2.BUILTIN_NAME_FLAT)
                )
            )
        etcd_server.kill()
        starting = asyncio.create_task(networks_of_a_new_replica(client))
        await etcd_server.start()
        assert await starting == 1


async def networks_of_a_new_replica(client: EtcdClient) -> int:
    """Networks that a new replica knows."""
    async with replica_of(client, KEYS) as replica:
        return (await replica.stub.GetStatus(api.GetStatusRequest())).networks
