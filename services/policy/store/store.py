"""Policy in etcd: every replica may write; a transaction proves by what it compares that it may.

A change of policies or tenants is decided on what is known and compares the key `edition`, which
every such transaction writes; one that was overtaken is decided anew. What orchestrators and agents
say of endpoints depends on nothing and is just written.

A transaction has at most 128 operations. A larger change is all or nothing, too:

    1  `staging` is written, what others had staged is removed
    2  the parts are written below `staged/`, as many per transaction as fit
    3  `applying` is written, if `edition` is as it was and the parts are all there: from this
       transaction on every replica takes the parts for what they shall be, all at once
    4  they are written to their places, and `staged/` and `applying` removed with the last ones

Nobody else changes policies or tenants between 3 and 4; whoever wants to, or notices that nobody
goes on after a crash, does step 4 itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import structlog

from services.common.audit.record import Changed
from services.common.audit.writer import AuditWriter
from services.common.errors import RomanaError
from services.common.etcd.client import EtcdClient
from services.common.etcd.follow import Follower
from services.common.etcd.keys import Keys
from services.common.etcd.types import (
    Compare,
    Delete,
    Field,
    Get,
    Operation,
    Put,
    Relation,
    Revision,
    WatchBatch,
)
from services.common.rpc.calling import who
from services.common.store import optimistic
from services.common.store.optimistic import CATCH_UP_SECONDS, OptimisticStore, check_read
from services.common.store.topology_view import follow_topology
from services.common.store.unreadable import Unreadable
from services.policy.engine.engine import Engine
from services.policy.store.feed import PolicyFeed
from services.policy.store.ipam_feed import IpamFeed
from services.policy.store.topology_feed import TopologyFeed

log = structlog.get_logger(__name__)

ABANDONED_SECONDS: Final = 3.0
"""A set that is prepared or put into place for so long without an end was left alone."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    """What to write, and what to answer once it is done."""

    answer: T
    documents: Mapping[str, bytes] = field(default_factory=dict)
    """By key; an empty one is to be removed."""
    changed: Sequence[Changed] = ()
    """What is recorded of it."""


class PolicyStore:
    """One replica's view of the store, and its way to change it."""

    def __init__(self, client: EtcdClient, keys: Keys, engine: Engine, audit: AuditWriter) -> None:
        """Knows nothing before `run`."""
        self.keys = keys
        self._audit = audit
        self.engine = engine
        self.ipam = IpamFeed(keys)
        self.feed = PolicyFeed(keys, engine, self.ipam.holder)
        self.ipam.on_names = self.feed.allocations_changed
        self.ipam.on_block = engine.set_block
        self.topology = TopologyFeed(keys, engine, self.feed.nodes_changed)
        self._client = client
        self.on_change: Callable[[], None] = _nothing
        """Called when the engine may have changed."""
        self._moved = asyncio.Event()
        self._policy = Follower(client, keys.policy, self._on_policy, beacon=keys.policy_generation)
        self._store = OptimisticStore(
            client, self._policy, keys.policy_generation, busy="POLICY_BUSY"
        )
        self._topology = follow_topology(client, keys, self._on_topology)
        self._ipam = Follower(client, keys.ipam, self._on_ipam, beacon=keys.commit)

    async def run(self) -> None:
        """Follows the store for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._policy.run(), name="follow_policy")
            group.create_task(self._topology.run(), name="follow_topology")
            group.create_task(self._ipam.run(), name="follow_ipam")
            group.create_task(self._finish_abandoned(), name="finish_abandoned")

    @property
    def in_sync(self) -> bool:
        """Everything there is has been read."""
        return bool(self._policy.revision and self._ipam.revision) and self.topology.view.in_sync

    @property
    def revision(self) -> Revision:
        """Every policy transaction up to it is known."""
        return self._policy.revision

    @property
    def unreadable(self) -> Mapping[str, Unreadable]:
        """Records that cannot be read, by key."""
        return {
            **self.feed.unreadable,
            **self.topology.view.unreadable,
            **self.ipam.unreadable,
        }

    def check_in_sync(self) -> None:
        """Raises Unavailable before that: what is known now is nothing."""
        check_read(self._policy, self._topology, self._ipam)

    async def changed(self) -> None:
        """Returns when something was read after it was called."""
        await self._moved.wait()

    async def confirm(self) -> Revision:
        """Waits until everything is known that is in the store now; returns its revision.

        Raises Unavailable.
        """
        revision = await self._client.revision()
        await self._policy.wait_for(revision, CATCH_UP_SECONDS)
        await self._topology.wait_for(revision, CATCH_UP_SECONDS)
        await self._ipam.wait_for(revision, CATCH_UP_SECONDS)
        return revision

    async def change(self, decide: Callable[[], Decision[T]]) -> T:
        """Changes policies and tenants by what `decide` makes of what is known, all or nothing.

        Raises:
            Conflict: it was overtaken again and again.
            Unavailable: as the client's.
            RomanaError: what `decide` raises; then nothing was written.
        """
        self.check_in_sync()

        records: list[Operation] = []

        def spelt() -> optimistic.Decision[T]:
            decision = decide()
            made = _operations(decision.documents)
            asked = who(self._audit.service)
            changed = decision.changed if made else ()
            records[:] = self._audit.operations(changed, asked, self.feed.edition)
            return optimistic.Decision(decision.answer, made)

        async def commit(decision: optimistic.Decision[T]) -> optimistic.Committed[T] | None:
            return await self._commit(decision, records)

        done = await self._store.change(spelt, commit=commit, prepare=self._finish)
        return done.answer

    async def write(self, documents: Mapping[str, bytes], *demands: Compare) -> bool:
        """Writes documents, or removes those that are empty, in as many transactions as they need.

        `demands` are compared in each of them; False: they do not hold. Raises Unavailable.
        """
        return await self._store.write(_operations(documents), demands)

    async def catch_up(self) -> None:
        """Waits until all policy transactions so far are known; raises Unavailable."""
        self.check_in_sync()
        await self._store.catch_up()

    async def catch_up_with_ipam(self) -> None:
        """The same of policy's and ipam's: what ipam gave before is known."""
        self.check_in_sync()
        keys = self.keys
        outcome = await self._client.transact((), (Get(keys.policy_generation), Get(keys.commit)))
        for follower, items in zip((self._policy, self._ipam), outcome.reads, strict=True):
            last = max((item.mod_revision for item in items), default=0)
            await follower.wait_for(last, CATCH_UP_SECONDS)

    async def _commit(
        self, decision: optimistic.Decision[T], records: Sequence[Operation]
    ) -> optimistic.Committed[T] | None:
        """In one transaction, or staged if it takes several; None: it was overtaken.

        The records of the change are in the transaction from which on it counts.
        """
        keys = self.keys
        demands = [
            Compare(keys.policy_edition, Field.MOD, Relation.EQUAL, self.feed.edition),
            _absent(keys.applying),
        ]
        writes = [Put(keys.policy_edition, b"1"), *records, *decision.writes]
        if len([*self._store.parts(writes, demands)]) == 1:
            whole = optimistic.Decision(decision.answer, writes, demands=demands)
            return await self._store.commit(whole)
        revision = await self._stage(decision.writes, demands, records)
        if not revision:
            return None
        await self._store.seen(revision)
        await self._finish()
        return optimistic.Committed(decision.answer, revision)

    async def _stage(
        self,
        writes: Sequence[Operation],
        demands: Sequence[Compare],
        records: Sequence[Operation],
    ) -> Revision:
        """Writes the parts of a set, and then that it counts; 0: it was overtaken."""
        keys, store = self.keys, self._store
        await self._wait_for_others()
        name = uuid.uuid4().hex[:12]
        staged = await store.transact(
            [_absent(keys.applying)],
            [Delete(keys.staged, prefix=True), Put(keys.staging, name.encode())],
        )
        ours = Compare(keys.staging, Field.MOD, Relation.EQUAL, staged)
        puts = [
            Put(
                f"{keys.staged}{name}/{write.key.removeprefix(keys.policy)}",
                write.value if isinstance(write, Put) else b"",
            )
            for write in writes
        ]
        if not staged or not await store.write(puts, [ours]):
            return 0
        revision = await store.transact(
            [*demands, ours],
            [Put(keys.policy_edition, b"1"), Put(keys.applying, name.encode()), *records],
        )
        if revision:
            log.info("policy_set_applying", set=name, parts=len(puts))
        return revision

    async def _finish(self) -> None:
        """Puts the parts of a set that counts into their places."""
        keys, applying = self.keys, self.feed.applying
        if applying is None:
            return
        still = Compare(keys.applying, Field.MOD, Relation.EQUAL, applying.revision)
        documents = {
            f"{keys.policy}{part}": document
            for part, document in self.feed.staged(applying.value).items()
        }
        done: list[Operation] = [
            Delete(keys.applying),
            Delete(keys.staging),
            Delete(keys.staged, prefix=True),
            Put(keys.policy_edition, b"1"),
        ]
        store = self._store
        if await store.write(_operations(documents), [still]) and (
            revision := await store.transact([still], done)
        ):
            await store.seen(revision)
            log.info("policy_set_applied", set=applying.value, parts=len(documents))
        else:
            await store.catch_up()  # another replica was faster

    async def _finish_abandoned(self) -> None:
        while True:
            applying = self.feed.applying
            if applying is None:
                await self.changed()
                continue
            await asyncio.sleep(ABANDONED_SECONDS * random.uniform(1, 2))  # noqa: S311 - jitter
            if self.feed.applying == applying:
                with contextlib.suppress(RomanaError):  # the store is away: it will be back
                    async with self._store.exclusive():
                        await self._finish()

    async def _wait_for_others(self) -> None:
        """Gives another replica the time to finish with the set that it prepares."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ABANDONED_SECONDS):
                while self.feed.staging:
                    await self.changed()

    def _on_policy(self, batch: WatchBatch) -> None:
        self.feed.apply_batch(batch)
        self._notify()

    def _on_topology(self, batch: WatchBatch) -> None:
        self.topology.apply_batch(batch)
        self._notify()

    def _on_ipam(self, batch: WatchBatch) -> None:
        self.ipam.apply_batch(batch)
        self._notify()

    def _notify(self) -> None:
        self.on_change()
        self._moved.set()
        self._moved = asyncio.Event()


def _nothing() -> None:
    """Nobody wants to know."""


def _absent(key: str) -> Compare:
    return Compare(key, Field.CREATE, Relation.EQUAL, 0)


def _operations(documents: Mapping[str, bytes]) -> list[Put | Delete]:
    return [Put(key, document) if document else Delete(key) for key, document in documents.items()]
