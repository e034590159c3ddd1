"""Records that cannot be read: nothing ends, and nothing is removed that they may stand for."""

from __future__ import annotations

from collections.abc import Awaitable

import grpc.aio
import pytest
from romana.topology.v1 import node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.errors import RomanaError
from services.common.etcd.types import Operation, Put
from services.common.model.names import NetworkName, NodeName
from services.common.records.blocks import BlockPage, PageUse, encode
from services.common.rpc.status import error_of
from tests.conftest import Store
from tests.contract.topology.replicas import Replica, replica_of
from tests.support.ipam_process import poll, seed
from tests.support.topologies import layout, network, node

BASE = 10 << 24
SECONDS = 60.0
BAD_NODE = b'{"name":"h1","address":"192.0.2.300"}'
USED = encode(BlockPage(29, "h1", "t", "", 1, used=(PageUse(0, "a", 1),)))
NET = "{name: net, cidr: 10.0.0.0/24}"
OTHER = "{name: other, cidr: 10.1.0.0/24}"
GROUPS = "groups: [{name: all}]"
ONE = f"networks: [{NET}]\ntopologies: [{{name: dc, networks: [net], {GROUPS}}}]"
BOTH = f"networks: [{NET}, {OTHER}]\ntopologies: [{{name: dc, networks: [net, other], {GROUPS}}}]"
ONLY_OTHER = f"networks: [{OTHER}]\ntopologies: [{{name: dc, networks: [other], {GROUPS}}}]"


@pytest.fixture
async def seeded(store: Store) -> Store:
    both = [network("net", "10.0.0.0/24", 29), network("other", "10.1.0.0/24", 29)]
    nodes = [node("h1", address="192.0.2.1"), node("h2", address="192.0.2.2")]
    await seed(store.client, store.keys, layout(both), nodes)
    return store


async def write(store: Store, key: str, document: bytes) -> int:
    beacon = store.keys.generation if key.startswith(store.keys.topology) else store.keys.commit
    writes: list[Operation] = [Put(key, document), Put(beacon, b"test")]
    return (await store.client.transact((), writes)).revision


def page_key(store: Store) -> str:
    return store.keys.block(NetworkName("net"), BASE, 0, 32)


def node_key(store: Store, name: str = "h1") -> str:
    return store.keys.node(NodeName(name))


async def unreadable(replica: Replica) -> list[str]:
    status = await replica.stub.GetStatus(api.GetStatusRequest())
    return list(status.unreadable)


async def refusal(call: Awaitable[object]) -> RomanaError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_of(caught.value)


async def apply(replica: Replica, text: str) -> api.ApplyTopologyResponse:
    document = topology_pb2.TopologyDocument(text=text)
    return await replica.stub.ApplyTopology(
        api.ApplyTopologyRequest(document=document, allow_stranded=True)
    )


async def test_a_replica_starts_and_says_what_it_cannot_read(seeded: Store) -> None:
    await write(seeded, page_key(seeded), b'{"length":29,"node":"h1","tenant":5}')
    await write(seeded, node_key(seeded, "new"), BAD_NODE)
    async with replica_of(seeded.client, seeded.keys) as replica:
        assert await unreadable(replica) == [page_key(seeded), node_key(seeded, "new")]
        listed = await replica.stub.ListNodes(api.ListNodesRequest())
        assert [item.name for item in listed.nodes] == ["h1", "h2"]
        made = node_pb2.Node(name="h3", address="192.0.2.3")
        await replica.stub.RegisterNode(api.RegisterNodeRequest(node=made))


async def test_what_was_known_stays(seeded: Store) -> None:
    await write(seeded, page_key(seeded), USED)
    async with replica_of(seeded.client, seeded.keys) as replica:
        await write(seeded, node_key(seeded), BAD_NODE)
        await write(seeded, page_key(seeded), b"{")
        await poll(lambda: len(replica.store.unreadable) == 2, SECONDS)
        kept = await replica.stub.GetNode(api.GetNodeRequest(name="h1"))
        assert kept.node.address == "192.0.2.1"
        assert replica.store.usage.of_node(NodeName("h1")) == 1
        await write(seeded, page_key(seeded), USED)
        await poll(lambda: len(replica.store.unreadable) == 1, SECONDS)


async def test_a_node_that_cannot_be_read_is_neither_changed_nor_removed(seeded: Store) -> None:
    async with replica_of(seeded.client, seeded.keys) as replica:
        await write(seeded, node_key(seeded), BAD_NODE)
        await poll(lambda: bool(replica.store.unreadable), SECONDS)
        changed = node_pb2.Node(name="h1", address="192.0.2.77")
        for call in (
            replica.stub.UpdateNode(api.UpdateNodeRequest(node=changed)),
            replica.stub.DeleteNode(api.DeleteNodeRequest(name="h1")),
        ):
            assert (await refusal(call)).reason == "RECORD_UNREADABLE"
        found = await seeded.client.get(node_key(seeded))
        assert found is not None
        assert found.value == BAD_NODE


