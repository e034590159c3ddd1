"""The client against a real etcd."""

from __future__ import annotations

from services.common.etcd.types import Put
from tests.conftest import Store


async def test_what_is_put_is_got(store: Store) -> None:
    key = f"{store.keys.root}/a"
    revision = await store.client.put(key, b"1")
    item = await store.client.get(key)
    assert item is not None
    assert (item.key, item.value, item.mod_revision) == (key, b"1", revision)


async def test_range_pages(store: Store) -> None:
    for page in range(30):
        await store.client.transact(
            (), [Put(f"{store.keys.root}/{page:04}/{n:04}", b"x" * 100) for n in range(100)]
        )
    got = await store.client.range(f"{store.keys.root}/")
    assert len(got.items) == 3000
    assert [item.key for item in got.items] == sorted(item.key for item in got.items)
