"""Going on after a store that is away, as its users do."""

from __future__ import annotations

import asyncio

from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient


async def put(client: EtcdClient, key: str, value: bytes = b"", seconds: float = 60) -> int:
    """Writes a key as soon as the store takes it; returns the revision."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await client.put(key, value)
            except Unavailable:
                await asyncio.sleep(0.05)
