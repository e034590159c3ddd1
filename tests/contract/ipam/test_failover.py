"""Replicas that stop, crash and take over."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from romana.ipam.v1 import ipam_service_pb2 as pb

from tests.conftest import Store
from tests.contract.ipam.asking import addresses_of, findings, one, release, spec
from tests.contract.ipam.conftest import NODES, usual_layout
from tests.support.hidden_ends import hides_its_end
from tests.support.ipam_process import IpamProcess, poll, seed, wait_until_one_active

TTL = 2
LONG_TTL = 60
"""Longer than an orderly stop is waited for."""


@contextlib.asynccontextmanager
async def two(
    store: Store, folder: Path, ttl: int = TTL
) -> AsyncIterator[tuple[IpamProcess, IpamProcess]]:
    """The active one, and the other."""
    await seed(store.client, store.keys, usual_layout(), NODES)
    start = IpamProcess.started
    root = store.keys.root
    with (
        start(store.endpoint, root, folder, name="one", ttl=ttl) as first,
        start(store.endpoint, root, folder, name="two", ttl=ttl) as second,
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


async def test_a_stream_by_way_of_another_replica_ends_when_the_active_one_is_gone(
    store: Store, tmp_path: Path
) -> None:
    async with two(store, tmp_path) as (active, other), other.connect() as stub:
        more = asyncio.Event()

        async def messages() -> AsyncIterator[pb.AllocateStreamRequest]:
            yield pb.AllocateStreamRequest(sequence=1, specs=[spec("a")])
            await more.wait()
            yield pb.AllocateStreamRequest(sequence=2, specs=[spec("b")])

        call = stub.AllocateStream(messages())
        answers = aiter(call)
        assert (await anext(answers)).sequence == 1
        active.kill()
        more.set()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await anext(answers)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE or hides_its_end(raised.value)
        await other.wait_until_active()


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
