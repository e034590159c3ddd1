"""The active replica hands over: what is in flight ends, memory goes on, another one decides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from services.common.audit.writer import AuditWriter
from services.common.errors import RomanaError, Unavailable
from services.common.etcd.client import EtcdClient
from services.common.model.names import EndpointName
from services.ipam.api.audited import TEXTS
from services.ipam.deciding.commands import Allocate, Allocated, Release, Result
from services.ipam.store.group_commit import NOT_ACTIVE
from services.ipam.store.replica import Identity, Replica
from tests.conftest import Store
from tests.contract.ipam.test_take_over import Nobody
from tests.support.ipam_dump import dump
from tests.support.ipam_process import poll, seed
from tests.support.ipam_world import allocate
from tests.support.topologies import layout, network, node

SECONDS = 60.0


@contextlib.asynccontextmanager
async def replica(store: Store, name: str) -> AsyncIterator[Replica]:
    async with EtcdClient([store.endpoint]) as client:
        made = Replica(
            client,
            store.keys,
            Identity(name, name, "epoch"),
            ttl=5,
            observer=Nobody(),
            audit=AuditWriter(store.keys, "ipam", TEXTS),
        )
        running = asyncio.create_task(made.run())
        try:
            await poll(lambda: made.in_sync and name in made.candidates, SECONDS)
            yield made
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            with contextlib.suppress(Unavailable):
                await made.resign()


@contextlib.asynccontextmanager
async def two(store: Store) -> AsyncIterator[tuple[Replica, Replica]]:
    """The active one and the other."""
    nodes = [node("h1"), node("h2")]
    await seed(store.client, store.keys, layout([network("net", "10.0.0.0/24", 29)]), nodes)
    async with replica(store, "one") as first, replica(store, "two") as second:
        await poll(lambda: first.active, SECONDS)
        yield first, second


def request(name: str, tenant: str = "t", on: str = "h1") -> Allocate:
    return allocate(name, on, tenant)


async def same(first: Replica, second: Replica) -> None:
    """Waits until both hold the same."""
    await poll(lambda: dump(first.ledger) == dump(second.ledger), SECONDS)


async def test_memory_goes_on_where_it_was(store: Store) -> None:
    async with two(store) as (first, second):
        await first.submit([request(f"a{n}", f"t{n % 3}") for n in range(30)])
        state = first.ledger
        await first.hand_over()
        await poll(lambda: second.active, SECONDS)
        await second.submit([request(f"b{n}", f"t{n % 4}", "h2") for n in range(20)])
        await second.submit([Release(EndpointName(f"a{n}")) for n in range(25)])
        await same(first, second)
        assert first.ledger is state  # it was not read anew
        assert first.in_sync
        assert first.active_address == "two"
        with pytest.raises(Unavailable) as refused:
            await first.submit([request("c")])
        assert refused.value.reason == NOT_ACTIVE


async def test_what_was_not_decided_is_told_apart_and_leaves_no_trace(store: Store) -> None:
    async with two(store) as (first, second):
        jobs = [
            asyncio.create_task(
                first.submit([request(f"{lane}-{n}", f"t{lane}") for n in range(3)])
            )
            for lane in range(20)
        ]
        await asyncio.sleep(0)
        await first.hand_over()
        await poll(lambda: second.active, SECONDS)
        for lane, results in enumerate(await asyncio.gather(*jobs, return_exceptions=True)):
            for n in range(3):
                places = second.ledger.index.places(EndpointName(f"{lane}-{n}"))
                assert bool(places) == _decided(results, n)
        await same(first, second)


def _decided(results: list[Result] | BaseException, number: int) -> bool:
    found = results if isinstance(results, BaseException) else results[number]
    if isinstance(found, Allocated):
        return True
    assert isinstance(found, RomanaError)
    assert found.reason == NOT_ACTIVE
    return False


async def test_without_a_successor_it_goes_on(store: Store) -> None:
    await seed(store.client, store.keys, layout([network("net", "10.0.0.0/24")]), [node("h1")])
    async with replica(store, "one") as only:
        await poll(lambda: only.active, SECONDS)
        await only.hand_over()
        assert isinstance((await only.submit([request("a")]))[0], Allocated)


async def test_a_standby_that_stops_is_not_elected_meanwhile(store: Store) -> None:
    async with two(store) as (first, second):
        await second.hand_over()
        await poll(lambda: first.candidates == {"one"}, SECONDS)
        assert first.active
        assert second.in_sync
