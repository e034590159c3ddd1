"""Changes of a topology or of a node beside what ipam says is in use."""

from __future__ import annotations

from collections.abc import Awaitable
from ipaddress import ip_address

import pytest
from romana.topology.v1 import topology_service_pb2 as api

from services.common.etcd.types import Delete, Put
from services.common.model.names import NetworkName, NodeName
from services.common.records.blocks import BlockPage, PageUse, PageVisit, encode
from tests.conftest import Store
from tests.contract.topology.asking import allocate, apply, failing, racks, register
from tests.contract.topology.replicas import Replica


async def test_a_topology_with_nodes_in_use_can_be_changed(replica: Replica, store: Store) -> None:
    await apply(replica, racks("a", "b"))
    await register(replica, "x", "192.0.2.1")
    await allocate(store, "x", "10.0.0.0", "n/a")
    answer = await apply(replica, racks("a", "b", "c"))
    assert answer.changed
    assert not answer.plan.nodes
    assert not answer.plan.stranded


async def test_a_change_that_strands_is_refused_unless_allowed(
    replica: Replica, store: Store
) -> None:
    await apply(replica, racks("a", "b"))
    await register(replica, "x", "192.0.2.1")
    await allocate(store, "x", "10.0.0.0", "n/a", used=2)
    found = await failing(apply(replica, racks("b")))
    assert found.reason == "WOULD_STRAND"
    assert found.metadata["addresses"] == "2"
    validated = await apply(replica, racks("b"), validate_only=True)
    assert [block.block for block in validated.plan.stranded] == ["10.0.0.0/29"]
    answer = await apply(replica, racks("b"), allow_stranded=True)
    assert answer.changed
    assert answer.plan.stranded_addresses == 2


async def test_addresses_that_visit_a_node_count_as_in_use_there_and_at_home(
    replica: Replica, store: Store
) -> None:
    await apply(replica, racks("a"))
    for number, name in enumerate(("home", "visited", "next", "idle"), start=1):
        await register(replica, name, f"192.0.2.{number}")
    place = NetworkName("n"), int(ip_address("10.0.0.0")), 0, 32
    used = tuple(PageUse(offset, f"e{offset}", 0) for offset in range(2))
    visits = (PageVisit(0, "visited"), PageVisit(1, "visited", "next"))
    page = BlockPage(length=29, node="home", tenant="t", used=used, visits=visits)
    claims = [
        Put(store.keys.node_claim(NodeName(name)), b"1") for name in ("home", "visited", "next")
    ]
    commit = Put(store.keys.commit, b"1")
    await store.client.transact((), (Put(store.keys.block(*place), encode(page)), *claims, commit))
    for name, count in (("home", "2"), ("visited", "2"), ("next", "1")):
        found = await failing(replica.stub.DeleteNode(api.DeleteNodeRequest(name=name)))
        assert (found.reason, found.metadata["addresses"]) == ("NODE_IN_USE", count)
    await replica.stub.DeleteNode(api.DeleteNodeRequest(name="idle"))

    await store.client.transact((), (Delete(store.keys.block(*place)), commit))
    for name in ("home", "visited", "next"):
        await replica.stub.DeleteNode(api.DeleteNodeRequest(name=name))


@pytest.mark.parametrize("by", ["attachments", "labels", "topology"])
async def test_a_network_stays_while_addresses_of_others_visit_the_node(
    replica: Replica, store: Store, by: str
) -> None:
    """Or move to it: whichever change would take it away."""
    text = """
networks: [{name: n, cidr: 10.0.0.0/16}, {name: m, cidr: 10.1.0.0/16}]
topologies:
  - name: n
    networks: [n]
    groups: [{name: home, assignment: {at: home}}, {name: a, assignment: {rack: one}}]
  - {name: m, networks: [m], groups: [{name: all}]}
"""
    without = text.replace("rack: one", "rack: other")
    await apply(replica, text)
    await register(replica, "home", "192.0.2.1", at="home")
    for number, name in enumerate(("visited", "next"), start=2):
        await register(replica, name, f"192.0.2.{number}", rack="one")
    place = NetworkName("n"), int(ip_address("10.0.0.0")), 0, 32
    used = tuple(PageUse(offset, f"e{offset}", 0) for offset in range(2))
    visits = (PageVisit(0, "visited"), PageVisit(1, "home", "next"))
    page = BlockPage(length=29, node="home", tenant="t", used=used, visits=visits)
    commit = Put(store.keys.commit, b"1")
    await store.client.transact((), (Put(store.keys.block(*place), encode(page)), commit))

    for name in ("visited", "next"):
        known = (await replica.stub.GetNode(api.GetNodeRequest(name=name))).node
        if by == "topology":
            change: Awaitable[object] = apply(replica, without)
        else:
            if by == "labels":
                del known.labels["rack"]
            else:
                del known.attachments[:]
                known.attachments.add(network="m")
            change = replica.stub.UpdateNode(api.UpdateNodeRequest(node=known))
        found = await failing(change)
        assert found.reason == "WOULD_STRAND"
        if by != "topology":
            assert found.metadata["field"] == f"node.{by}"
            assert (found.metadata["node"], found.metadata["addresses"]) == (name, "1")

    await store.client.transact((), (Delete(store.keys.block(*place)), commit))
    if by == "topology":
        assert (await apply(replica, without)).changed
    else:
        await replica.stub.UpdateNode(api.UpdateNodeRequest(node=known))
