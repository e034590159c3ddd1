"""Which agents have a stream to this replica, written down for topology.

Topology removes no node by force whose agent has a stream, and knows of streams what is in etcd.
Each is a key of its own, bound to a lease that lasts longer than agents need to come to another
replica. So nothing is said to be gone because a replica is: its keys stay for that long, and so do
those of the streams that it ends when it stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Set
from typing import Final

import structlog

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import LeaseNotFound
from services.common.etcd.keys import Keys
from services.common.etcd.lease_keeper import LeaseKeeper, clock
from services.common.etcd.types import Delete, Operation, Put
from services.common.model.names import NodeName
from services.common.store import transactions

log = structlog.get_logger(__name__)

LASTS: Final = 30
"""Seconds that a stream counts although its replica says nothing any more."""
_SIGN_OF_LIFE: Final = 1.0
"""Seconds between two that the event loop gives to the thread that renews the lease."""
_RETRY: Final = BackoffPolicy(initial=0.1, maximum=5.0)


class StreamRecords:
    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        replica: str,
        nodes: Callable[[], Set[str]],
        stops: Callable[[], bool],
    ) -> None:
        """Writes nothing before `run`.

        Args:
            client: the store.
            keys: its keys.
            replica: which this is.
            nodes: those that have a stream here.
            stops: this replica is about to stop: streams end although their agents are there.
        """
        self._client = client
        self._keys = keys
        self._replica = replica
        self._nodes = nodes
        self._changed = asyncio.Event()
        self._stops = stops

    def note(self) -> None:
        """A stream has begun or ended."""
        self._changed.set()

    async def run(self) -> None:
        """Writes what there is, for ever."""
        backoff = Backoff(_RETRY, random.random)
        while True:
            try:
                await self._under_one_lease(backoff)
            except (LeaseNotFound, Unavailable) as error:
                log.warning("stream_records_late", why=str(error))
            await asyncio.sleep(backoff.failed())

    async def _under_one_lease(self, backoff: Backoff) -> None:
        """Until the lease ends. What was written under one before is written anew, or ends."""
        granted = clock()
        lease = await self._client.grant_lease(LASTS)
        async with self._client.keep_lease_alive(lease, LASTS, granted, stalled=LASTS) as keeper:
            written: Set[str] = frozenset()
            while not keeper.over.is_set():
                written = await self._write(written, lease)
                backoff.succeeded()
                await self._next(keeper)

    async def _write(self, written: Set[str], lease: int) -> Set[str]:
        """Returns what is written now."""
        self._changed.clear()
        now = frozenset(self._nodes())
        if self._stops():
            now |= written
        keys = self._keys
        begun = (keys.stream(NodeName(node), self._replica) for node in now - written)
        ended = (keys.stream(NodeName(node), self._replica) for node in written - now)
        operations: list[Operation] = [
            *(Put(key, b"", lease) for key in begun),
            *map(Delete, ended),
        ]
        for part in transactions.parts(operations, (), ()):
            await self._client.transact((), part)
        return now

    async def _next(self, keeper: LeaseKeeper) -> None:
        """Returns when there may be something to write, or the lease has ended."""
        while not (self._changed.is_set() or keeper.over.is_set()):
            keeper.alive()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _SIGN_OF_LIFE)
