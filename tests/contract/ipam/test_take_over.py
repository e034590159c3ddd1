"""A replica that is elected before its watch has brought what the last one wrote.

The fault tests pass without the wait of a take-over in nearly every run, since a watch is fast.
Here it is held back until the replica either waits for it or has begun to decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import AsyncIterator

import pytest

from services.common.audit.writer import AuditWriter
from services.common.errors import RomanaError, Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.types import Changes, Delete, Put, Revision
from services.common.etcd.watch import WatchStream
from services.common.model.names import NetworkName, NodeName
from services.common.records.blocks import BlockPage, PageRest, PageUse, encode
from services.ipam.api.audited import TEXTS
from services.ipam.deciding.commands import Allocated
from services.ipam.ledger.ledger import Ledger
from services.ipam.store.replica import Identity, Replica
from tests.conftest import Store
from tests.support.ipam_process import poll, seed
from tests.support.ipam_world import allocate
from tests.support.topologies import layout, network, node

BASE = 10 << 24
SECONDS = 20.0
ENOUGH = 1.0
"""Seconds in which a replica that does not wait begins to decide: it takes milliseconds."""


class HeldWatch(WatchStream):
    """Delivers nothing while its gate is closed."""

    gate: asyncio.Event

    async def next(self) -> Changes:
        changes = await super().next()
        await self.gate.wait()
        return changes


class SlowClient(EtcdClient):
    """A client whose watch of one prefix lags for as long as wanted."""

    slow = ""

    def __init__(self, endpoint: str) -> None:
        super().__init__([endpoint])
        self.gate = asyncio.Event()
        self.gate.set()

    def watch(self, prefix: str, start: Revision) -> WatchStream:
        if prefix != self.slow:
            return super().watch(prefix, start)
        made = HeldWatch(self._endpoints.current, prefix, start, self._timeout, self._stream_failed)
        made.gate = self.gate
        return made


class Nobody:
    """An observer that does not care."""

    def committed(self, items: int, operations: int, seconds: float) -> None:
        """Nothing."""

    def undone(self, why: str) -> None:
        """Nothing."""

    def failed(self) -> None:
        """Nothing."""

    def released(self, addresses: int) -> None:
        """Nothing."""


def replica_on(store: Store, client: EtcdClient) -> Replica:
    return Replica(
        client,
        store.keys,
        Identity("me", "here", "epoch"),
        ttl=5,
        observer=Nobody(),
        audit=AuditWriter(store.keys, "ipam", TEXTS),
    )


@contextlib.asynccontextmanager
async def standby(store: Store, slow: str) -> AsyncIterator[tuple[Replica, SlowClient]]:
    """A replica that has read the store, while somebody else leads."""
    await seed(store.client, store.keys, layout([network("net", "10.0.0.0/24", 29)]), [node("h1")])
    await store.client.put(f"{store.keys.leader}0", b"elsewhere")
    async with SlowClient(store.endpoint) as client:
        client.slow = slow
        replica = replica_on(store, client)
        running = asyncio.create_task(replica.run())
        try:
            await poll(lambda: replica.in_sync and "here" in replica.candidates, SECONDS)
            yield replica, client
        finally:
            client.gate.set()
            while not running.done():
                running.cancel()
                await asyncio.wait({running}, timeout=0.1)
            with contextlib.suppress(Unavailable):
                await replica.resign()


async def take_over(store: Store, replica: Replica, client: SlowClient) -> None:
    """Has the replica elected while its watch is held back; it must wait for that."""
    await store.client.transact((), (Delete(f"{store.keys.leader}0"),))

    async def took_over() -> bool:
        mark = await store.client.get(store.keys.commit)
        return mark is not None and mark.value.startswith(b"me/")

    await poll(took_over, SECONDS)
    with contextlib.suppress(TimeoutError):
        await poll(lambda: replica.active, ENOUGH)
    early = replica.active
    client.gate.set()
    await poll(lambda: replica.active, SECONDS)
    assert not early


async def addresses_of(replica: Replica, node: str, *names: str) -> list[str]:
    results = await replica.submit([allocate(name, node, "t") for name in names])
    return [item.addresses[0].text for item in results if isinstance(item, Allocated)]


async def test_a_defect_in_a_transaction_makes_memory_be_read_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the process goes on: the next request finds what is stored."""
    async with standby(store, "") as (replica, _):
        await store.client.transact((), (Delete(f"{store.keys.leader}0"),))
        await poll(lambda: replica.active, SECONDS)
        before = weakref.ref(replica.ledger)

        def broken(_: Ledger) -> None:
            monkeypatch.undo()
            raise ZeroDivisionError

        monkeypatch.setattr(Ledger, "pending", broken)
        asked = allocate("a", "h1", "t")
        (result,) = await replica.submit([asked])
        assert isinstance(result, RomanaError)
        assert result.reason == "INTERNAL"
        await poll(lambda: replica.active and replica.ledger is not before(), SECONDS)
        assert before() is None
        (result,) = await replica.submit([asked])
        assert isinstance(result, Allocated)
        assert [item.text for item in result.addresses] == ["10.0.0.0"]


