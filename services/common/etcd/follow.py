"""Follows a prefix: a snapshot, then every change, across restarts and compactions of etcd.

A follower resumes after what it saw last, so that its consumer sees every transaction exactly once
and in order. If that is not kept any more, it lists again and the consumer replaces all it knew.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Sequence

import structlog

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import STORE_BEHIND, Compacted
from services.common.etcd.types import (
    Changes,
    Compare,
    Field,
    Get,
    KeyValue,
    Relation,
    Revision,
    Snapshot,
    WatchBatch,
)
from services.common.sizes import TRANSACTION_OPERATIONS

log = structlog.get_logger(__name__)

_RECONNECT = BackoffPolicy(initial=0.1, maximum=2.0)
_PATIENCE = 0.02
"""Seconds that `wait_for` gives the watch before it asks etcd; events take about 1 ms."""
_PAUSE = 0.1
"""Seconds between asking etcd repeatedly."""
_READ_AT_ONCE = 200
"""Items that are read before others get a turn."""
_VERSIONS_MOST = 10
"""Versions of a key that are looked at."""


class Follower:
    def __init__(
        self,
        client: EtcdClient,
        prefix: str,
        on_batch: Callable[[WatchBatch], None],
        *,
        start: Revision | None = None,
        beacon: str | None = None,
        proves_what_is_gone: bool = False,
        is_readable: Callable[[KeyValue], bool] | None = None,
    ) -> None:
        """Nothing happens before `run`.

        Args:
            client: the store.
            prefix: of the keys to follow.
            on_batch: called in order, in the loop; what it raises ends `run`.
            start: everything up to it is known already: begin with the changes after it.
            beacon: a key below `prefix` that every transaction below it writes. It makes
                `wait_for` cheap where nothing changed: one key is read instead of all.
            proves_what_is_gone: remember the keys that were delivered, and say of a further
                snapshot which of them are gone. For prefixes of some thousand keys.
            is_readable: with `proves_what_is_gone`: of items that are not, the snapshot has the
                version that was the last one to be so, if etcd still keeps it.
        """
        self._client = client
        self._prefix = prefix
        self._on_batch = on_batch
        self._beacon = beacon
        self._seen = start
        self._resume = start
        self._delivered: set[str] | None = set() if proves_what_is_gone else None
        self._is_readable = is_readable
        self._running = False
        self._backoff = Backoff(_RECONNECT, random.random)
        self._moved = asyncio.Event()

    @property
    def revision(self) -> Revision:
        """Everything up to it has been delivered; 0 before the first snapshot."""
        return self._seen or 0

    async def run(self) -> None:
        """Delivers batches until it is cancelled, then none any more."""
        self._running = True
        try:
            while True:
                try:
                    await self._follow()
                except Compacted as error:
                    log.warning("etcd_watch_compacted", prefix=self._prefix, why=str(error))
                    self._resume = None
                except Unavailable as error:
                    log.warning("etcd_watch_lost", prefix=self._prefix, why=error.message)
                await asyncio.sleep(self._backoff.failed())
        finally:
            self._running = False

    async def _follow(self) -> None:
        if self._resume is None:
            self._resume = await self._list()
        else:
            # a store that went back would wait silently for a revision that is long in the past
            await self._client.revision()
        async with self._client.watch(self._prefix, self._resume + 1) as watch:
            while True:
                changes = await watch.next()
                self._backoff.succeeded()
                # a member that lags behind may promise less than is known already
                if changes.events or changes.revision > self._resume:
                    self._resume = changes.revision
                    seen = max(changes.revision, self.revision)
                    self._deliver(Changes(changes.events, seen), seen)

    async def _list(self) -> Revision:
        """Delivers a snapshot. Apart, so that nothing holds on to it while the watch goes on."""
        listed = await self._client.range(self._prefix)
        lacking = (self._delivered or set()).difference(item.key for item in listed.items)
        gone = await self._proved_absent(sorted(lacking))
        earlier = await self._last_readable(listed.items)
        self._deliver(Snapshot(listed.items, listed.revision, gone, earlier), listed.revision)
        return listed.revision

    async def _last_readable(self, items: Sequence[KeyValue]) -> Sequence[KeyValue]:
        """The last readable versions of items that are not, and that nobody knows."""
        if self._is_readable is None:
            return ()
        found: list[KeyValue] = []
        for number, item in enumerate(items):
            if not number % _READ_AT_ONCE:
                await asyncio.sleep(0)
            if self._delivered is not None and item.key in self._delivered:
                continue
            version: KeyValue | None = item
            with contextlib.suppress(Compacted):
                for _ in range(_VERSIONS_MOST):
                    if version is None or self._is_readable(version):
                        break
                    before = version.mod_revision - 1
                    version = await self._client.get(item.key, revision=before)
                if version is not None and version is not item and self._is_readable(version):
                    found.append(version)
        return found

    async def _proved_absent(self, keys: Sequence[str]) -> Collection[str]:
        """Those of the keys that are not there: a transaction compares, and says which are."""
        absent: set[str] = set()
        for start in range(0, len(keys), TRANSACTION_OPERATIONS):
            part = keys[start : start + TRANSACTION_OPERATIONS]
            outcome = await self._client.transact(
                [Compare(key, Field.CREATE, Relation.EQUAL, 0) for key in part],
                (),
                [Get(key) for key in part],
            )
            there = {item.key for items in outcome.reads for item in items}
            absent.update(key for key in part if key not in there)
        return absent

    def _remember(self, batch: WatchBatch) -> None:
        if self._delivered is None:
            return
        if isinstance(batch, Snapshot):
            self._delivered.difference_update(batch.gone)
            self._delivered.update(item.key for item in batch.items)
            return
        for event in batch.events:
            if event.item is None:
                self._delivered.discard(event.key)
            else:
                self._delivered.add(event.key)

    def _deliver(self, batch: WatchBatch, revision: Revision) -> None:
        self._seen = revision
        self._remember(batch)
        self._on_batch(batch)
        self._moved.set()
        self._moved = asyncio.Event()

    async def wait_for(self, revision: Revision, timeout: float) -> None:
        """Returns when everything up to `revision` has been delivered.

        Where no change of the prefix says so, etcd is asked whether there was none. (Its own
        means for that, WatchProgressRequest, is not to be trusted before 3.4.26.)

        Raises:
            Unavailable: not within `timeout` seconds, or the store is away.
        """
        try:
            async with asyncio.timeout(timeout):
                try:
                    async with asyncio.timeout(_PATIENCE):
                        await self._reach(revision)
                except TimeoutError:
                    await self._confirm(revision)
        except TimeoutError:
            raise Unavailable(
                f"revision {revision} of {self._prefix} was not seen within {timeout} s",
                reason=STORE_BEHIND,
                metadata={"revision": str(revision), "seen": str(self.revision)},
            ) from None

    async def _reach(self, revision: Revision) -> None:
        while self.revision < revision:
            await self._moved.wait()

    async def _confirm(self, revision: Revision) -> None:
        """Asks up to where nothing changed, and waits for the changes there were."""
        while self._seen is None:
            await self._moved.wait()
        while True:
            last, present = await (self._by_beacon() if self._beacon else self._by_count())
            await self._reach(last)
            if self._running and self.revision < present:
                self._deliver(Changes((), present), present)
            if self.revision >= revision:
                return
            # nobody delivers, or a revision was asked for that the store has not reached
            await asyncio.sleep(_PAUSE)

    async def _by_beacon(self) -> tuple[Revision, Revision]:
        """The last change there was up to the second revision, which is the present one."""
        outcome = await self._client.transact((), (Get(self._beacon or ""),))
        return max((item.mod_revision for item in outcome.reads[0]), default=0), outcome.revision

    async def _by_count(self) -> tuple[Revision, Revision]:
        """The same without a beacon; where there was a change, (next revision, present: 0).

        Nothing changed if no key there is younger than what was seen and none has gone.
        """
        seen = self.revision
        keys, younger, present = await self._client.count_changed(self._prefix, seen)
        with contextlib.suppress(Compacted):
            if not younger and await self._client.count(self._prefix, seen) == keys:
                return seen, present
        return seen + 1, 0
