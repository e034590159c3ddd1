"""Agents' streams of routes, on both replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from romana.ipam.v1 import sync_routes_pb2 as pb

from services.common.model.node import Node
from services.common.sync.model import Failure
from tests.contract.common_etcd.proxy import Proxy
from tests.contract.ipam.asking import allocate, release
from tests.contract.ipam.conftest import Pair
from tests.support.ipam_process import drop_nodes, poll, seed, wait_until_one_active
from tests.support.sync_agent import SyncAgent
from tests.support.topologies import node

BOTH = pytest.mark.parametrize("by", ["active", "standby"])


@pytest.fixture
async def first(pair: Pair) -> AsyncIterator[SyncAgent]:
    """h1's agent, in sync with the active replica."""
    async with SyncAgent("h1", [pair.active.address]) as agent:
        await agent.until_in_sync()
        yield agent


async def status_of(pair: Pair, name: str, *, stub: str = "stub") -> pb.NodeSyncStatus | None:
    answer = await getattr(pair, stub).GetSyncStatus(pb.GetSyncStatusRequest(nodes=[name]))
    return next(iter(answer.statuses), None)


async def move(pair: Pair, *nodes: Node) -> None:
    await seed(pair.client, pair.keys, nodes=nodes)


@BOTH
async def test_a_snapshot_has_networks_peers_and_routes(pair: Pair, by: str) -> None:
    await allocate(pair.stub, "a", "h2", "t", "s")
    async with SyncAgent("h3", [getattr(pair, by).address]) as agent:
        await agent.until(lambda: "route/net/10.0.0.0/24" in agent.ids)
        assert agent.ids == {
            "network/net", "peer/net/h1", "peer/net/h2", "peer/net/h3", "route/net/10.0.0.0/24",
        }  # fmt: skip
        assert agent.kernel["network/net"].network.cidr == "10.0.0.0/24"
        assert agent.kernel["peer/net/h2"].peer.address == "192.0.2.2"
        assert agent.kernel["route/net/10.0.0.0/24"].route.node == "h2"


@BOTH
async def test_new_blocks_come_as_deltas(pair: Pair, by: str) -> None:
    async with SyncAgent("h1", [getattr(pair, by).address]) as agent:
        await agent.until_in_sync()
        before = len(agent.batches)
        await allocate(pair.stub, "a", "h2", "t", "s")
        await agent.until(lambda: "route/net/10.0.0.0/24" in agent.ids)
        await release(pair.stub, "a")
        await agent.until(lambda: "route/net/10.0.0.0/24" not in agent.ids)
        assert not any(batch.snapshot for batch in agent.batches[before:])


async def test_nodes_come_change_and_go(pair: Pair, first: SyncAgent) -> None:
    await move(pair, node("h4", address="192.0.2.4"))
    await first.until(lambda: "peer/net/h4" in first.ids)
    await move(pair, node("h4", address="192.0.2.44"))
    await first.until(lambda: first.kernel["peer/net/h4"].peer.address == "192.0.2.44")
    await drop_nodes(pair.client, pair.keys, ["h4"])
    await first.until(lambda: "peer/net/h4" not in first.ids)
    assert not any(batch.snapshot for batch in first.batches[1:])


async def test_a_node_that_changes_networks_gets_the_others(pair: Pair, first: SyncAgent) -> None:
    assert "network/six" in first.ids
    await move(pair, node("h1", address="192.0.2.1", on=["net"]))
    await first.until(lambda: "network/six" not in first.ids)
    assert {name.split("/")[1] for name in first.ids} == {"net"}
    await move(pair, node("h1", address="192.0.2.1"))
    await first.until(lambda: "network/six" in first.ids)


async def test_a_node_that_is_not_registered_is_told_nothing_before_it_is(pair: Pair) -> None:
    async with SyncAgent("h9", [pair.active.address]) as agent:
        await poll(lambda: is_known(pair, "h9"), 60)
        assert not agent.batches
        await move(pair, node("h9", address="192.0.2.9"))
        await agent.until_in_sync()
        await drop_nodes(pair.client, pair.keys, ["h9"])
        async with SyncAgent("h1", [pair.active.address]) as other:
            await other.until_in_sync()
            await other.until(lambda: "peer/net/h9" not in other.ids)
        assert agent.ids, "what a node has, it keeps, when it is not known any more"


async def is_known(pair: Pair, name: str) -> bool:
    status = await status_of(pair, name)
    return status is not None and status.connected


@BOTH
async def test_a_second_connect_resumes(pair: Pair, by: str) -> None:
    async with SyncAgent("h1", [pair.active.address]) as first:
        await first.until_in_sync()
    await allocate(pair.stub, "a", "h2", "t", "s")
    async with SyncAgent("h1", [getattr(pair, by).address], first.receiver) as again:
        await again.until(lambda: "route/net/10.0.0.0/24" in again.ids)
        assert not any(batch.snapshot for batch in again.batches)
        assert set(again.batches[-1].updated) == {"route/net/10.0.0.0/24"}


