"""What one replica knows of all changes: kept within a bound, which every service sees to itself.

A replica follows what all services record, so that whoever is asked answers for all. Records are
written with the changes themselves; here those are dropped that are too many, each service its own.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from services.common.audit.record import (
    AuditRecord,
    InForceRecord,
    decode,
    decode_in_force,
    encode,
)
from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.follow import Follower
from services.common.etcd.keys import Keys
from services.common.etcd.types import (
    Compare,
    Delete,
    Field,
    KeyValue,
    Put,
    Relation,
    Revision,
    Snapshot,
    WatchBatch,
)
from services.common.records.errors import RecordError

log = structlog.get_logger(__name__)

RECORDS_MOST: Final = 1_000
"""Of one service."""
BYTES_MOST: Final = 4 << 20
"""Of one service's records."""
IN_FORCE_MOST: Final = 2 * RECORDS_MOST
"""Notes of one service that changes were in force: ipam's are of topology's changes and its own."""
DROPPED_AT_ONCE: Final = 100
"""In one transaction."""
CATCH_UP_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 1.0
"""After which it is tried again to drop what is too much."""


@dataclass(frozen=True, slots=True)
class Change:
    """A record with its place in the history."""

    revision: Revision
    service: str
    record: AuditRecord


class AuditTrail:
    """All changes, by revision."""

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        service: str,
        on_change: Callable[[Change], None],
    ) -> None:
        """Knows nothing before `run`.

        Args:
            client: the store.
            keys: its keys.
            service: whose records are dropped here when they are too many.
            on_change: told of each change that is made from now on, by whomever.
        """
        self._client = client
        self._keys = keys
        self._service = service
        self._on_change = on_change
        self._follower = Follower(client, keys.audit, self._take)
        self._changes: dict[Revision, Change] = {}
        self._order: list[Revision] = []
        """Ascending."""
        self._revisions: dict[str, Revision] = {}
        """By key, of changes."""
        self._in_force: dict[Revision, InForceRecord] = {}
        self._own: dict[str, int] = {}
        """Bytes of this service's changes by key, the oldest first."""
        self._own_bytes = 0
        self._own_in_force: dict[str, None] = {}
        """Keys, the oldest first."""
        self._too_much = asyncio.Event()
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Follows and drops for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follower.run(), name="follow_audit")
            group.create_task(self._drop(), name="drop_audit")

    async def confirm(self) -> None:
        """Waits until all changes so far are known; raises Unavailable."""
        await self._follower.wait_for(await self._client.revision(), CATCH_UP_SECONDS)

    async def changed(self) -> None:
        """Returns when a change was heard of after it was called."""
        await self._moved.wait()

    def find(self, revision: Revision) -> Change | None:
        return self._changes.get(revision)

    def newest_first(self, before: Revision = 0, after: Revision = 0) -> Iterator[Change]:
        """Those after a revision, and before another one; 0: up to the newest."""
        end = bisect.bisect_left(self._order, before) if before else len(self._order)
        for number in range(end - 1, -1, -1):
            revision = self._order[number]
            if revision <= after:
                return
            yield self._changes[revision]

    def in_force(self, revision: Revision) -> InForceRecord | None:
        """When all nodes had applied a change; None: that was not noted."""
        return self._in_force.get(revision)

    async def note_in_force(self, revision: Revision, record: InForceRecord) -> bool:
        """Writes when a change was in force; False: somebody has done so. Raises Unavailable."""
        key = self._keys.audit_in_force(self._service, revision)
        first = Compare(key, Field.CREATE, Relation.EQUAL, 0)
        return (await self._client.transact([first], [Put(key, encode(record))])).succeeded

    def _take(self, batch: WatchBatch) -> None:
        if isinstance(batch, Snapshot):
            self._forget()
            for item in sorted(batch.items, key=lambda one: one.create_revision):
                self._put(item)
        else:
            for event in batch.events:
                if event.item is None:
                    self._remove(event.key)
                elif (change := self._put(event.item)) is not None:
                    self._on_change(change)
        if self._excess():
            self._too_much.set()
        self._moved.set()
        self._moved = asyncio.Event()

    def _forget(self) -> None:
        for known in (self._changes, self._revisions, self._in_force, self._own):
            known.clear()
        self._own_in_force.clear()
        self._order.clear()
        self._own_bytes = 0

    def _put(self, item: KeyValue) -> Change | None:
        """Takes what was written; returns the change, if it is one."""
        try:
            key = self._keys.parse_audit(item.key)
            if not key.is_change:
                self._in_force[key.revision] = decode_in_force(item.value)
                if key.service == self._service:
                    self._own_in_force[item.key] = None
                return None
            record = decode(item.value)
        except (ValueError, RecordError) as error:
            log.warning("audit_record_unreadable", key=item.key, why=str(error))
            return None
        change = Change(item.create_revision, key.service, record)
        if item.key not in self._revisions:
            bisect.insort(self._order, change.revision)
        self._revisions[item.key] = change.revision
        self._changes[change.revision] = change
        if key.service == self._service:
            self._own_bytes += len(item.value) - self._own.get(item.key, 0)
            self._own[item.key] = len(item.value)
        return change

    def _remove(self, key: str) -> None:
        self._own_bytes -= self._own.pop(key, 0)
        self._own_in_force.pop(key, None)
        revision = self._revisions.pop(key, None)
        if revision is not None:
            del self._changes[revision]
            del self._order[bisect.bisect_left(self._order, revision)]
        else:
            with contextlib.suppress(ValueError):
                self._in_force.pop(self._keys.parse_audit(key).revision, None)

    async def _drop(self) -> None:
        """Drops the oldest records of this service while there are too many."""
        while True:
            await self._too_much.wait()
            self._too_much.clear()
            while keys := self._excess():
                try:
                    outcome = await self._client.transact((), [Delete(key) for key in keys])
                    await self._follower.wait_for(outcome.revision, CATCH_UP_SECONDS)
                except Unavailable as error:
                    log.warning("audit_not_dropped", why=error.message)
                    await asyncio.sleep(AGAIN_SECONDS)

    def _excess(self) -> Sequence[str]:
        """Keys of this service that are to be dropped next."""
        count, size = len(self._own), self._own_bytes
        keys: list[str] = []
        for key, bytes_of in self._own.items():
            if (count <= RECORDS_MOST and size <= BYTES_MOST) or len(keys) == DROPPED_AT_ONCE:
                break
            keys.append(key)
            count, size = count - 1, size - bytes_of
        spare = len(self._own_in_force) - IN_FORCE_MOST
        keys += itertools.islice(self._own_in_force, max(0, spare))
        return keys[:DROPPED_AT_ONCE]
