"""Candidates, their leases and their ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.election import NOT_LEADER, Election
from services.common.etcd.process import LocalEtcd
from services.common.etcd.types import Delete, Put
from tests.conftest import Store
from tests.contract.common_etcd.proxy import Proxy

CANDIDATE = """
import asyncio, sys
from services.common.etcd.client import EtcdClient
from services.common.etcd.election import Election

async def main():
    async with EtcdClient([sys.argv[1]]) as client:
        election = Election(client, sys.argv[2], b"other", ttl=2)
        task = asyncio.create_task(election.run())
        await election.until(leading=True)
        print("leading", flush=True)
        await task

asyncio.run(main())
"""


@asynccontextmanager
async def candidate(
    client: EtcdClient, prefix: str, value: bytes, ttl: int = 2
) -> AsyncIterator[Election]:
    election = Election(client, prefix, value, ttl=ttl)
    task = asyncio.create_task(election.run())
    try:
        yield election
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        with suppress(Unavailable):
            await election.resign()


async def knows(election: Election, value: bytes) -> None:
    """Waits until the candidate sees that leader."""
    async with asyncio.timeout(60):
        while election.leader is None or election.leader.value != value:
            await election.changed()


async def leading(election: Election, *, yes: bool = True) -> None:
    async with asyncio.timeout(60):
        await election.until(leading=yes)


async def test_one_of_three_leads_and_all_know_it(store: Store) -> None:
    async with AsyncExitStack() as stack:
        elections = {
            name: await stack.enter_async_context(
                candidate(store.client, store.keys.leader, name.encode())
            )
            for name in ("a", "b", "c")
        }
        waiting = [asyncio.create_task(leading(election)) for election in elections.values()]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        leaders = [name for name, election in elections.items() if election.is_leader]
        assert len(leaders) == 1
        for election in elections.values():
            await knows(election, leaders[0].encode())


async def test_the_next_in_line_follows_a_leader_that_resigns(store: Store) -> None:
    async with (
        candidate(store.client, store.keys.leader, b"a") as first,
        AsyncExitStack() as stack,
    ):
        await leading(first)
        second = await stack.enter_async_context(
            candidate(store.client, store.keys.leader, b"b", ttl=60)
        )
        await knows(second, b"a")
        assert not second.is_leader
        while len(await _candidates(store)) < 2:
            await second.changed()
        await first.resign()
        assert not first.is_leader
        await leading(second)
        await knows(first, b"b")
        # the first queues up again
        async with asyncio.timeout(60):
            while len(await _candidates(store)) < 2:
                await first.changed()
        assert second.is_leader


async def _candidates(store: Store) -> list[bytes]:
    return [item.value for item in (await store.client.range(store.keys.leader)).items]


async def test_a_killed_leader_is_replaced(store: Store) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CANDIDATE, store.endpoint, store.keys.leader),
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async for line in process.stdout:
            if line == b"leading\n":
                break
        async with candidate(store.client, store.keys.leader, b"mine") as election:
            await knows(election, b"other")
            assert not election.is_leader
            process.kill()
            await process.wait()
            await leading(election)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_deposed_leader_cannot_write(store: Store) -> None:
    async with candidate(store.client, store.keys.leader, b"a") as election:
        await leading(election)
        fence = election.fence()
        put = Put(store.keys.commit, b"1")
        assert (await store.client.transact((fence,), (put,))).succeeded
        await store.client.transact((), (Delete(fence.key),))
        assert not (await store.client.transact((fence,), (put,))).succeeded
        await leading(election, yes=False)
        await leading(election)
        assert election.fence() != fence
        assert not (await store.client.transact((fence,), (put,))).succeeded


async def test_there_is_no_fence_without_leadership(store: Store) -> None:
    with pytest.raises(Unavailable) as caught:
        Election(store.client, store.keys.leader, b"a").fence()
    assert caught.value.reason == NOT_LEADER


async def test_a_leader_that_is_cut_off_gives_up_before_the_next_leads(
    etcd_server: LocalEtcd,
) -> None:
    async with (
        Proxy(etcd_server.endpoint) as proxy,
        EtcdClient([proxy.endpoint], timeout=1) as cut_off,
        EtcdClient([etcd_server.endpoint]) as client,
        candidate(cut_off, "/leader/", b"a") as first,
    ):
        await leading(first)
        async with candidate(client, "/leader/", b"b") as second:
            await knows(second, b"a")
            proxy.silence()
            ended = asyncio.create_task(_time_of(first, leads=False))
            began = asyncio.create_task(_time_of(second, leads=True))
            assert await ended < await began
            with pytest.raises(Unavailable):
                first.fence()


async def _time_of(election: Election, *, leads: bool) -> float:
    await leading(election, yes=leads)
    return time.monotonic()


async def test_leadership_survives_a_restart_of_etcd(etcd_server: LocalEtcd) -> None:
    async with (
        EtcdClient([etcd_server.endpoint]) as client,
        candidate(client, "/leader/", b"a", ttl=20) as election,
    ):
        await leading(election)
        fence = election.fence()
        etcd_server.kill()
        await etcd_server.start()
        async with asyncio.timeout(60):
            while True:
                try:
                    outcome = await client.transact((election.fence(),), (Put("/a", b""),))
                except Unavailable:
                    await asyncio.sleep(0.05)
                else:
                    break
        assert outcome.succeeded
        assert election.fence() == fence


async def test_a_busy_event_loop_loses_no_leadership(store: Store) -> None:
    async with candidate(store.client, store.keys.leader, b"a") as election:
        await leading(election)
        fence = election.fence()
        time.sleep(4)  # noqa: ASYNC251 - twice as long as the lease lasts
        assert election.fence() == fence
        assert (await store.client.transact((fence,), (Put(store.keys.commit, b"1"),))).succeeded


async def test_a_process_that_hangs_is_replaced(store: Store) -> None:
    election = Election(store.client, store.keys.leader, b"a", ttl=2, stalled=0.1)
    task = asyncio.create_task(election.run())
    try:
        await leading(election)
        fence = election.fence()
        while (await store.client.transact((fence,), ())).succeeded:
            time.sleep(1)  # noqa: ASYNC251
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_who_has_withdrawn_is_no_candidate_any_more(store: Store) -> None:
    async with candidate(store.client, store.keys.leader, b"a") as first:
        await leading(first)
        assert not first.has_successor
        async with candidate(store.client, store.keys.leader, b"b") as second:
            while not first.has_successor:
                await first.changed()
            await first.withdraw()
            await leading(second)
            await knows(first, b"b")
            first.stand()
        while await _candidates(store):
            await first.changed()
        assert first.leader is None


async def test_a_candidate_may_come_later(store: Store) -> None:
    election = Election(store.client, store.keys.leader, b"a", ttl=2, stands=False)
    task = asyncio.create_task(election.run())
    try:
        async with candidate(store.client, store.keys.leader, b"b") as other:
            await knows(election, b"b")
            assert await _candidates(store) == [b"b"]
            election.stand()
            while len(await _candidates(store)) < 2:
                await other.changed()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await election.resign()


async def test_a_candidate_that_ends_without_resigning_is_replaced(store: Store) -> None:
    first = Election(store.client, store.keys.leader, b"a", ttl=2)
    task = asyncio.create_task(first.run())
    await leading(first)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert not first.is_leader
    async with candidate(store.client, store.keys.leader, b"b") as second:
        await leading(second)
