"""An endpoint moves to another node while it runs: where it is, at every step."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import FAMILY_IPV4, FAMILY_IPV6, AddressSpec

from tests.contract.ipam.asking import findings, one, refused, release, spec
from tests.contract.ipam.conftest import Pair, usual_layout
from tests.support.ipam_process import drop_nodes, poll, seed
from tests.support.topologies import layout, network, node

BOTH = pytest.mark.parametrize("by", ["stub", "other"])


async def _routes(pair: Pair, node: str) -> set[str]:
    answer = await pair.stub.GetNodeRoutes(pb.GetNodeRoutesRequest(node=node))
    return {item.prefix for item in answer.own}


@BOTH
async def test_it_is_on_one_node_at_every_step(pair: Pair, by: str) -> None:
    stub = getattr(pair, by)
    address = await one(stub, "vm", "h1")
    await one(stub, "stays", "h1")

    prepared = await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2"))
    assert (prepared.move.state, prepared.move.node) == (pb.MOVE_STATE_PREPARED, "h1")
    assert (prepared.plan.host_routes, prepared.plan.nodes) == (1, 3)
    assert [item.node for item in prepared.move.allocations] == ["h1"]
    assert await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2")) == prepared

    arrives = pb.AllocateAddressRequest(spec=spec("vm", "h2"), knows_arriving=True)
    there = await stub.AllocateAddress(arrives)
    assert (there.existed, there.arriving, there.allocations[0].address) == (True, True, address)
    here = await stub.AllocateAddress(pb.AllocateAddressRequest(spec=spec("vm", "h1")))
    assert (here.existed, here.arriving) == (True, False)

    with refused() as said:
        await stub.ActivateMove(pb.ActivateMoveRequest(name="vm", to_node="h2"))
    assert (said.reasons, said.metadata["field"]) == (["NOT_READY"], "to_node")
    for name, state in (("h2", pb.MOVE_STATE_PREPARED), ("h1", pb.MOVE_STATE_READY)):
        ready = await stub.ReportReady(pb.ReportReadyRequest(name="vm", node=name))
        assert ready.move.state == state
    for _ in range(2):
        done = await stub.ActivateMove(pb.ActivateMoveRequest(name="vm", to_node="h2"))
        assert (done.move.state, done.move.node) == (pb.MOVE_STATE_SETTLED, "h2")
        assert (done.move.home_node, done.move.to_node) == ("h1", "")
    assert f"{address}/32" in await _routes(pair, "h2")

    listed = await pair.stub.ListAddresses(pb.ListAddressesRequest(node="h2"))
    assert [item.name for item in listed.allocations] == ["vm"]  # the other may be a moment behind
    listed = await pair.stub.ListAddresses(pb.ListAddressesRequest(node="h1"))
    assert [item.name for item in listed.allocations] == ["stays"]
    with refused() as said:
        await stub.AllocateAddress(pb.AllocateAddressRequest(spec=spec("vm", "h1")))
    assert said.reasons == ["NAME_TAKEN"]
    assert await findings(stub) == []


async def test_a_move_home_leaves_no_host_route(pair: Pair) -> None:
    stub = pair.stub
    address = await one(stub, "vm", "h1")
    await one(stub, "stays", "h1")
    before = await _routes(pair, "h1")
    for at, to in (("h1", "h2"), ("h2", "h3"), ("h3", "h1")):
        prepared = await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node=to))
        assert prepared.plan.host_routes == (to != "h1")
        for each in (at, to):
            await stub.ReportReady(pb.ReportReadyRequest(name="vm", node=each))
        await stub.ActivateMove(pb.ActivateMoveRequest(name="vm", to_node=to))
    assert await _routes(pair, "h1") == before
    assert not await _routes(pair, "h2")
    assert not await _routes(pair, "h3")
    assert not any(b"visits" in value for value, _ in (await pair.dump()).values())
    assert await one(stub, "vm", "h1") == address


@pytest.mark.parametrize("ready", [False, True])
async def test_an_aborted_move_leaves_no_trace(pair: Pair, ready: bool) -> None:  # noqa: FBT001
    stub = pair.stub
    await one(stub, "vm", "h1")
    before = {key: value for key, (value, _) in (await pair.dump()).items() if "block" in key}
    await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2"))
    if ready:
        await stub.ReportReady(pb.ReportReadyRequest(name="vm", node="h2"))
    for _ in range(2):
        aborted = await stub.AbortMove(pb.AbortMoveRequest(name="vm"))
        assert (aborted.move.state, aborted.move.node) == (pb.MOVE_STATE_SETTLED, "h1")
    assert {k: v for k, (v, _) in (await pair.dump()).items() if "block" in k} == before
    with refused() as said:
        await stub.ActivateMove(pb.ActivateMoveRequest(name="vm", to_node="h2"))
    assert said.reasons == ["NOT_MOVING"]
    assert await findings(stub) == []


async def test_agents_that_know_nothing_of_moves_are_refused(pair: Pair) -> None:
    stub = pair.stub
    await one(stub, "vm", "h1")
    await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2"))
    before = await pair.dump()
    with refused() as said:  # the target's does not say that it knows what arrives
        await stub.AllocateAddress(pb.AllocateAddressRequest(spec=spec("vm", "h2")))
    assert (said.reasons, said.metadata["node"]) == (["MOVES_UNKNOWN"], "h2")
    assert await pair.dump() == before
    await stub.ReportReady(pb.ReportReadyRequest(name="vm", node="h2"))
    with refused() as said:  # the source's has not said that it knows
        await stub.ActivateMove(pb.ActivateMoveRequest(name="vm", to_node="h2"))
    assert (said.reasons, said.metadata["node"]) == (["NOT_READY"], "h1")
    assert (await stub.GetMove(pb.GetMoveRequest(name="vm"))).move.node == "h1"


async def test_connections_are_handed_over_once_it_has_moved(pair: Pair) -> None:
    """By way of any replica, and by nobody else than the two nodes."""
    connection = pb.TcpConnection(
        source="10.0.0.9", destination="192.0.2.1", source_port=40000, destination_port=443
    )
    handed = pb.HandOverConnectionsRequest(name="vm", node="h1", connections=[connection])
    taken = pb.TakeOverConnectionsRequest(name="vm", node="h2")
    await one(pair.stub, "vm", "h1")
    await pair.stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2"))
    for early in (
        pair.stub.HandOverConnections(handed),
        pair.other.TakeOverConnections(taken),
    ):
        with refused() as said:
            await early
        assert (said.reasons, said.metadata["field"]) == (["NOT_MOVING"], "node")
    await pair.other.ActivateMove(pb.ActivateMoveRequest(name="vm", to_node="h2", force=True))
    for call in (
        pair.stub.HandOverConnections(pb.HandOverConnectionsRequest(name="vm", node="h2")),
        pair.stub.TakeOverConnections(pb.TakeOverConnectionsRequest(name="vm", node="h1")),
    ):
        with refused() as said:
            await call
        assert said.reasons == ["NOT_MOVING"]
    waiting = asyncio.ensure_future(pair.other.TakeOverConnections(taken))
    await pair.stub.HandOverConnections(handed)
    assert list((await waiting).connections) == [connection]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"source": "nobody"}, "connections[0].source"),
        ({"destination": "fd00::1"}, "connections[0].destination"),
        ({"source_port": 0}, "connections[0].source_port"),
        ({"destination_port": 65536}, "connections[0].destination_port"),
    ],
)
async def test_connections_that_nobody_can_have_are_refused(
    pair: Pair, wrong: dict[str, str | int], field: str
) -> None:
    right: dict[str, str | int] = {
        "source": "10.0.0.9",
        "destination": "192.0.2.1",
        "source_port": 1,
        "destination_port": 2,
    }
    connection = pb.TcpConnection(**{**right, **wrong})  # type: ignore[arg-type]
    request = pb.HandOverConnectionsRequest(name="vm", node="h1", connections=[connection])
    with refused() as said:
        await pair.stub.HandOverConnections(request)
    assert said.fields == [field]


async def test_the_node_that_it_moves_to_may_give_up(pair: Pair) -> None:
    stub = pair.stub
    address = await one(stub, "vm", "h1")
    await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2"))
    for name in ("h1", "h2"):
        await stub.ReportReady(pb.ReportReadyRequest(name="vm", node=name))
    given_up = pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name="vm", node="h2"))
    assert not (await stub.ReleaseAddress(given_up)).addresses
    move = (await stub.GetMove(pb.GetMoveRequest(name="vm"))).move
    assert (move.state, move.node, move.to_node) == (pb.MOVE_STATE_PREPARED, "h1", "h2")
    assert move.allocations[0].address == address


async def test_what_is_ready_elsewhere_goes_on_there_when_its_node_lets_go(pair: Pair) -> None:
    """As where a hypervisor detaches a guest that has migrated, before it was heard there."""
    stub = pair.stub
    address = await one(stub, "vm", "h1")
    await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2"))
    await stub.ReportReady(pb.ReportReadyRequest(name="vm", node="h2"))
    assert await release(stub, "vm", node="h1") == []
    found = (await stub.GetMove(pb.GetMoveRequest(name="vm"))).move
    assert (found.state, found.node, found.to_node) == (pb.MOVE_STATE_SETTLED, "h2", "")
    with refused() as said:
        await release(stub, "vm", node="h1")
    assert said.reasons == ["OTHER_NODE"]
    assert await findings(stub) == []
    assert await release(stub, "vm", node="h2") == [address]


async def test_what_is_ready_elsewhere_goes_on_there_when_its_node_is_removed(pair: Pair) -> None:
    stub = pair.stub
    address = await one(stub, "vm", "h1")
    await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2"))
    await stub.ReportReady(pb.ReportReadyRequest(name="vm", node="h2"))
    await drop_nodes(pair.client, pair.keys, ["h1"])

    async def has_switched() -> bool:
        return (await stub.GetMove(pb.GetMoveRequest(name="vm"))).move.node == "h2"

    await poll(has_switched, 60)
    assert await release(stub, "vm", node="h2") == [address]
    assert await findings(stub) == []


@pytest.mark.parametrize("claim", [{"node": "h1"}, {}])
async def test_what_is_ready_nowhere_or_ends_for_everybody_is_released(
    pair: Pair, claim: dict[str, str]
) -> None:
    stub = pair.stub
    address = await one(stub, "vm", "h1")
    await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2"))
    if not claim:
        await stub.ReportReady(pb.ReportReadyRequest(name="vm", node="h2"))
    assert await release(stub, "vm", **claim) == [address]


async def test_a_visitor_that_ends_gives_its_address_back(pair: Pair) -> None:
    stub = pair.stub
    address = await one(stub, "vm", "h1")
    await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2"))
    await stub.ActivateMove(pb.ActivateMoveRequest(name="vm", to_node="h2", force=True))
    with refused() as said:
        await stub.ReleaseAddress(
            pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name="vm", node="h1"))
        )
    assert said.reasons == ["OTHER_NODE"]
    assert await release(stub, "vm", node="h2") == [address]
    assert not await _routes(pair, "h2")
    assert await findings(stub) == []


async def test_both_addresses_go(pair: Pair) -> None:
    stub = pair.stub
    want = [
        AddressSpec(network="net", family=FAMILY_IPV4),
        AddressSpec(network="six", family=FAMILY_IPV6),
    ]
    both = pb.AllocateAddressRequest(spec=spec("vm", "h1", addresses=want))
    await stub.AllocateAddress(both)
    plan = (await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2"))).plan
    assert plan.host_routes == 2
    await stub.ActivateMove(pb.ActivateMoveRequest(name="vm", to_node="h2", force=True))
    assert {item.rpartition("/")[2] for item in await _routes(pair, "h2")} == {"32", "128"}


async def test_what_is_refused(pair: Pair) -> None:
    stub = pair.stub
    cordoned = replace(node("h4", address="192.0.2.4"), cordoned=True)
    other_rack = node("h5", "other", address="192.0.2.5")
    usual = usual_layout()
    spare = network("spare", "10.9.0.0/24", 29)
    everywhere = {item.name: str(item.cidr) for item in usual.networks}
    racks = layout(
        [*usual.networks, spare],
        {
            "all": {**everywhere, "net": "10.0.0.0/25"},
            "other": {"spare": "10.9.0.0/24", "net": "10.0.0.128/25"},
        },
    )
    await seed(pair.client, pair.keys, racks, [cordoned, other_rack])
    await one(stub, "vm", "h1")
    wants = [AddressSpec(network="six")]
    await stub.AllocateAddress(pb.AllocateAddressRequest(spec=spec("six", "h1", addresses=wants)))
    before = await pair.dump()
    for name, to, code, reason, field in (
        ("nobody", "h2", grpc.StatusCode.NOT_FOUND, "ALLOCATION_NOT_FOUND", "name"),
        ("vm", "no-such", grpc.StatusCode.NOT_FOUND, "NODE_NOT_FOUND", "to_node"),
        ("six", "h3", grpc.StatusCode.FAILED_PRECONDITION, "NOT_MOVABLE", "to_node"),
        ("vm", "h4", grpc.StatusCode.FAILED_PRECONDITION, "NOT_MOVABLE", "to_node"),
        ("vm", "h5", grpc.StatusCode.FAILED_PRECONDITION, "NOT_MOVABLE", "to_node"),
        ("vm", "h1", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT", "to_node"),
        ("vm", "", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT", "to_node"),
    ):
        with refused() as said:
            await stub.PrepareMove(pb.PrepareMoveRequest(name=name, to_node=to))
        assert (said.code, said.reasons) == (code, [reason])
        assert field in (said.metadata.get("field"), *said.fields)
    planned = pb.PrepareMoveRequest(name="vm", to_node="h2", validate_only=True)
    assert (await stub.PrepareMove(planned)).move.state == pb.MOVE_STATE_SETTLED
    assert await pair.dump() == before
    await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2"))
    with refused() as said:
        await stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h3"))
    assert (said.reasons, said.metadata["field"]) == (["ALREADY_MOVING"], "name")
    await stub.AbortMove(pb.AbortMoveRequest(name="vm"))
    await drop_nodes(pair.client, pair.keys, ["h4", "h5"])