async def test_who_starts_knows_what_could_be_read_last(seeded: Store) -> None:
    await write(seeded, node_key(seeded), BAD_NODE)
    await write(seeded, node_key(seeded), b"{")
    await write(seeded, seeded.keys.layout, b"[")
    async with replica_of(seeded.client, seeded.keys) as replica:
        kept = await replica.stub.GetNode(api.GetNodeRequest(name="h1"))
        assert kept.node.address == "192.0.2.1"
        spec = (await replica.stub.GetTopology(api.GetTopologyRequest())).spec
        assert [item.name for item in spec.networks] == ["net", "other"]
        assert await unreadable(replica) == [seeded.keys.layout, node_key(seeded)]
        assert await replica.topology.place_misplaced() == 0


async def test_a_name_of_which_nothing_can_be_read_is_taken(seeded: Store) -> None:
    await write(seeded, node_key(seeded, "new"), BAD_NODE)
    async with replica_of(seeded.client, seeded.keys) as replica:
        made = node_pb2.Node(name="new", address="192.0.2.77")
        error = await refusal(replica.stub.RegisterNode(api.RegisterNodeRequest(node=made)))
        assert error.reason == "RECORD_UNREADABLE"
        assert error.metadata["key"] == node_key(seeded, "new")


async def test_a_node_that_cannot_be_read_is_removed_by_force(seeded: Store) -> None:
    await write(seeded, node_key(seeded), BAD_NODE)
    async with replica_of(seeded.client, seeded.keys) as replica:
        await replica.stub.DeleteNode(api.DeleteNodeRequest(name="h1", force=True))
        assert await unreadable(replica) == []
        made = node_pb2.Node(name="h1", address="192.0.2.77")
        await replica.stub.RegisterNode(api.RegisterNodeRequest(node=made))


async def test_no_prefix_is_taken_from_where_a_page_cannot_be_read(seeded: Store) -> None:
    async with replica_of(seeded.client, seeded.keys) as replica:
        await apply(replica, BOTH)
        await write(seeded, page_key(seeded), b"{")
        await poll(lambda: bool(replica.store.unreadable), SECONDS)
        error = await refusal(apply(replica, ONLY_OTHER))
        assert (error.reason, error.metadata["key"]) == ("RECORD_UNREADABLE", page_key(seeded))
        await apply(replica, ONE)  # it takes nothing from the network of the page


async def test_no_prefix_is_taken_while_a_node_cannot_be_read(seeded: Store) -> None:
    async with replica_of(seeded.client, seeded.keys) as replica:
        await apply(replica, ONE)
        await write(seeded, node_key(seeded, "h2"), BAD_NODE)
        await poll(lambda: bool(replica.store.unreadable), SECONDS)
        error = await refusal(apply(replica, ONLY_OTHER))
        assert (error.reason, error.metadata["key"]) == (
            "RECORD_UNREADABLE",
            node_key(seeded, "h2"),
        )
        await apply(replica, BOTH)  # it adds


async def test_a_layout_that_cannot_be_read_is_not_written_over(seeded: Store) -> None:
    await write(seeded, seeded.keys.layout, b"[")
    async with replica_of(seeded.client, seeded.keys) as replica:
        error = await refusal(apply(replica, ONE))
        assert (error.reason, error.metadata["key"]) == ("RECORD_UNREADABLE", seeded.keys.layout)
        found = await seeded.client.get(seeded.keys.layout)
        assert found is not None
        assert found.value == b"["


async def test_without_a_layout_that_ever_could_be_read_nothing_is_said_or_changed(
    store: Store,
) -> None:
    await seed(store.client, store.keys, None, [node("h1", address="192.0.2.1")])
    await write(store, store.keys.layout, b"[")
    async with replica_of(store.client, store.keys) as replica:
        made = node_pb2.Node(name="h3", address="192.0.2.3")
        for call in (
            replica.stub.ListNodes(api.ListNodesRequest()),
            replica.stub.GetTopology(api.GetTopologyRequest()),
            replica.stub.RegisterNode(api.RegisterNodeRequest(node=made)),
            apply(replica, ONE),
        ):
            assert (await refusal(call)).reason == "RECORD_UNREADABLE"
        before = await store.client.get(node_key(store))
        assert await replica.topology.place_misplaced() == 0
        assert await store.client.get(node_key(store)) == before
        await seed(store.client, store.keys, layout([network("net", "10.0.0.0/24", 29)]))
        await poll(lambda: not replica.store.unreadable, SECONDS)
        assert await replica.stub.ListNodes(api.ListNodesRequest())
