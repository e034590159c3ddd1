"""Blocks as they change, until the replica stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb

from tests.conftest import Store
from tests.contract.ipam.asking import one, refused, release
from tests.contract.ipam.conftest import NODES, Pair, usual_layout
from tests.support.ipam_process import IpamProcess, drop_nodes, seed
from tests.support.topologies import layout, network, node

BOTH = pytest.mark.parametrize("by", ["stub", "other"])


class Watcher:
    """What a client of WatchBlocks knows."""

    def __init__(self, call: AsyncIterator[pb.WatchBlocksResponse]) -> None:
        self._call = call
        self.blocks: dict[str, object] = {}
        self.in_sync = False
        self.revision = 0

    async def until(self, condition: object) -> None:
        async with asyncio.timeout(60):
            while not (self.in_sync and condition(self.blocks)):  # type: ignore[operator]
                answer = await anext(self._call)
                for item in answer.updated:
                    self.blocks[item.prefix] = item
                for prefix in answer.removed:
                    del self.blocks[prefix]
                assert not (answer.in_sync and self.in_sync)
                self.in_sync |= answer.in_sync
                assert answer.revision >= self.revision
                self.revision = answer.revision


def used(count: int, blocks: int = 1) -> object:
    return lambda found: len(found) == blocks and sum(item.used for item in found.values()) == count


@BOTH
async def test_all_blocks_then_every_change(pair: Pair, by: str) -> None:
    await one(pair.stub, "a")
    call = getattr(pair, by).WatchBlocks(pb.WatchBlocksRequest(network="net"))
    watcher = Watcher(aiter(call))
    await watcher.until(used(1))
    await one(pair.stub, "b")
    await watcher.until(used(2))
    await one(pair.stub, "c", "h2")
    await watcher.until(used(3, 2))
    await release(pair.stub, "a")
    await release(pair.stub, "b")
    await watcher.until(used(1, 1))
    call.cancel()


@BOTH
async def test_in_sync_is_said_when_there_is_nothing(pair: Pair, by: str) -> None:
    call = getattr(pair, by).WatchBlocks(pb.WatchBlocksRequest(network="small"))
    watcher = Watcher(aiter(call))
    await watcher.until(lambda found: not found)
    assert watcher.revision
    call.cancel()


async def test_only_what_was_asked_for(pair: Pair) -> None:
    call = pair.stub.WatchBlocks(pb.WatchBlocksRequest(node="h2", network="net"))
    watcher = Watcher(aiter(call))
    await watcher.until(lambda found: not found)
    await one(pair.stub, "a", "h1")
    await one(pair.stub, "b", "h2")
    await watcher.until(used(1))
    assert {item.node for item in watcher.blocks.values()} == {"h2"}  # type: ignore[attr-defined]
    call.cancel()


@BOTH
async def test_a_block_that_the_topology_strands_is_told(pair: Pair, by: str) -> None:
    await one(pair.stub, "a")
    call = getattr(pair, by).WatchBlocks(pb.WatchBlocksRequest(network="net"))
    watcher = Watcher(aiter(call))
    await watcher.until(used(1))
    await seed(pair.client, pair.keys, nodes=[node("h1", None)])
    await watcher.until(lambda found: all(item.stranded for item in found.values()))
    await seed(pair.client, pair.keys, nodes=NODES)
    await watcher.until(lambda found: not any(item.stranded for item in found.values()))
    await seed(pair.client, pair.keys, layout([network("other", "10.9.0.0/24")]))
    await watcher.until(
        lambda found: all(item.stranded and not item.group for item in found.values())
    )
    call.cancel()


@BOTH
async def test_a_watch_ends_when_its_replica_stops(store: Store, tmp_path: Path, by: str) -> None:
    await seed(store.client, store.keys, usual_layout(), NODES)
    with IpamProcess.started(store.endpoint, store.keys.root, tmp_path) as replica:
        await replica.wait_until_active()
        async with replica.connect() as stub:
            watcher = Watcher(aiter(stub.WatchBlocks(pb.WatchBlocksRequest())))
            await watcher.until(lambda found: not found)
            replica.terminate()
            with refused() as said:
                await watcher.until(lambda found: found)
            assert said.code is grpc.StatusCode.UNAVAILABLE
            assert said.retry
        assert await replica.wait() == 0


async def test_blocks_of_a_node_that_is_gone_are_removed(pair: Pair) -> None:
    await one(pair.stub, "a")
    watcher = Watcher(aiter(pair.other.WatchBlocks(pb.WatchBlocksRequest(network="net"))))
    await watcher.until(used(1))
    await drop_nodes(pair.client, pair.keys, ["h1"])
    await watcher.until(lambda found: not found)


class AllocationWatcher:
    """What a client of WatchAllocations knows."""

    def __init__(self, call: AsyncIterator[pb.WatchAllocationsResponse]) -> None:
        self._call = call
        self.names: dict[str, str] = {}
        self.in_sync = False

    async def until(self, *names: str) -> None:
        async with asyncio.timeout(60):
            while not (self.in_sync and sorted(self.names.values()) == sorted(names)):
                answer = await anext(self._call)
                for item in answer.allocated:
                    self.names[item.address] = item.name
                for address in answer.released:
                    del self.names[address]
                self.in_sync |= answer.in_sync


@BOTH
async def test_all_allocations_then_every_change(pair: Pair, by: str) -> None:
    await one(pair.stub, "a")
    call = getattr(pair, by).WatchAllocations(pb.WatchAllocationsRequest(network="net"))
    watcher = AllocationWatcher(aiter(call))
    await watcher.until("a")
    await one(pair.stub, "b")
    await one(pair.stub, "c", "h2")
    await watcher.until("a", "b", "c")
    await release(pair.stub, "a")
    await watcher.until("b", "c")
    await release(pair.stub, "c")
    await watcher.until("b")
    await drop_nodes(pair.client, pair.keys, ["h1"])
    await watcher.until()
    call.cancel()


async def test_only_allocations_that_were_asked_for(pair: Pair) -> None:
    await one(pair.stub, "a", "h1")
    await one(pair.stub, "b", "h2")
    call = pair.stub.WatchAllocations(pb.WatchAllocationsRequest(node="h2", network="net"))
    watcher = AllocationWatcher(aiter(call))
    await watcher.until("b")
    await one(pair.stub, "c", "h1")
    await one(pair.stub, "d", "h2")
    await watcher.until("b", "d")
    call.cancel()


@BOTH
async def test_an_address_that_moves_is_told_with_its_node(pair: Pair, by: str) -> None:
    address = await one(pair.stub, "vm", "h1")
    stub = getattr(pair, by)
    everywhere = aiter(stub.WatchAllocations(pb.WatchAllocationsRequest(network="net")))
    of_node = {
        name: AllocationWatcher(
            aiter(stub.WatchAllocations(pb.WatchAllocationsRequest(network="net", node=name)))
        )
        for name in ("h1", "h2")
    }
    await of_node["h1"].until("vm")
    await of_node["h2"].until()
    await pair.stub.PrepareMove(pb.PrepareMoveRequest(name="vm", to_node="h2"))
    await pair.stub.ActivateMove(pb.ActivateMoveRequest(name="vm", to_node="h2", force=True))
    await of_node["h1"].until()
    await of_node["h2"].until("vm")
    async with asyncio.timeout(60):
        while True:
            answer = await anext(everywhere)
            if [(item.address, item.node) for item in answer.allocated] == [(address, "h2")]:
                break
