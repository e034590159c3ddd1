"""A follower sees every transaction once, whatever happens to etcd."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import STORE_BEHIND
from services.common.etcd.follow import Follower
from services.common.etcd.process import LocalEtcd
from services.common.etcd.types import Changes, Delete, Put, Revision, WatchBatch
from tests.conftest import Store
from tests.contract.common_etcd.collector import Collector, following
from tests.contract.common_etcd.proxy import Proxy
from tests.support import retrying


async def test_a_snapshot_comes_first_and_then_the_changes(store: Store) -> None:
    root = f"{store.keys.root}/"
    before = await store.client.put(f"{root}a", b"1")
    async with following(store.client, root) as (follower, seen):
        assert [item.key for item in seen.snapshots[0].items] == [f"{root}a"]
        assert seen.snapshots[0].revision >= before
        await store.client.put(f"{root}b", b"2")
        after = (await store.client.transact((), (Delete(f"{root}a"),))).revision
        await follower.wait_for(after, 60)
        assert [(event.key, event.item and event.item.value) for event in seen.events] == [
            (f"{root}b", b"2"),
            (f"{root}a", None),
        ]
        assert follower.revision >= after
        assert len(seen.snapshots) == 1


async def test_a_transaction_arrives_whole(store: Store) -> None:
    """Also one above 1.5 MiB, which etcd cuts into fragments."""
    root = f"{store.keys.root}/"
    async with following(store.client, root) as (follower, seen):
        for size in (10, 10_000):
            puts = [Put(f"{root}{n}", bytes(size)) for n in range(128)]
            revision = (await store.client.transact((), puts)).revision
            await follower.wait_for(revision, 60)
        # deleting needs little in the request and much, in all, in the answer
        many = [f"{root}{'x' * 2000}{n}" for n in range(1200)]
        for first in range(0, len(many), 100):
            await store.client.transact((), [Put(key, b"") for key in many[first : first + 100]])
        revision = (await store.client.transact((), (Delete(root, prefix=True),))).revision
        await follower.wait_for(revision, 60)
        batches = [batch for batch in seen.batches if isinstance(batch, Changes)]
        revisions = [event.revision for event in seen.events]
        assert revisions == sorted(revisions)
        assert len(batches[-1].events) == len(many) + 128
        ends = [batch.events[-1].revision for batch in batches if batch.events]
        assert len(ends) == len(set(ends))


async def test_a_follower_resumes_after_what_is_known(store: Store) -> None:
    root = f"{store.keys.root}/"
    known = await store.client.put(f"{root}a", b"1")
    last = await store.client.put(f"{root}b", b"2")
    async with following(store.client, root, start=known) as (follower, seen):
        await follower.wait_for(last, 60)
        assert not seen.snapshots
        assert [event.key for event in seen.events] == [f"{root}b"]


async def test_nothing_is_delivered_after_cancelling(store: Store) -> None:
    root = f"{store.keys.root}/"
    async with following(store.client, root) as (follower, seen):
        pass
    count = len(seen.batches)
    revision = await store.client.put(f"{root}a", b"1")
    with pytest.raises(Unavailable) as caught:
        await follower.wait_for(revision, 0.2)
    assert caught.value.reason == STORE_BEHIND
    assert len(seen.batches) == count


async def test_waiting_for_a_revision_without_changes_here(store: Store) -> None:
    root = f"{store.keys.root}/"
    beacon = f"{root}generation"
    await store.client.put(beacon, b"1")
    async with (
        following(store.client, root) as (plain, seen_plain),
        following(store.client, root, beacon=beacon) as (lit, seen_lit),
    ):
        elsewhere = await store.client.put(f"{store.keys.root}-other", b"1")
        for follower, seen in ((plain, seen_plain), (lit, seen_lit)):
            await follower.wait_for(elsewhere, 60)
            assert follower.revision >= elsewhere
            assert not seen.events
        last = await store.client.put(beacon, b"2")
        for follower, seen in ((plain, seen_plain), (lit, seen_lit)):
            await follower.wait_for(last, 60)
            assert [event.revision for event in seen.events] == [last]


@pytest.mark.parametrize("with_beacon", [False, True])
async def test_waiting_never_overtakes_a_change(
    store: Store,
    with_beacon: bool,  # noqa: FBT001
) -> None:
    """Whoever has waited for a revision has seen all that was written up to it."""
    root = f"{store.keys.root}/"
    beacon = f"{root}generation"
    mine: list[Revision] = []
    async with following(store.client, root, beacon=beacon if with_beacon else None) as (
        follower,
        seen,
    ):

        async def write(n: int) -> None:
            for i in range(40):
                key = f"{root}{n}-{i % 3}"
                action = Delete(key) if i % 3 == 2 else Put(key, b"")
                written = await store.client.transact((), (action, Put(beacon, b"")))
                mine.append(written.revision)
                other = await store.client.put(f"{store.keys.root}-other", b"")
                await follower.wait_for(other, 60)
                delivered = {event.revision for event in seen.events}
                assert delivered >= {revision for revision in mine if revision <= other}

        await asyncio.gather(*(write(n) for n in range(4)))
        revisions = [event.revision for event in seen.events]
        assert sorted(set(revisions)) == sorted(mine)
        assert revisions == sorted(revisions)


async def test_every_revision_is_delivered_once_across_crashes(etcd_server: LocalEtcd) -> None:
    async with (
        EtcdClient([etcd_server.endpoint]) as client,
        EtcdClient([etcd_server.endpoint]) as writer,
        following(client, "/a/") as (follower, seen),
    ):
        written: list[Revision] = []
        stop = asyncio.Event()

        async def write() -> None:
            while not stop.is_set():
                try:
                    done = await writer.transact((), [Put(f"/a/{n}", b"x") for n in range(5)])
                except Unavailable:
                    await asyncio.sleep(0.01)
                else:
                    written.append(done.revision)

        task = asyncio.create_task(write())
        for _ in range(3):
            goal = len(written) + 50
            await seen.until(lambda goal=goal: len(written) >= goal)  # type: ignore[misc] # closure
            etcd_server.kill()
            await etcd_server.start()
        goal = len(written) + 50
        await seen.until(lambda: len(written) >= goal)
        stop.set()
        await task
        await follower.wait_for(written[-1], 60)
        assert len(seen.snapshots) == 1
        revisions = [event.revision for event in seen.events]
        assert revisions == sorted(revisions)
        assert set(written) <= set(revisions)
        assert all(revisions.count(revision) == 5 for revision in set(revisions))
        assert client.counters.reconnects >= 3


async def test_compaction_while_away_gives_a_new_snapshot(etcd_server: LocalEtcd) -> None:
    async with (
        Proxy(etcd_server.endpoint) as proxy,
        EtcdClient([proxy.endpoint]) as client,
        EtcdClient([etcd_server.endpoint]) as direct,
        following(client, "/a/") as (follower, seen),
    ):
        await follower.wait_for(await direct.put("/a/1", b"1"), 60)
        proxy.redirect("127.0.0.1:1")
        await direct.transact((), (Delete("/a/1"),))
        last = await direct.put("/a/2", b"2")
        await direct.compact(last)
        proxy.redirect(etcd_server.endpoint)
        await seen.until(lambda: len(seen.snapshots) == 2)
        assert [item.key for item in seen.snapshots[1].items] == ["/a/2"]
        await follower.wait_for(await direct.put("/a/3", b"3"), 60)
        assert seen.events[-1].key == "/a/3"


async def test_a_further_snapshot_says_which_keys_were_proved_to_be_gone(
    etcd_server: LocalEtcd,
) -> None:
    async with (
        Proxy(etcd_server.endpoint) as proxy,
        EtcdClient([proxy.endpoint]) as client,
        EtcdClient([etcd_server.endpoint]) as direct,
        following(client, "/a/", proves_what_is_gone=True) as (follower, seen),
    ):
        many = {f"/a/{number}" for number in range(150)}
        for key in sorted(many):
            last = await direct.put(key, b"1")
        await follower.wait_for(last, 60)
        proxy.redirect("127.0.0.1:1")
        for key in sorted(many):
            last = (await direct.transact((), (Delete(key),))).revision
        back = await direct.put("/a/7", b"2")
        await direct.compact(back)
        proxy.redirect(etcd_server.endpoint)
        await seen.until(lambda: len(seen.snapshots) == 2)
        assert [item.key for item in seen.snapshots[1].items] == ["/a/7"]
        assert set(seen.snapshots[1].gone) == many - {"/a/7"}
        assert not seen.snapshots[0].gone


async def test_a_silent_connection_is_noticed(etcd_server: LocalEtcd) -> None:
    """One member behind two proxies, of which the first goes silent."""
    async with Proxy(etcd_server.endpoint) as first, Proxy(etcd_server.endpoint) as second:
        endpoints = [first.endpoint, second.endpoint]
        async with (
            EtcdClient(endpoints, keepalive=5, timeout=1) as client,
            EtcdClient([etcd_server.endpoint]) as direct,
            following(client, "/a/") as (_, seen),
        ):
            await direct.put("/a/1", b"1")
            await seen.until(lambda: len(seen.events) == 1)
            first.silence()
            await direct.put("/a/2", b"2")
            await seen.until(lambda: len(seen.events) == 2)
            assert client.counters.reconnects


async def test_no_time_is_burnt_while_etcd_is_away(etcd_server: LocalEtcd) -> None:
    async with (
        EtcdClient([etcd_server.endpoint]) as client,
        following(client, "/a/") as (follower, _),
    ):
        etcd_server.kill()
        used, began = time.process_time(), time.monotonic()
        with pytest.raises(Unavailable):
            await follower.wait_for(10**9, 2)
        while time.monotonic() < began + 2:
            with pytest.raises(Unavailable):
                await follower.wait_for(10**9, 1)
            await asyncio.sleep(0.2)
        assert time.process_time() - used < 0.5
        await etcd_server.start()
        await follower.wait_for(await retrying.put(client, "/a/1"), 60)


async def test_an_error_of_the_consumer_ends_the_follower(store: Store) -> None:
    class Broken(Collector):
        def __call__(self, batch: WatchBatch) -> None:
            raise RuntimeError(f"broken by {batch}")

    with pytest.raises(RuntimeError, match="broken"):
        await Follower(store.client, store.keys.root, Broken()).run()