async def test_who_was_deposed_has_no_cancellation_left_over(store: Store) -> None:
    """Up to Python 3.11.2 it would end the replica at its next timeout, and nobody would notice."""
    async with standby(store, "") as (replica, _):
        await store.client.transact((), (Delete(f"{store.keys.leader}0"),))
        await poll(lambda: replica.active, SECONDS)
        await replica.resign()
        await poll(lambda: replica.active, SECONDS)
        (live,) = (task for task in asyncio.all_tasks() if task.get_name() == "live")
        assert live.cancelling() == 0


async def test_what_was_released_by_a_clock_that_was_ahead_rests_no_longer_than_its_delay(
    store: Store,
) -> None:
    async with standby(store, store.keys.ipam) as (replica, _):
        await seed(
            store.client,
            store.keys,
            layout([network("net", "10.0.0.0/31", 31, reuse_delay=0.2)]),
        )
        tomorrow = int(time.time() + 86_400) * 1000
        page = BlockPage(31, "h1", "t", "", 1, rest=(PageRest(0, tomorrow), PageRest(1, tomorrow)))
        key = store.keys.block(NetworkName("net"), BASE, 0, 32)
        await store.client.transact(
            (), (Put(key, encode(page)), Put(store.keys.commit, b"other/1"))
        )
        await store.client.transact((), (Delete(f"{store.keys.leader}0"),))
        await poll(lambda: replica.active, SECONDS)
        asked = allocate("a", "h1", "t")

        async def given() -> bool:
            with contextlib.suppress(Unavailable):
                return isinstance((await replica.submit([asked]))[0], Allocated)
            return False

        await poll(given, SECONDS)


async def test_who_takes_over_decides_only_after_all_that_was_written(store: Store) -> None:
    async with standby(store, store.keys.ipam) as (replica, client):
        client.gate.clear()
        page = BlockPage(29, "h1", "t", "", 1, used=(PageUse(0, "a", int(time.time())),))
        key = store.keys.block(network("net", "10.0.0.0/24", 29).name, BASE, 0, 32)
        await store.client.transact(
            (), (Put(key, encode(page)), Put(store.keys.commit, b"other/1"))
        )
        await take_over(store, replica, client)
        assert await addresses_of(replica, "h1", "a", "b") == ["10.0.0.0", "10.0.0.1"]


async def test_who_takes_over_releases_nothing_of_a_node_that_it_has_not_heard_of_yet(
    store: Store,
) -> None:
    async with standby(store, store.keys.topology) as (replica, client):
        client.gate.clear()
        await seed(store.client, store.keys, None, [node("h2")])
        page = BlockPage(29, "h2", "t", "", 1, used=(PageUse(0, "a", int(time.time())),))
        key = store.keys.block(network("net", "10.0.0.0/24", 29).name, BASE, 0, 32)
        await store.client.transact(
            (), (Put(key, encode(page)), Put(store.keys.commit, b"other/1"))
        )
        await take_over(store, replica, client)
        assert await addresses_of(replica, "h2", "a", "b") == ["10.0.0.0", "10.0.0.1"]


async def test_nothing_is_released_of_a_node_whose_record_cannot_be_read(store: Store) -> None:
    page = BlockPage(29, "h2", "t", "", 1, used=(PageUse(0, "a", int(time.time())),))
    key = store.keys.block(network("net", "10.0.0.0/24", 29).name, BASE, 0, 32)
    bad = b'{"name":"h2","address":"192.0.2.300"}'
    await store.client.transact((), (Put(key, encode(page)), Put(store.keys.commit, b"other/1")))
    await store.client.transact(
        (), (Put(store.keys.node(NodeName("h2")), bad), Put(store.keys.generation, b"1"))
    )
    async with standby(store, "") as (replica, _):
        await store.client.transact((), (Delete(f"{store.keys.leader}0"),))
        await poll(lambda: replica.active, SECONDS)
        assert await addresses_of(replica, "h1", "b") == ["10.0.0.128"]
        assert list(replica.unreadable) == [store.keys.node(NodeName("h2"))]
        assert await store.client.get(key) is not None
        # repaired, it goes on with what it has
        await seed(store.client, store.keys, None, [node("h2")])
        await poll(lambda: not replica.unreadable, SECONDS)
        assert await addresses_of(replica, "h2", "a", "c") == ["10.0.0.0", "10.0.0.1"]


async def test_nobody_stands_for_election_before_the_layout_can_be_read(store: Store) -> None:
    """With an empty one every address would be a stranger, and every route would go."""
    async with standby(store, "") as (before, _):
        assert before.in_sync
    await store.client.transact((), (Delete(store.keys.layout), Put(store.keys.generation, b"1")))
    writes = (Put(store.keys.layout, b"["), Put(store.keys.generation, b"1"))
    await store.client.transact((), writes)
    client = EtcdClient([store.endpoint])
    replica = replica_on(store, client)
    running = asyncio.create_task(replica.run())
    try:
        await poll(lambda: bool(replica.unreadable), SECONDS)
        await store.client.transact((), (Delete(f"{store.keys.leader}0"),))
        with contextlib.suppress(TimeoutError):
            await poll(lambda: replica.active, ENOUGH)
        assert not replica.active
        assert not replica.in_sync
        await seed(store.client, store.keys, layout([network("net", "10.0.0.0/24", 29)]))
        await poll(lambda: replica.active, SECONDS)
        assert await addresses_of(replica, "h1", "a") == ["10.0.0.0"]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await replica.resign()
        await client.close()
