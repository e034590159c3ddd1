"""A consumer that keeps what a follower delivers, and can be waited on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from services.common.etcd.client import EtcdClient
from services.common.etcd.follow import Follower
from services.common.etcd.types import Changes, Event, Snapshot, WatchBatch


class Collector:
    def __init__(self) -> None:
        self.batches: list[WatchBatch] = []
        self._news = asyncio.Event()

    def __call__(self, batch: WatchBatch) -> None:
        self.batches.append(batch)
        self._news.set()

    @property
    def snapshots(self) -> list[Snapshot]:
        return [batch for batch in self.batches if isinstance(batch, Snapshot)]

    @property
    def events(self) -> list[Event]:
        changes = [batch for batch in self.batches if isinstance(batch, Changes)]
        return [event for batch in changes for event in batch.events]

    async def until(self, condition: Callable[[], bool], timeout: float = 60) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def running(follower: Follower) -> AsyncIterator[None]:
    task = asyncio.create_task(follower.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def following(
    client: EtcdClient,
    prefix: str,
    *,
    start: int | None = None,
    beacon: str | None = None,
    proves_what_is_gone: bool = False,
) -> AsyncIterator[tuple[Follower, Collector]]:
    collector = Collector()
    follower = Follower(
        client,
        prefix,
        collector,
        start=start,
        beacon=beacon,
        proves_what_is_gone=proves_what_is_gone,
    )
    async with running(follower):
        if start is None:
            await collector.until(lambda: bool(collector.snapshots))
        yield follower, collector
