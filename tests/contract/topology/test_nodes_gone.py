"""Nodes that were removed or have vanished, and what is in use on them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from romana.topology.v1 import node_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.etcd.types import Delete, Put
from services.common.model.names import NetworkName, NodeName
from services.common.records.blocks import BlockPage, PageUse, PageVisit, encode
from services.common.records.layout import decode_removed_node
from services.topology.store import nodes
from tests.conftest import Store
from tests.contract.topology.asking import allocate, apply, failing, ipam_is_there, racks, register
from tests.contract.topology.replicas import Replica


async def test_a_node_in_use_is_removed_only_by_force_and_its_name_waits(
    replica: Replica, store: Store
) -> None:
    await ipam_is_there(store)
    await apply(replica, racks("a"))
    await register(replica, "x", "192.0.2.1")
    await allocate(store, "x", "10.0.0.0", "n/a", used=3)
    found = await failing(replica.stub.DeleteNode(api.DeleteNodeRequest(name="x")))
    assert (found.reason, found.metadata["addresses"]) == ("NODE_IN_USE", "3")
    gone = await replica.stub.DeleteNode(api.DeleteNodeRequest(name="x", force=True))
    assert gone.released_addresses == 3
    assert (await failing(register(replica, "x", "192.0.2.1"))).reason == "NODE_BEING_REMOVED"
    await store.client.transact(
        (), (Delete(store.keys.blocks, prefix=True), Put(store.keys.commit, b"2"))
    )
    assert await store.client.get(store.keys.removed_node(NodeName("x"))) is not None
    assert (await register(replica, "x", "192.0.2.1")).placements
    assert await store.client.get(store.keys.removed_node(NodeName("x"))) is None


async def test_a_name_does_not_wait_for_what_its_endpoints_took_along(
    replica: Replica, store: Store
) -> None:
    """It is in the blocks of that name for as long as the endpoints live."""
    await ipam_is_there(store)
    await apply(replica, racks("a"))
    await register(replica, "x", "192.0.2.1")
    await register(replica, "y", "192.0.2.2")

    async def hold(*visits: PageVisit) -> None:
        used = tuple(PageUse(offset, f"e{offset}", 0) for offset in range(2))
        page = BlockPage(length=29, node="x", tenant="t", used=used, visits=visits)
        key = store.keys.block(NetworkName("n"), int(ip_address("10.0.0.0")), 0, 32)
        await store.client.transact((), (Put(key, encode(page)), Put(store.keys.commit, b"1")))

    await hold(PageVisit(0, "y"), PageVisit(1, "x", "y"))
    gone = await replica.stub.DeleteNode(api.DeleteNodeRequest(name="x", force=True))
    assert gone.released_addresses == 1
    assert (await failing(register(replica, "x", "192.0.2.1"))).metadata["node"] == "x"
    await hold(PageVisit(0, "y"), PageVisit(1, "y"))
    again = await replica.stub.DeleteNode(api.DeleteNodeRequest(name="x", force=True))
    assert again.released_addresses == 0
    assert (await register(replica, "x", "192.0.2.1")).placements


async def test_a_node_that_vanished_may_come_back_to_what_is_in_use_on_it(
    replica: Replica, store: Store
) -> None:
    await apply(replica, racks("a"))
    await register(replica, "x", "192.0.2.1")
    await allocate(store, "x", "10.0.0.0", "n/a", used=3)
    key = store.keys.node(NodeName("x"))
    await store.client.transact((), (Delete(key), Put(store.keys.generation, b"2")))
    assert (await register(replica, "x", "192.0.2.1")).placements


async def test_the_release_of_what_a_vanished_node_had_can_be_asked_for(
    replica: Replica, store: Store
) -> None:
    await ipam_is_there(store)
    await apply(replica, racks("a"))
    await register(replica, "x", "192.0.2.1")
    await allocate(store, "x", "10.0.0.0", "n/a", used=3)
    key = store.keys.node(NodeName("x"))
    await store.client.transact((), (Delete(key), Put(store.keys.generation, b"2")))
    answer = await replica.stub.DeleteNode(api.DeleteNodeRequest(name="x"))
    assert answer.released_addresses == 0
    assert await store.client.get(store.keys.removed_node(NodeName("x"))) is None
    for _ in range(2):
        answer = await replica.stub.DeleteNode(api.DeleteNodeRequest(name="x", force=True))
        assert answer.released_addresses == 3
    assert await store.client.get(store.keys.removed_node(NodeName("x"))) is not None


async def test_old_removals_are_forgotten_when_nothing_is_in_use_any_more(
    replica: Replica, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "_REMOVALS_KEPT", 2)
    await apply(replica, racks("a"))
    for number in range(1, 6):
        await register(replica, f"x{number}", f"192.0.2.{number}")
        await replica.stub.DeleteNode(api.DeleteNodeRequest(name=f"x{number}"))
    kept = await store.client.range(store.keys.removed_nodes)
    # one is forgotten with the removal after it
    names = [NodeName(f"x{number}") for number in (3, 4, 5)]
    assert [item.key for item in kept.items] == [store.keys.removed_node(name) for name in names]


async def test_an_agent_does_not_register_what_somebody_removed(replica: Replica) -> None:
    await apply(replica, racks("a"))
    await register(replica, "x", "192.0.2.1")
    await replica.stub.DeleteNode(api.DeleteNodeRequest(name="x"))
    asked = api.RegisterNodeRequest(
        node=node_pb2.Node(name="x", address="192.0.2.1"), unless_removed=True
    )
    assert (await failing(replica.stub.RegisterNode(asked))).reason == "NODE_REMOVED"
    await register(replica, "x", "192.0.2.1")  # an operator does
    await replica.stub.RegisterNode(asked)  # it is there
    await replica.stub.DeleteNode(api.DeleteNodeRequest(name="x"))
    assert (await failing(replica.stub.RegisterNode(asked))).reason == "NODE_REMOVED"


async def test_the_word_that_a_machine_is_off_may_follow(replica: Replica, store: Store) -> None:
    await ipam_is_there(store)
    await apply(replica, racks("a"))
    await register(replica, "x", "192.0.2.1")
    await allocate(store, "x", "10.0.0.0", "n/a", used=3)
    key = store.keys.removed_node(NodeName("x"))
    for off in (False, True, False):
        request = api.DeleteNodeRequest(name="x", force=True, machine_is_off=off)
        assert (await replica.stub.DeleteNode(request)).released_addresses == 3
        item = await store.client.get(key)
        assert item is not None
        known = decode_removed_node(item.value).machine_is_off
        assert known is off or known
    assert known


async def test_deleting_twice_is_fine_and_reading_is_not_found(replica: Replica) -> None:
    await apply(replica, racks("a"))
    await register(replica, "x", "192.0.2.1")
    for _ in range(2):
        await replica.stub.DeleteNode(api.DeleteNodeRequest(name="x"))
    found = await failing(replica.stub.GetNode(api.GetNodeRequest(name="x")))
    assert found.reason == "NODE_NOT_FOUND"
