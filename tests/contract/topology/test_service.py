"""The topology service over gRPC on a real etcd: what it does, alone, in two, and beside ipam."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from prometheus_client import generate_latest
from romana.topology.v1 import node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.errors import InvalidInput
from services.common.etcd.types import Compare, Delete, Operation, Outcome, Put
from services.common.model.names import NetworkName, NodeName
from services.common.process.version import version
from services.common.records.blocks import BlockPage, PageUse, PageVisit, encode
from services.common.records.layout import decode_removed_node
from services.common.rpc.status import error_of
from services.common.sizes import TRANSACTION_OPERATIONS
from services.topology.forms.apply_request import ApplyRequest
from services.topology.forms.initial import read_initial
from services.topology.store import nodes, planning
from services.topology.store.apply import ApplyOptions
from services.topology.store.store import Known
from tests.conftest import Store
from tests.contract.topology.asking import (
    RACKS,
    allocate,
    apply,
    failing,
    ipam_is_there,
    racks,
    register,
)
from tests.contract.topology.replicas import Replica
from tests.support.ipam_process import poll

EXAMPLE = (Path(__file__).parents[3] / "examples" / "datacenter.yaml").read_text()


async def test_apply_answers_the_plan_and_again_changes_nothing(replica: Replica) -> None:
    first = await apply(replica, EXAMPLE)
    assert first.changed
    assert len(first.plan.networks) == 4
    again = await apply(replica, EXAMPLE)
    assert not again.changed
    assert again.plan == topology_pb2.TopologyPlan()
    assert again.etag == first.etag


async def test_validate_only_changes_nothing(
    replica: Replica, dump: Callable[[], Awaitable[list[tuple[str, bytes, int]]]]
) -> None:
    answer = await apply(replica, EXAMPLE, validate_only=True)
    assert len(answer.plan.groups) == 8
    assert not answer.changed
    assert await dump() == []


async def test_what_is_read_back_can_be_applied_again(replica: Replica) -> None:
    await apply(replica, EXAMPLE)
    got = await replica.stub.GetTopology(api.GetTopologyRequest())
    rack = got.spec.topologies[0].groups[1]
    assert rack.path == "datacenter/rack-2"
    assert rack.carved_prefixes["admin"] == "10.50.8.0/21"
    assert not (await replica.stub.ApplyTopology(api.ApplyTopologyRequest(spec=got.spec))).changed


async def test_export_with_nodes_makes_the_same_elsewhere(replica: Replica) -> None:
    await apply(replica, racks("a", "b", "c", "d", "e"))
    await apply(replica, racks("e", "b"))
    await register(replica, "x", "192.0.2.1", k="1e3")
    await register(replica, "y", "192.0.2.2")
    before = await replica.stub.GetTopology(api.GetTopologyRequest())
    for form in (topology_pb2.DOCUMENT_FORMAT_YAML, topology_pb2.DOCUMENT_FORMAT_JSON):
        request = api.ExportTopologyRequest(format=form, include_nodes=True)
        document = (await replica.stub.ExportTopology(request)).document
        await replica.store._client.transact(
            (), (Delete(replica.store.keys.topology, prefix=True),)
        )
        await replica.stub.ApplyTopology(api.ApplyTopologyRequest(document=document))
        after = await replica.stub.GetTopology(api.GetTopologyRequest())
        assert after.spec == before.spec
        node = (await replica.stub.GetNode(api.GetNodeRequest(name="x"))).node
        assert node.labels == {"k": "1e3"}
        assert node.pins == {"n": node.placements[0].group}


@pytest.mark.parametrize(
    "name", [topology_pb2.BUILTIN_NAME_FLAT, topology_pb2.BUILTIN_NAME_KUBEADM]
)
async def test_builtins_take_every_node(
    replica: Replica, name: topology_pb2.BuiltinName.ValueType
) -> None:
    builtin = topology_pb2.BuiltinTopology(name=name, cidr="10.64.0.0/13")
    await replica.stub.ApplyTopology(api.ApplyTopologyRequest(builtin=builtin))
    got = await replica.stub.ListNetworks(api.ListNetworksRequest())
    assert [network.cidr for network in got.networks] == ["10.64.0.0/13"]
    for number in range(1, 10):
        assert (await register(replica, f"n{number}", f"192.0.2.{number}")).placements


async def test_registering_again_returns_the_same_node(replica: Replica) -> None:
    await apply(replica, racks("a", "b"))
    first = await register(replica, "x", "192.0.2.1")
    assert await register(replica, "x", "192.0.2.1") == first
    assert first.networks == ["n"]
    assert first.create_time.seconds > 0


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


@contextlib.contextmanager
def held_plan(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The next plan of a topology goes on when the event is set."""
    go_on, original = threading.Event(), planning.plan_by

    def held(request: ApplyRequest, known: Known) -> planning.Planned:
        monkeypatch.setattr(planning, "plan_by", original)
        planned = original(request, known)
        assert go_on.wait(30)
        return planned

    monkeypatch.setattr(planning, "plan_by", held)
    try:
        yield go_on
    finally:
        go_on.set()


