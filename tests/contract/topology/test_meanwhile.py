"""What comes while a change is planned or written: from others, at this replica and at another."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import grpc.aio
import pytest
from romana.topology.v1 import topology_service_pb2 as api

from services.common.etcd.types import Compare, Delete, Operation, Outcome, Put
from services.common.rpc.status import error_of
from services.common.sizes import TRANSACTION_OPERATIONS
from services.topology.forms.apply_request import ApplyRequest
from services.topology.store import planning
from services.topology.store.store import Known
from tests.conftest import Store
from tests.contract.topology.asking import RACKS, allocate, apply, failing, racks, register
from tests.contract.topology.replicas import Replica
from tests.support.ipam_process import poll


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


@pytest.fixture
def take(replica: Replica, store: Store, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Once it is set, an address of x comes into use just before the next transaction."""
    commit, wanted = replica.store._commit, asyncio.Event()

    async def overtaken(decision: Any) -> Any:
        if wanted.is_set():
            wanted.clear()
            await allocate(store, "x", "10.0.0.0", "n/a")
        return await commit(decision)

    monkeypatch.setattr(replica.store, "_commit", overtaken)
    return wanted


async def test_a_claim_between_look_and_transaction_is_not_overlooked(
    replica: Replica, store: Store, take: asyncio.Event
) -> None:
    await apply(replica, racks("a", "b"))
    await register(replica, "x", "192.0.2.1")
    take.set()
    assert (await failing(apply(replica, racks("b")))).reason == "WOULD_STRAND"
    take.set()
    await store.client.transact(
        (), (Delete(store.keys.blocks, prefix=True), Put(store.keys.commit, b"2"))
    )
    delete = replica.stub.DeleteNode(api.DeleteNodeRequest(name="x"))
    assert (await failing(delete)).reason == "NODE_IN_USE"


async def test_an_update_that_moves_a_node_looks_at_its_claims(
    replica: Replica, take: asyncio.Event
) -> None:
    await apply(replica, RACKS % "{name: a, assignment: {r: a}}, {name: b, assignment: {r: b}}")
    node = await register(replica, "x", "192.0.2.1", r="a")
    node.labels["r"] = "b"
    take.set()
    request = api.UpdateNodeRequest(node=node)
    assert (await failing(replica.stub.UpdateNode(request))).reason == "WOULD_STRAND"
    request.allow_stranded = True
    answer = await replica.stub.UpdateNode(request)
    assert answer.plan.nodes[0].after == "n/b"
    assert answer.plan.stranded_addresses == 1


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
