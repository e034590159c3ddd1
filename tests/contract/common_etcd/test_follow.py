from __future__ import annotations

import asyncio

from services.common.etcd.follow import Follower
from services.common.etcd.types import WatchBatch
from tests.conftest import Store


async def test_basic(store: Store) -> None:
    batches: list[WatchBatch] = []
    follower = Follower(store.client, f"{store.keys.root}/", batches.append)
    task = asyncio.create_task(follower.run())
    revision = await store.client.put(f"{store.keys.root}/a", b"1")
    await follower.wait_for(revision, 5)
    revision = await store.client.put("/elsewhere", b"1")
    await follower.wait_for(revision, 5)
    task.cancel()
