"""The client against a real etcd: one round trip for each kind of request."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.epoch import ensure_epoch
from services.common.etcd.errors import Compacted, LeaseNotFound, RequestRefused
from services.common.etcd.process import LocalEtcd
from services.common.etcd.types import Compare, Delete, Field, Get, Put, Relation
from tests.conftest import Store


async def test_a_key_that_is_put_is_got(store: Store) -> None:
    key = f"{store.keys.root}/ä"
    first = await store.client.put(key, b"1")
    second = await store.client.put(key, b"\0\xff")
    item = await store.client.get(key)
    assert item is not None
    assert (item.key, item.value, item.version) == (key, b"\0\xff", 2)
    assert (item.create_revision, item.mod_revision) == (first, second)


async def test_a_key_that_is_not_there_is_none(store: Store) -> None:
    assert await store.client.get(f"{store.keys.root}/nothing") is None


async def test_an_empty_range_is_empty(store: Store) -> None:
    got = await store.client.range(f"{store.keys.root}/")
    assert list(got.items) == []
    assert got.revision > 0


async def test_a_range_holds_only_its_prefix(store: Store) -> None:
    for name in ("a", "a/1", "a/2", "a0", "b"):
        await store.client.put(f"{store.keys.root}/{name}", b"")
    got = await store.client.range(f"{store.keys.root}/a/")
    assert [item.key for item in got.items] == [f"{store.keys.root}/a/{n}" for n in (1, 2)]


async def test_a_range_of_many_pages_is_of_one_revision(store: Store) -> None:
    """A writer moves one token from key to key: at any revision there is exactly one."""
    root = f"{store.keys.root}/k/"
    total = 12_000
    for first in range(0, total, 120):
        await store.client.transact(
            (), [Put(f"{root}{n:06}", b"x" * 400) for n in range(first, first + 120)]
        )
    await store.client.put(f"{root}000000", b"token")
    done = asyncio.Event()

    async def move() -> None:
        place = 0
        for step in itertools.count(1):
            if done.is_set():
                return
            target = (step * 7919) % total
            await store.client.transact(
                (), (Put(f"{root}{place:06}", b"x" * 400), Put(f"{root}{target:06}", b"token"))
            )
            place = target

    async with asyncio.TaskGroup() as group:
        group.create_task(move())
        requests = store.client.counters.requests
        for _ in range(4):
            got = await store.client.range(root)
            assert len(got.items) == total
            assert [item.value for item in got.items].count(b"token") == 1
            assert max(item.mod_revision for item in got.items) <= got.revision
        done.set()
    assert store.client.counters.requests > requests


async def test_a_range_of_the_past_is_as_it_was(store: Store) -> None:
    then = await store.client.put(f"{store.keys.root}/a", b"1")
    await store.client.transact((), (Delete(f"{store.keys.root}/a"),))
    assert len((await store.client.range(store.keys.root, revision=then)).items) == 1
    assert not (await store.client.range(store.keys.root)).items


async def test_a_range_of_a_compacted_revision_says_so(etcd_server: LocalEtcd) -> None:
    async with EtcdClient([etcd_server.endpoint]) as client:
        then = await client.put("/a", b"1")
        now = await client.put("/a", b"2")
        await client.compact(now)
        with pytest.raises(Compacted):
            await client.range("/", revision=then)


async def test_counts_tell_what_changed(store: Store) -> None:
    root = f"{store.keys.root}/"
    await store.client.put(f"{root}a", b"")
    since = await store.client.put(f"{root}b", b"")
    assert (await store.client.count_changed(root, since))[:2] == (2, 0)
    await store.client.put(f"{root}c", b"")
    assert (await store.client.count_changed(root, since))[:2] == (3, 1)
    assert await store.client.count(root, since) == 2


@pytest.mark.parametrize(
    ("field", "value"), [(Field.CREATE, "create"), (Field.MOD, "mod"), (Field.VERSION, "version")]
)
@pytest.mark.parametrize("relation", list(Relation))
async def test_comparisons(store: Store, field: Field, value: str, relation: Relation) -> None:
    key = f"{store.keys.root}/a"
    create = await store.client.put(key, b"1")
    mod = await store.client.put(key, b"2")
    actual = {"create": create, "mod": mod, "version": 2}[value]
    for operand in (actual - 1, actual, actual + 1):
        outcome = await store.client.transact(
            (Compare(key, field, relation, operand),), (Get(key),), ()
        )
        expected = {
            Relation.EQUAL: actual == operand,
            Relation.LESS: actual < operand,
            Relation.GREATER: actual > operand,
        }[relation]
        assert outcome.succeeded is expected


@pytest.mark.parametrize("field", list(Field))
async def test_a_missing_key_compares_as_zero(store: Store, field: Field) -> None:
    key = f"{store.keys.root}/a"
    for prefix in (False, True):
        outcome = await store.client.transact(
            (Compare(key, field, Relation.EQUAL, 0, prefix=prefix),), ()
        )
        assert outcome.succeeded


async def test_a_prefix_comparison_holds_for_every_key(store: Store) -> None:
    first = await store.client.put(f"{store.keys.root}/a/1", b"")
    last = await store.client.put(f"{store.keys.root}/a/2", b"")
    await store.client.put(f"{store.keys.root}/b", b"")

    async def holds(operand: int) -> bool:
        condition = Compare(f"{store.keys.root}/a/", Field.MOD, Relation.LESS, operand, prefix=True)
        return (await store.client.transact((condition,), ())).succeeded

    assert await holds(last + 1)
    assert not await holds(last)
    assert not await holds(first)


async def test_a_transaction_does_all_or_the_other(store: Store) -> None:
    a, b, c = (f"{store.keys.root}/{name}" for name in "abc")
    missing = Compare(a, Field.CREATE, Relation.EQUAL, 0)
    operations = (Put(a, b"1"), Put(b, b"2"), Get(store.keys.root, prefix=True))
    first = await store.client.transact((missing,), operations, (Get(a), Get(b), Get(c)))
    assert first.succeeded
    assert [[item.key for item in read] for read in first.reads] == [[a, b]]
    assert {item.mod_revision for item in first.reads[0]} == {first.revision}
    second = await store.client.transact((missing,), operations, (Get(a), Get(b), Get(c)))
    assert not second.succeeded
    assert [[item.value for item in read] for read in second.reads] == [[b"1"], [b"2"], []]


async def test_a_prefix_is_deleted(store: Store) -> None:
    for name in ("a/1", "a/2", "b"):
        await store.client.put(f"{store.keys.root}/{name}", b"")
    outcome = await store.client.transact((), (Delete(f"{store.keys.root}/a/", prefix=True),))
    assert outcome.succeeded
    got = await store.client.range(store.keys.root)
    assert [item.key for item in got.items] == [f"{store.keys.root}/b"]


async def test_a_key_twice_in_a_transaction_is_refused(store: Store) -> None:
    key = f"{store.keys.root}/a"
    with pytest.raises(RequestRefused, match="duplicate key"):
        await store.client.transact((), (Put(key, b"1"), Put(key, b"2")))


async def test_too_many_operations_are_refused(store: Store) -> None:
    with pytest.raises(RequestRefused, match="too many operations"):
        await store.client.transact((), [Put(f"{store.keys.root}/{n}", b"") for n in range(129)])


async def test_too_large_a_transaction_is_refused(store: Store) -> None:
    with pytest.raises(RequestRefused, match="too large"):
        await store.client.put(f"{store.keys.root}/a", b"x" * 1_600_000)


async def test_a_revoked_lease_takes_its_keys_along(store: Store) -> None:
    key = f"{store.keys.root}/a"
    lease = await store.client.grant_lease(60)
    await store.client.put(key, b"", lease=lease)
    item = await store.client.get(key)
    assert item is not None
    assert item.lease == lease
    await store.client.revoke_lease(lease)
    assert await store.client.get(key) is None
    await store.client.revoke_lease(lease)
    with pytest.raises(LeaseNotFound):
        await store.client.put(key, b"", lease=lease)


async def test_status(store: Store) -> None:
    status = await store.client.status()
    assert status.version.startswith("3.")
    assert status.has_leader
    assert status.size > 0


async def test_the_epoch_is_made_once(store: Store) -> None:
    made = await asyncio.gather(*(ensure_epoch(store.client, store.keys) for _ in range(5)))
    assert len(set(made)) == 1
    assert len(made[0]) == 36


async def test_requests_are_observed(store: Store) -> None:
    seen: list[tuple[str, bool]] = []

    class Observer:
        def observe(self, operation: str, seconds: float, *, ok: bool) -> None:
            assert seconds > 0
            seen.append((operation, ok))

    async with EtcdClient([store.endpoint], observer=Observer()) as client:
        await client.get(store.keys.root)
        with pytest.raises(RequestRefused):
            await client.transact((), (Put("/a", b""), Put("/a", b"")))
        assert seen == [("get", True), ("transact", False)]
        assert (client.counters.requests, client.counters.failures) == (2, 1)


async def test_a_closed_client_says_so(store: Store) -> None:
    client = EtcdClient([store.endpoint])
    await client.get("/a")
    await client.close()
    with pytest.raises(Unavailable, match="closed"):
        await client.get("/a")
