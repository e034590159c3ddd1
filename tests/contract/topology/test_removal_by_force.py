"""A node in use is not removed by force while its agent is there, or while nobody knows."""

from __future__ import annotations

import pytest
from romana.topology.v1 import topology_service_pb2 as api

from services.common.errors import RomanaError
from services.common.etcd.types import Delete, Outcome
from services.common.model.names import NodeName
from tests.conftest import Store
from tests.contract.topology.asking import allocate, apply, failing, ipam_is_there, racks, register
from tests.contract.topology.replicas import Replica

X = NodeName("x")


@pytest.fixture(autouse=True)
async def in_use(replica: Replica, store: Store) -> None:
    """A node with addresses in use."""
    await apply(replica, racks("a"))
    await register(replica, "x", "192.0.2.1")
    await allocate(store, "x", "10.0.0.0", "n/a", used=3)


async def remove(replica: Replica, *, off: bool = False) -> int:
    request = api.DeleteNodeRequest(name="x", force=True, machine_is_off=off)
    return (await replica.stub.DeleteNode(request)).released_addresses


async def refused(replica: Replica, *, off: bool = False) -> RomanaError:
    request = api.DeleteNodeRequest(name="x", force=True, machine_is_off=off)
    return await failing(replica.stub.DeleteNode(request))


async def test_while_its_agent_has_a_stream(replica: Replica, store: Store) -> None:
    await ipam_is_there(store)
    await store.client.put(store.keys.stream(X, "one"), b"")
    for off in (False, True):
        found = await refused(replica, off=off)
        assert found.reason == "NODE_CONNECTED"
        assert found.metadata == {"node": "x", "field": "force"}
    assert (await replica.stub.GetNode(api.GetNodeRequest(name="x"))).node.placements
    assert await store.client.get(store.keys.removed_node(X)) is None


async def test_a_stream_of_another_node_stands_in_nobodys_way(
    replica: Replica, store: Store
) -> None:
    await ipam_is_there(store)
    await store.client.put(store.keys.stream(NodeName("x1"), "one"), b"")
    assert await remove(replica) == 3


async def test_while_no_replica_of_ipam_could_know(replica: Replica) -> None:
    found = await refused(replica)
    assert found.reason == "AGENT_NOT_KNOWN"
    assert found.metadata == {"node": "x", "field": "force"}
    assert await remove(replica, off=True) == 3


async def test_nor_is_what_it_left_released_sooner(replica: Replica, store: Store) -> None:
    await ipam_is_there(store)
    await remove(replica)
    await store.client.put(store.keys.stream(X, "one"), b"")
    assert await remove(replica) == 3, "what was done is done"
    assert (await refused(replica, off=True)).reason == "NODE_CONNECTED"
    await store.client.transact((), (Delete(store.keys.stream(X, "one")),))
    assert await remove(replica, off=True) == 3


async def test_a_stream_that_begins_meanwhile_is_seen(
    replica: Replica, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ipam_is_there(store)
    transact = store.client.transact

    async def later(*what: object) -> Outcome:
        """The agent comes after all was looked at, and before it is carried out."""
        monkeypatch.setattr(store.client, "transact", transact)
        await store.client.put(store.keys.stream(X, "one"), b"")
        return await transact(*what)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(store.client, "transact", later)
    assert (await refused(replica)).reason == "NODE_CONNECTED"


async def test_without_anything_in_use_there_is_nothing_to_lose(
    replica: Replica, store: Store
) -> None:
    await register(replica, "idle", "192.0.2.2")
    await store.client.put(store.keys.stream(NodeName("idle"), "one"), b"")
    request = api.DeleteNodeRequest(name="idle", force=True)
    assert (await replica.stub.DeleteNode(request)).released_addresses == 0
