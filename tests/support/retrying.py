"""Going on after a store that is away, as its users do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient

T = TypeVar("T")


async def put(client: EtcdClient, key: str, value: bytes = b"", seconds: float = 60) -> int:
    """Writes a key as soon as the store takes it; returns the revision."""
    return await again(lambda: client.put(key, value), seconds)


async def again(call: Callable[[], Awaitable[T]], seconds: float = 60) -> T:
    """Repeats what may be done twice until the store is there; returns what it said."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await call()
            except Unavailable:
                await asyncio.sleep(0.05)
