"""Replicas that stop, crash and take over."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1 import sync_routes_pb2 as sync_pb
from romana.sync.v1.sync_pb2 import Hello

from services.common.etcd.types import Delete
from services.common.rpc.status import error_of
from tests.conftest import Store
from tests.contract.ipam.asking import addresses_of, findings, one, release, spec
from tests.contract.ipam.conftest import NODES, usual_layout
from tests.support.hidden_ends import hides_its_end
from tests.support.ipam_process import IpamProcess, poll, seed, wait_until_one_active

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

TTL = 2
LONG_TTL = 60
"""Longer than an orderly stop is waited for."""


@contextlib.asynccontextmanager
async def two(
    store: Store, folder: Path, ttl: int = TTL, drain: float = 2
) -> AsyncIterator[tuple[IpamProcess, IpamProcess]]:
    """The active one, and the other."""
    await seed(store.client, store.keys, usual_layout(), NODES)
    start = IpamProcess.started
    root = store.keys.root
    with (
        start(store.endpoint, root, folder, name="one", ttl=ttl, drain=drain) as first,
        start(store.endpoint, root, folder, name="two", ttl=ttl, drain=drain) as second,
    ):
        active = await wait_until_one_active([first, second])
        other = second if active is first else first
        await other.wait_until_serving()
        yield active, other


async def test_after_an_orderly_stop_another_takes_over_at_once(
    store: Store, tmp_path: Path
) -> None:
    async with two(store, tmp_path, ttl=LONG_TTL) as (active, other), other.connect() as stub:
        given = await one(stub, "a")
        assert await active.stop() == 0
        await other.wait_until_active(seconds=LONG_TTL / 2)
        assert await addresses_of(stub, "a") == [given]
        assert await one(stub, "a") == given
        assert await one(stub, "b") != given
        assert await findings(stub) == []


async def test_after_a_crash_another_takes_over_when_the_lease_ends(
    store: Store, tmp_path: Path
) -> None:
    async with two(store, tmp_path) as (active, other), other.connect() as stub:
        given = [await one(stub, f"n{number}", tenant=f"t{number % 3}") for number in range(20)]
        active.kill()
        await other.wait_until_active()
        assert [
            item for number in range(20) for item in await addresses_of(stub, f"n{number}")
        ] == (given)
        assert await one(stub, "more") not in given
        assert await findings(stub) == []


async def test_a_replica_that_was_silent_writes_no_more(store: Store, tmp_path: Path) -> None:
    async with two(store, tmp_path) as (active, other):
        active.signal(signal.SIGSTOP)
        await other.wait_until_active()
        async with other.connect() as stub:
            given = await one(stub, "a")
        active.signal(signal.SIGCONT)

        async def follows() -> bool:
            status = await active.status()
            return status is not None and not status.active

        await poll(follows, 60)
        await active.wait_until_serving()
        async with active.connect() as stub:
            assert await one(stub, "a") == given
            assert await one(stub, "b") != given
            assert await findings(stub) == []


async def test_what_was_answered_survives_a_crash_in_the_middle(
    store: Store, tmp_path: Path
) -> None:
    async with two(store, tmp_path) as (active, other):
        answered: dict[str, str] = {}

        async def work(lane: int) -> None:
            async with active.connect() as stub:
                for number in range(10_000):
                    try:
                        answered[f"{lane}-{number}"] = await one(
                            stub, f"{lane}-{number}", "h1", f"t{lane}"
                        )
                        if number > 5:
                            await release(stub, f"{lane}-{number - 5}")
                            answered.pop(f"{lane}-{number - 5}")
                    except grpc.aio.AioRpcError:
                        return

        lanes = [asyncio.create_task(work(lane)) for lane in range(4)]
        await poll(lambda: len(answered) > 20, 60)
        active.kill()
        await asyncio.gather(*lanes)
        await other.wait_until_active()
        async with other.connect() as stub:
            for name, address in answered.items():
                # the last release of a lane may have come through without its answer
                assert await addresses_of(stub, name) in ([address], [])
            assert sum([bool(await addresses_of(stub, name)) for name in answered]) >= (
                len(answered) - 4
            )
            assert await findings(stub) == []


async def test_all_that_is_known_survives_a_restart_of_everything(
    store: Store, tmp_path: Path
) -> None:
    async with two(store, tmp_path) as (active, other):
        async with active.connect() as stub:
            specs = [spec(f"n{n}", f"h{n % 2 + 1}", f"t{n % 5}") for n in range(60)]
            await stub.AllocateAddresses(pb.AllocateAddressesRequest(specs=specs))
            before = await stub.ListAddresses(pb.ListAddressesRequest())
        for replica in (other, active):
            assert await replica.stop() == 0
        other.start()
        await other.wait_until_active()
        async with other.connect() as stub:
            after = await stub.ListAddresses(pb.ListAddressesRequest())
            assert list(after.allocations) == list(before.allocations)
            assert await findings(stub) == []


@dataclass
class Caller:
    """Allocates and releases at one replica for as long as that answers."""

    stub: IpamServiceAsyncStub
    name: str
    held: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    enough: bool = False

    async def run(self) -> grpc.aio.AioRpcError | None:
        """Returns the first error there was."""
        try:
            while not self.enough:
                name = f"{self.name}-{self.calls}"
                self.held[name] = await one(self.stub, name, "h1", self.name)
                if self.calls % 2:
                    await release(self.stub, name)
                    del self.held[name]
                self.calls += 1
        except grpc.aio.AioRpcError as error:
            return error
        return None


async def test_a_planned_stop_interrupts_nobody(store: Store, tmp_path: Path) -> None:
    """With an agent's stream and schedulers' at the replica that stops."""
    async with (
        two(store, tmp_path, ttl=LONG_TTL, drain=30) as (active, other),
        active.connect() as stub,
        other.connect() as other_stub,
    ):
        agent = stub.SyncRoutes()
        await agent.write(sync_pb.SyncRoutesRequest(hello=Hello(node="h1")))
        await agent.read()
        idle, used = stub.AllocateStream(), other_stub.AllocateStream()
        for number, stream in enumerate((idle, used)):
            await stream.write(pb.AllocateStreamRequest(specs=[spec(f"stream-{number}", "h2")]))
            await stream.read()
        callers = [Caller(stub, "here"), Caller(other_stub, "there"), Caller(other_stub, "too")]
        running = [asyncio.create_task(caller.run()) for caller in callers]
        await poll(lambda: all(caller.calls > 5 for caller in callers), 60)

        active.terminate()
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await idle.read()
        assert error_of(ended.value).reason == "DRAINING"
        await used.write(pb.AllocateStreamRequest(sequence=2, specs=[spec("more", "h2")]))
        answer = await used.read()
        assert isinstance(answer, pb.AllocateStreamResponse)
        assert (answer.sequence, answer.results[0].status.code) == (2, 0)
        assert await active.wait() == 0

        for caller in callers:
            caller.enough = True
        at_the_end, *none = await asyncio.gather(*running)
        assert none == [None, None]
        if at_the_end is not None:
            # CANCELLED is grpc's own word to a call that comes in the moment in which it stops
            stopped = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
            assert at_the_end.code() in stopped or hides_its_end(at_the_end)
        for caller in callers:
            for name, address in caller.held.items():
                assert await addresses_of(other_stub, name) == [address]
        assert await findings(other_stub) == []


async def test_a_stream_by_way_of_another_replica_outlives_the_active_one(
    store: Store, tmp_path: Path
) -> None:
    async with two(store, tmp_path) as (active, other), other.connect() as stub:
        call = stub.AllocateStream()
        await call.write(pb.AllocateStreamRequest(sequence=1, specs=[spec("a")]))
        first = await call.read()
        assert isinstance(first, pb.AllocateStreamResponse)
        assert first.sequence == 1
        active.kill()
        await other.wait_until_active()
        await call.write(pb.AllocateStreamRequest(sequence=2, specs=[spec("a"), spec("b")]))
        second = await call.read()
        assert isinstance(second, pb.AllocateStreamResponse)
        assert second.sequence == 2
        assert second.results[0].existed
        assert second.results[0].allocations == first.results[0].allocations


async def test_callers_wait_out_an_election(store: Store, tmp_path: Path) -> None:
    async with two(store, tmp_path, ttl=LONG_TTL) as (active, other), other.connect() as stub:
        given = await one(stub, "a")
        # the active one resigns, and nobody is elected for a moment: the other one's key is gone
        candidates = await store.client.range(store.keys.leader)
        await store.client.transact((), [Delete(item.key) for item in candidates.items])
        assert await one(stub, "a") == given
        assert active.pid is not None
        assert other.pid is not None


async def test_not_serving_until_in_sync(tmp_path: Path, store: Store) -> None:
    replica = IpamProcess(["127.0.0.1:1"], store.keys.root, tmp_path)
    replica.start()
    try:
        end = time.monotonic() + 2
        while time.monotonic() < end and replica.pid is not None:
            assert not await replica.is_serving()
            await asyncio.sleep(0.1)
    finally:
        replica.kill()


async def test_nothing_is_allocated_before_there_is_a_topology(
    store: Store, tmp_path: Path
) -> None:
    with IpamProcess.started(store.endpoint, store.keys.root, tmp_path) as replica:
        await replica.wait_until_active()
        async with replica.connect() as stub:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await one(stub, "a")
            assert raised.value.code() is grpc.StatusCode.NOT_FOUND
            await seed(store.client, store.keys, usual_layout(), NODES)

            async def allocated() -> bool:
                try:
                    return bool(await one(stub, "a"))
                except grpc.aio.AioRpcError:
                    return False

            await poll(allocated, 60)