async def test_a_second_stream_supersedes_the_first(pair: Pair, first: SyncAgent) -> None:
    async with SyncAgent("h1", [pair.active.address]) as second:
        await second.until_in_sync()
        await first.until(lambda: bool(first.errors))
        assert first.errors[0].reason == "SUPERSEDED"


async def test_what_is_applied_is_known_on_every_replica(pair: Pair, first: SyncAgent) -> None:
    await allocate(pair.stub, "a", "h2", "t", "s")
    for stub in ("stub", "other"):
        answer = await getattr(pair, stub).GetSyncStatus(pb.GetSyncStatusRequest())
        target = answer.current.revision

        async def reached(stub: str = stub, target: int = target) -> bool:
            status = await status_of(pair, "h1", stub=stub)
            return status is not None and status.applied.revision >= target

        await poll(reached, 10, what=f"h1 to have applied revision {target}")
        status = await status_of(pair, "h1", stub=stub)
        assert status is not None
        assert status.connected
        assert status.agent_version == "test"


async def test_failures_are_told_and_cleared(pair: Pair, first: SyncAgent) -> None:
    first.failing = (Failure("route/net/10.0.0.0/24", "NO_DEVICE", "there is no eth9"),)
    await allocate(pair.stub, "a", "h2", "t", "s")

    async def failing() -> bool:
        status = await status_of(pair, "h1")
        return status is not None and [item.reason for item in status.failures] == ["NO_DEVICE"]

    await poll(failing, 60)
    _, text = await pair.active.scrape()
    assert 'romana_ipam_agents{state="failing"} 1.0' in text
    first.failing = ()
    first.client.report(())

    async def cleared() -> bool:
        status = await status_of(pair, "h1")
        return status is not None and not status.failures

    await poll(cleared, 60)


async def test_an_agent_that_does_not_apply_holds_up_nobody(pair: Pair, first: SyncAgent) -> None:
    stuck = asyncio.Event()
    first.hold = stuck.wait
    async with SyncAgent("h3", [pair.active.address]) as other:
        await other.until_in_sync()
        for number in range(12):
            await allocate(pair.stub, f"a{number}", "h2", "t", f"s{number}")
        await other.until(lambda: bool(other.ids & {"route/net/10.0.0.0/24"}))
        assert "route/net/10.0.0.0/24" not in first.ids
        stuck.set()
        await first.until(lambda: routes(first) == routes(other))
        assert len(first.batches) <= 3, "what changed meanwhile was merged"


def routes(agent: SyncAgent) -> set[str]:
    return {name for name in agent.ids if name.startswith("route/net/")}


async def test_a_silent_connection_is_noticed_and_made_anew(pair: Pair) -> None:
    async with (
        Proxy(pair.active.address) as proxy,
        SyncAgent("h1", [proxy.endpoint, pair.active.address]) as agent,
    ):
        await agent.until_in_sync()
        proxy.silence()
        await allocate(pair.stub, "a", "h2", "t", "s")
        await agent.until(lambda: "route/net/10.0.0.0/24" in agent.ids)


async def test_a_drained_replica_hands_its_agents_over(pair: Pair) -> None:
    addresses = [pair.standby.address, pair.active.address]
    async with SyncAgent("h1", addresses) as one, SyncAgent("h2", addresses) as two:
        await one.until_in_sync()
        await two.until_in_sync()
        assert await pair.standby.stop() == 0
        try:
            for agent in (one, two):
                await agent.until(lambda agent=agent: agent.peers[-1] == pair.active.address)  # type: ignore[misc]
                await agent.until_in_sync()
                assert agent.errors[0].reason == "DRAINING"
                assert sum(batch.snapshot for batch in agent.batches) == 1, "it was resumed"
        finally:
            pair.standby.start()
            await pair.standby.wait_until_serving()


async def test_agents_resume_at_a_replica_that_was_started_anew(
    pair: Pair, first: SyncAgent
) -> None:
    await allocate(pair.stub, "a", "h2", "t", "s")
    await first.until(lambda: "route/net/10.0.0.0/24" in first.ids)
    pair.active.kill()
    pair.active.start()
    await pair.active.wait_until_serving()
    await first.until(lambda: bool(first.errors))
    await first.until_in_sync()
    assert sum(batch.snapshot for batch in first.batches) == 1
    await wait_until_one_active([pair.active, pair.standby])


async def test_the_first_message_has_to_be_a_hello(pair: Pair) -> None:
    call = pair.stub.SyncRoutes()
    await call.write(pb.SyncRoutesRequest())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