async def test_a_plan_keeps_nobody_waiting(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(replica, racks("a"))
    with held_plan(monkeypatch) as go_on:
        applying = asyncio.create_task(apply(replica, racks("a", "b")))
        for number in range(1, 5):
            await register(replica, f"x{number}", f"192.0.2.{number}")
        assert not applying.done()
        go_on.set()
        assert (await applying).changed
    found = await replica.stub.ListNodes(api.ListNodesRequest())
    assert len(found.nodes) == 4


async def test_what_came_while_a_plan_was_made_is_not_overlooked(
    replica: Replica, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(replica, racks("a", "b"))
    with held_plan(monkeypatch) as go_on:
        applying = asyncio.create_task(apply(replica, racks("b")))
        await register(replica, "x", "192.0.2.1")
        await allocate(store, "x", "10.0.0.0", "n/a")
        go_on.set()
        assert (await failing(applying)).reason == "WOULD_STRAND"


async def test_what_is_taken_while_a_plan_is_made_is_not_overlooked(
    replica: Replica, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of topology changes meanwhile: only the claim tells."""
    await apply(replica, racks("a", "b"))
    await register(replica, "x", "192.0.2.1")
    with held_plan(monkeypatch) as go_on:
        applying = asyncio.create_task(apply(replica, racks("b")))
        await poll(lambda: planning.plan_by.__name__ == "plan_by", 30)
        await allocate(store, "x", "10.0.0.0", "n/a")
        go_on.set()
        assert (await failing(applying)).reason == "WOULD_STRAND"


async def test_a_claim_between_look_and_transaction_is_not_overlooked(
    replica: Replica, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(replica, racks("a", "b"))
    await register(replica, "x", "192.0.2.1")
    commit = replica.store._commit
    raced = asyncio.Event()

    async def late(decision: Any) -> Any:
        if not raced.is_set():
            raced.set()
            await allocate(store, "x", "10.0.0.0", "n/a")
        return await commit(decision)

    monkeypatch.setattr(replica.store, "_commit", late)
    assert (await failing(apply(replica, racks("b")))).reason == "WOULD_STRAND"
    raced.clear()
    await store.client.transact(
        (), (Delete(store.keys.blocks, prefix=True), Put(store.keys.commit, b"2"))
    )
    delete = replica.stub.DeleteNode(api.DeleteNodeRequest(name="x"))
    assert (await failing(delete)).reason == "NODE_IN_USE"


async def test_an_update_that_moves_a_node_looks_at_its_claims(
    replica: Replica, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(replica, RACKS % "{name: a, assignment: {r: a}}, {name: b, assignment: {r: b}}")
    node = await register(replica, "x", "192.0.2.1", r="a")
    node.labels["r"] = "b"
    commit = replica.store._commit
    raced = asyncio.Event()

    async def late(decision: Any) -> Any:
        if not raced.is_set():
            raced.set()
            await allocate(store, "x", "10.0.0.0", "n/a")
        return await commit(decision)

    monkeypatch.setattr(replica.store, "_commit", late)
    request = api.UpdateNodeRequest(node=node)
    assert (await failing(replica.stub.UpdateNode(request))).reason == "WOULD_STRAND"
    request.allow_stranded = True
    answer = await replica.stub.UpdateNode(request)
    assert answer.plan.nodes[0].after == "n/b"
    assert answer.plan.stranded_addresses == 1


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


async def test_of_two_replicas_that_register_one_address_one_wins(
    replica: Replica, other: Replica
) -> None:
    await apply(replica, racks("a", "b", "c"))
    for number in range(1, 9):
        answers = await asyncio.gather(
            register(replica, f"x{number}", f"192.0.2.{number}"),
            register(other, f"y{number}", f"192.0.2.{number}"),
            return_exceptions=True,
        )
        assert sorted(isinstance(answer, grpc.aio.AioRpcError) for answer in answers) == [
            False,
            True,
        ]
        (lost,) = (answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError))
        assert error_of(lost).reason == "NODE_ADDRESS_TAKEN"


async def test_two_replicas_fill_groups_evenly(replica: Replica, other: Replica) -> None:
    await apply(replica, racks("a", "b", "c"))
    nodes = await asyncio.gather(
        *(register((replica, other)[i % 2], f"x{i}", f"192.0.2.{i + 1}") for i in range(18))
    )
    groups = [node.placements[0].group for node in nodes]
    assert {groups.count(group) for group in groups} == {6}


async def test_a_change_that_moves_many_nodes_is_completed(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = TRANSACTION_OPERATIONS * 2 + 10
    nodes = ", ".join(f"{{name: x{i}, address: 192.0.{i // 250}.{i % 250}}}" for i in range(number))
    await apply(replica, RACKS % f"{{name: a, nodes: [{nodes}]}}")
    assert len(replica.store.cache.nodes) == number

    async def crash(*_: object) -> None:
        raise RuntimeError("crash")

    with monkeypatch.context() as patched:
        patched.setattr(replica.topology, "_finish", crash)
        await failing(apply(replica, racks("b", "c")))
    assert 0 < await replica.topology.place_misplaced() <= number - TRANSACTION_OPERATIONS // 2
    got = (await replica.stub.GetTopology(api.GetTopologyRequest())).spec.topologies[0]
    assert sorted(group.node_count for group in got.groups) == [number // 2, number // 2]
    assert await replica.topology.place_misplaced() == 0


async def test_a_change_that_moves_nodes_with_many_labels_is_completed(replica: Replica) -> None:
    """A hundred of them are larger than a transaction may be."""
    labels = {f"feature.example.com/some-long-name-{i:03d}": "y" * 60 for i in range(200)}
    await apply(replica, racks("a"))
    for number in range(120):
        await register(replica, f"x{number}", f"192.0.2.{number}", **labels)
    await apply(replica, racks("b"))
    nodes = (await replica.stub.ListNodes(api.ListNodesRequest(page_size=200))).nodes
    assert {node.placements[0].group for node in nodes} == {"n/b"}
    assert len(nodes) == 120


async def test_a_node_that_comes_while_many_are_moved_is_counted_too(
    replica: Replica, other: Replica, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = TRANSACTION_OPERATIONS * 2 + 9
    nodes = ", ".join(f"{{name: x{i}, address: 192.0.{i // 250}.{i % 250}}}" for i in range(number))
    await apply(replica, RACKS % f"{{name: a, nodes: [{nodes}]}}")
    transact = store.client.transact
    calls = 0

    async def interrupted(compares: Sequence[Compare], *operations: Sequence[Operation]) -> Outcome:
        nonlocal calls
        calls += bool(compares)
        if compares and calls == 2:
            await register(other, "late", "192.0.100.1")
        return await transact(compares, *operations)

    with monkeypatch.context() as patched:
        patched.setattr(store.client, "transact", interrupted)
        await apply(replica, racks("b", "c"))
    assert calls == 4  # the second was overtaken
    got = (await replica.stub.GetTopology(api.GetTopologyRequest())).spec.topologies[0]
    assert sorted(group.node_count for group in got.groups) == [(number + 1) // 2] * 2
    assert await replica.topology.place_misplaced() == 0


async def test_pages_go_on_after_a_name_that_has_gone(replica: Replica) -> None:
    await apply(replica, racks("a"))
    for number in range(1, 8):
        await register(replica, f"x{number}", f"192.0.2.{number}")
    first = await replica.stub.ListNodes(api.ListNodesRequest(page_size=3))
    await replica.stub.DeleteNode(api.DeleteNodeRequest(name="x3"))
    await register(replica, "x0", "192.0.2.100")
    rest = await replica.stub.ListNodes(api.ListNodesRequest(page_token=first.next_page_token))
    assert [node.name for node in rest.nodes] == ["x4", "x5", "x6", "x7"]
    assert rest.next_page_token == ""


async def test_a_tenants_networks_come_in_the_order_they_are_tried(replica: Replica) -> None:
    await apply(
        replica,
        "networks: [{name: o, cidr: 10.1.0.0/16}, {name: t, cidr: 10.2.0.0/16, tenants: [x]},"
        " {name: u, cidr: 10.3.0.0/16, tenants: [y]}]\ntopologies: [{networks: [o, t, u]}]",
    )
    first = await replica.stub.ListNetworks(api.ListNetworksRequest(tenant="x", page_size=1))
    request = api.ListNetworksRequest(tenant="x", page_token=first.next_page_token)
    rest = await replica.stub.ListNetworks(request)
    assert [n.name for n in (*first.networks, *rest.networks)] == ["t", "o"]


async def test_nodes_are_listed_by_group_network_and_label(replica: Replica) -> None:
    await apply(replica, RACKS % "{name: z, groups: [{name: a}]}, {name: b, assignment: {r: b}}")
    await register(replica, "x", "192.0.2.1")
    await register(replica, "y", "192.0.2.2", r="b")

    async def listed(**by: object) -> list[str]:
        request = api.ListNodesRequest(**by)  # type: ignore[arg-type]
        return [node.name for node in (await replica.stub.ListNodes(request)).nodes]

    assert await listed(group="n/z") == ["x"]
    assert await listed(group="n", network="n") == ["x", "y"]
    assert await listed(labels={"r": "b"}) == ["y"]
    request = api.ListNodesRequest(group="n/q")
    assert (await failing(replica.stub.ListNodes(request))).reason == "GROUP_NOT_FOUND"


async def test_status_says_what_this_replica_knows(replica: Replica, other: Replica) -> None:
    await apply(replica, EXAMPLE)
    await register(replica, "x", "192.0.2.1", rack="rack-1")
    status = await replica.stub.GetStatus(api.GetStatusRequest())
    assert (status.networks, status.topologies, status.nodes) == (4, 1, 1)
    assert status.groups == len(list(replica.store.cache.layout.topologies[0].walk()))
    assert status.in_sync
    assert (status.version, status.epoch) == (version(), "epoch")
    assert status.revision == replica.store.cache.revision
    elsewhere = await other.stub.GetStatus(api.GetStatusRequest())
    assert elsewhere.replica != status.replica


async def test_a_watch_sends_everything_then_every_change_and_ends_with_the_server(
    replica: Replica, other: Replica
) -> None:
    await apply(replica, racks("a"))
    await register(replica, "x", "192.0.2.1")
    watch = replica.stub.WatchTopology(api.WatchTopologyRequest())
    stream = aiter(watch)
    first = await anext(stream)
    assert first.in_sync
    assert first.spec.networks[0].name == "n"
    assert [node.name for node in first.updated_nodes] == ["x"]
    await register(other, "y", "192.0.2.2")
    second = await anext(stream)
    assert [node.name for node in second.updated_nodes] == ["y"]
    assert not second.HasField("spec")
    assert second.revision > first.revision
    await other.stub.DeleteNode(api.DeleteNodeRequest(name="x"))
    assert (await anext(stream)).removed_nodes == ["x"]
    await apply(other, racks("a", "b"))
    assert (await anext(stream)).spec.topologies[0].groups[1].name == "b"
    await replica.server.drain()
    assert (await failing(anext(stream))).reason == "DRAINING"


async def test_metrics_say_what_there_is(replica: Replica) -> None:
    await apply(replica, EXAMPLE)
    text = generate_latest(replica.registry).decode()
    assert "romana_topology_networks 4.0" in text
    assert 'romana_topology_changes_total{operation="apply",outcome="changed"} 1.0' in text
    assert 'romana_topology_changes_total{operation="delete",outcome="refused"} 0.0' in text


async def test_the_initial_topology_is_applied_once_only(replica: Replica, tmp_path: Path) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text(racks("a"))
    first = await replica.topology.apply(read_initial(str(path)), ApplyOptions(only_first=True))
    second = await replica.topology.apply(read_initial("kubeadm"), ApplyOptions(only_first=True))
    assert (first.changed, second.changed) == (True, False)
    assert [network.name for network in replica.store.cache.layout.networks] == ["n"]


async def test_a_node_may_be_attached_to_some_networks_only(replica: Replica) -> None:
    await apply(replica, EXAMPLE)
    shared = node_pb2.Node(
        name="shared",
        labels={"rack": "rack-1"},
        attachments=[
            node_pb2.Attachment(
                network="qa",
                interface="eth0.30",
                address="10.30.0.2",
                vlan_id=30,
                parent_interface="eth0",
            ),
            node_pb2.Attachment(network="test", interface="eth1", address="10.20.0.2"),
        ],
    )
    answer = await replica.stub.RegisterNode(api.RegisterNodeRequest(node=shared))
    assert answer.node.networks == ["test", "qa"]
    assert answer.node.attachments == shared.attachments


async def dedicated(replica: Replica) -> node_pb2.Node:
    """A node whose only network is qa."""
    await apply(replica, EXAMPLE)
    wanted = node_pb2.Node(
        name="n",
        address="192.0.2.1",
        labels={"rack": "rack-1"},
        attachments=[node_pb2.Attachment(network="qa", interface="eth1", address="10.30.0.2")],
    )
    answer = await replica.stub.RegisterNode(api.RegisterNodeRequest(node=wanted))
    assert answer.node.empty_attachments == node_pb2.EMPTY_ATTACHMENTS_UNSPECIFIED
    return answer.node


async def update(replica: Replica, node: node_pb2.Node) -> node_pb2.Node:
    return (await replica.stub.UpdateNode(api.UpdateNodeRequest(node=node))).node


async def test_a_node_does_not_land_on_every_network_unasked(replica: Replica) -> None:
    node = await dedicated(replica)
    without = node_pb2.Node()
    without.CopyFrom(node)
    del without.attachments[:]
    found = await failing(update(replica, without))
    assert isinstance(found, InvalidInput)
    assert [violation.path for violation in found.violations] == ["node.empty_attachments"]
    assert (await replica.stub.GetNode(api.GetNodeRequest(name="n"))).node == node


async def test_a_node_may_be_on_no_network(replica: Replica) -> None:
    node = await dedicated(replica)
    del node.attachments[:]
    node.empty_attachments = node_pb2.EMPTY_ATTACHMENTS_NO_NETWORK
    nowhere = await update(replica, node)
    assert (list(nowhere.networks), list(nowhere.placements)) == ([], [])
    assert nowhere.empty_attachments == node_pb2.EMPTY_ATTACHMENTS_NO_NETWORK

    # what was read is sent back with another label, as by whoever does not know of the field
    nowhere.labels["colour"] = "blue"
    nowhere = await update(replica, nowhere)
    assert list(nowhere.networks) == []

    # and whoever makes it up leaves it where it is, too
    made_up = node_pb2.Node(name="n", address="192.0.2.1", labels={"rack": "rack-1"})
    assert isinstance(await failing(update(replica, made_up)), InvalidInput)

    nowhere.attachments.add(network="test", interface="eth1")
    assert list((await update(replica, nowhere)).networks) == ["test"]


async def test_a_node_is_put_on_every_network_when_that_is_said(replica: Replica) -> None:
    node = await dedicated(replica)
    del node.attachments[:]
    node.empty_attachments = node_pb2.EMPTY_ATTACHMENTS_EVERY_NETWORK
    everywhere = await update(replica, node)
    assert list(everywhere.networks) == ["test", "qa", "production", "admin"]
    assert everywhere.empty_attachments == node_pb2.EMPTY_ATTACHMENTS_EVERY_NETWORK
    everywhere.attachments.add(network="test", interface="eth1")
    assert list((await update(replica, everywhere)).networks) == ["test"]


async def test_a_node_without_any_address_may_be_on_no_network_only(replica: Replica) -> None:
    await apply(replica, EXAMPLE)
    bare = node_pb2.Node(name="n", labels={"rack": "rack-1"})
    found = await failing(replica.stub.RegisterNode(api.RegisterNodeRequest(node=bare)))
    assert isinstance(found, InvalidInput)
    bare.empty_attachments = node_pb2.EMPTY_ATTACHMENTS_NO_NETWORK
    answer = await replica.stub.RegisterNode(api.RegisterNodeRequest(node=bare))
    assert list(answer.node.networks) == []


async def test_a_listed_node_keeps_its_attachments_unless_they_are_said(replica: Replica) -> None:
    await dedicated(replica)
    await apply(
        replica,
        EXAMPLE.replace("- name: rack-1", "- name: rack-1\n        nodes: [{name: n}]", 1),
    )
    node = (await replica.stub.GetNode(api.GetNodeRequest(name="n"))).node
    assert list(node.networks) == ["qa"]
    await apply(
        replica,
        EXAMPLE.replace(
            "- name: rack-1",
            "- name: rack-1\n        nodes: [{name: n, empty_attachments: every_network}]",
            1,
        ),
    )
    node = (await replica.stub.GetNode(api.GetNodeRequest(name="n"))).node
    assert list(node.networks) == ["test", "qa", "production", "admin"]
    found = await failing(
        apply(
            replica,
            EXAMPLE.replace(
                "- name: rack-1",
                "- name: rack-1\n        nodes: [{name: n, empty_attachments: no_network}]",
                1,
            ),
        )
    )
    assert isinstance(found, InvalidInput)


async def test_a_vlan_is_renumbered_in_one_step_and_attachments_go_along(replica: Replica) -> None:
    def document(vlan: int) -> api.ApplyTopologyRequest:
        text = (
            f"networks: [{{name: qa, cidr: 10.0.0.0/16, vlan: {vlan}}}]\n"
            "topologies: [{networks: [qa], groups: [{name: g}]}]"
        )
        return api.ApplyTopologyRequest(document=topology_pb2.TopologyDocument(text=text))

    await replica.stub.ApplyTopology(document(30))
    attachment = node_pb2.Attachment(
        network="qa", interface="eth1.30", address="10.0.127.2", vlan_id=30, parent_interface="eth1"
    )
    await replica.stub.RegisterNode(
        api.RegisterNodeRequest(
            node=node_pb2.Node(name="x", address="192.0.2.1", attachments=[attachment])
        )
    )
    asked = document(31)
    asked.validate_only = True
    plan = (await replica.stub.ApplyTopology(asked)).plan
    (network,) = plan.networks
    assert [(one.field, one.before, one.after) for one in network.values] == [
        ("vlan_id", "30", "31")
    ]
    (change,) = plan.attachments
    assert (change.node, change.before, change.after.interface) == ("x", attachment, "eth1.31")
    asked.validate_only = False
    await replica.stub.ApplyTopology(asked)
    node = (await replica.stub.GetNode(api.GetNodeRequest(name="x"))).node
    assert list(node.attachments) == [change.after]
    assert not (await replica.stub.ApplyTopology(asked)).changed
