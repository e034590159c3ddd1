"""Elects one of several candidates: etcd's own recipe (client/v3/concurrency/election.go).

Each candidate writes a key of its own below the prefix, bound to a lease; the oldest key, by
create revision, is the leader's. Everybody watches the prefix, so that all know the leader and
what it advertises, and a candidate knows at once when its turn has come.

Nobody can know that it leads *now*; so a leader's transactions carry `fence`, and etcd refuses them
once its key is gone. To stop answering reads in time as well, leadership is given up locally when
the lease might have ended on the server: that long after the last successful renewal was *sent*. A
candidacy that was lost is never taken up again; the next one has a new lease and is the youngest.
Leases are renewed by a thread, see `lease_keeper`: a short one tells soon of a dead process, and a
busy event loop loses none.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import LeaseNotFound, OutcomeUnknown
from services.common.etcd.follow import Follower
from services.common.etcd.lease_keeper import STALLED, LeaseKeeper, clock
from services.common.etcd.types import (
    Compare,
    Field,
    Get,
    KeyValue,
    Put,
    Relation,
    Revision,
    Snapshot,
    WatchBatch,
)

log = structlog.get_logger(__name__)

NOT_LEADER = "NOT_LEADER"
"""Reason of the error when a fence is asked of a candidate that does not lead."""
_SIGN_OF_LIFE = 0.5
"""Seconds between two that the event loop gives to the thread that renews the lease."""
_RETRY = BackoffPolicy(initial=0.1, maximum=1.0)


@dataclass(eq=False, slots=True)
class _Candidacy:
    key: str
    create_revision: Revision
    keeper: LeaseKeeper
    over: asyncio.Event
    """Nobody need wait for its end any more."""


class Election:
    """One candidate, and what it knows of the others."""

    def __init__(
        self,
        client: EtcdClient,
        prefix: str,
        value: bytes,
        ttl: int = 2,
        *,
        stands: bool = True,
        stalled: float = STALLED,
    ) -> None:
        """Nothing happens before `run`.

        Args:
            client: the store.
            prefix: of the candidates' keys.
            value: what this candidate advertises while it leads.
            ttl: seconds after which a silent leader is replaced; etcd makes it 2 at least.
            stands: whether it is a candidate from the start; else once `stand` is called.
            stalled: seconds without a turn of the event loop after which it is no candidate.
        """
        self._client = client
        self._prefix = prefix
        self._value = value
        self._ttl = ttl
        self._follower = Follower(client, prefix, self._on_batch)
        self._candidates: dict[str, KeyValue] = {}
        self._oldest: KeyValue | None = None
        self._own: _Candidacy | None = None
        self._lease = 0
        self._moved = asyncio.Event()
        self._stalled = stalled
        self._may_stand = asyncio.Event()
        self._withdrawn = False
        if stands:
            self._may_stand.set()

    @property
    def leader(self) -> KeyValue | None:
        """The candidate that leads, as far as is known; its value is what it advertises."""
        oldest, own = self._oldest, self._own
        # our own key may outlive our leadership: we do not point others at ourselves then
        if oldest is not None and own is None and oldest.lease == self._lease != 0:
            return None
        return oldest

    @property
    def candidates(self) -> Sequence[KeyValue]:
        """All that are known, the leader among them, the oldest first."""
        return sorted(self._candidates.values(), key=_age)

    @property
    def is_leader(self) -> bool:
        """Whether this candidate leads; true no longer than its lease certainly lasts."""
        own, leader = self._own, self.leader
        return (
            own is not None
            and leader is not None
            and (leader.key, leader.create_revision) == (own.key, own.create_revision)
            and own.keeper.remaining > 0
        )

    @property
    def has_successor(self) -> bool:
        """Whether somebody would lead if this candidate did not."""
        return any(item.lease != self._lease for item in self._candidates.values())

    def fence(self) -> Compare:
        """A condition that fails once this leadership has ended.

        Raises:
            Unavailable: this candidate does not lead.
        """
        own = self._own
        if own is None or not self.is_leader:
            raise Unavailable("this replica is not the active one", reason=NOT_LEADER)
        return Compare(own.key, Field.CREATE, Relation.EQUAL, own.create_revision)

    async def changed(self) -> None:
        """Returns when `leader` or `is_leader` may have changed since it was called."""
        await self._moved.wait()

    async def until(self, *, leading: bool) -> None:
        """Returns when `is_leader` is as asked."""
        while self.is_leader is not leading:
            await self._moved.wait()

    async def run(self) -> None:
        """Campaigns, leads, and campaigns again, until it is cancelled; then call `resign`."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follower.run(), name=f"follow {self._prefix}")
                group.create_task(self._campaign(), name=f"campaign {self._prefix}")
        finally:
            self._step_down()

    def stand(self) -> None:
        """Is a candidate from now on, unless it has withdrawn."""
        if not self._withdrawn:
            self._may_stand.set()

    async def withdraw(self) -> None:
        """Resigns, and is no candidate any more; goes on telling who leads.

        Raises:
            Unavailable: as `resign`.
        """
        self._withdrawn = True
        self._may_stand.clear()
        await self.resign()

    async def resign(self) -> None:
        """Lets the next candidate lead at once. If `run` goes on, this one queues up anew.

        Raises:
            Unavailable: it leads no more, but the others have to wait for its lease to end.
        """
        self._step_down()
        lease = self._lease
        if lease:
            await self._client.revoke_lease(lease)
            if self._lease == lease:
                self._lease = 0

    def _step_down(self) -> None:
        if self._own is not None:
            log.info("election_candidacy_over", prefix=self._prefix, key=self._own.key)
            self._own.over.set()
            self._own = None
            self._notify()

    async def _campaign(self) -> None:
        backoff = Backoff(_RETRY, random.random)
        while True:
            await self._may_stand.wait()
            try:
                await self._stand(backoff)
            except (LeaseNotFound, Unavailable) as error:
                log.warning("election_candidacy_lost", prefix=self._prefix, why=str(error))
            finally:
                self._step_down()
            with contextlib.suppress(Unavailable):
                await self.resign()
            await asyncio.sleep(backoff.failed())

    async def _stand(self, backoff: Backoff) -> None:
        granted = clock()
        self._lease = await self._client.grant_lease(self._ttl)
        key = f"{self._prefix}{self._lease:016x}"
        async with self._client.keep_lease_alive(
            self._lease, self._ttl, granted, stalled=self._stalled
        ) as keeper:
            own = _Candidacy(key, await self._enter(key, keeper), keeper, keeper.over)
            if self._withdrawn:
                return
            self._own = own
            backoff.succeeded()
            log.info("election_candidate", prefix=self._prefix, key=key)
            self._notify()
            while not own.over.is_set():
                keeper.alive()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(own.over.wait(), _SIGN_OF_LIFE)

    async def _enter(self, key: str, keeper: LeaseKeeper) -> Revision:
        """Writes the key; returns its create revision."""
        missing = Compare(key, Field.CREATE, Relation.EQUAL, 0)
        while True:
            try:
                outcome = await self._client.transact(
                    (missing,), (Put(key, self._value, self._lease),), (Get(key),)
                )
            except OutcomeUnknown:
                # if it was carried out, the next attempt finds it
                if keeper.over.is_set():
                    raise
                continue
            return outcome.revision if outcome.succeeded else outcome.reads[0][0].create_revision

    def _on_batch(self, batch: WatchBatch) -> None:
        if isinstance(batch, Snapshot):
            self._candidates = {item.key: item for item in batch.items}
        else:
            for event in batch.events:
                if event.item is None:
                    self._candidates.pop(event.key, None)
                else:
                    self._candidates[event.key] = event.item
        self._oldest = min(self._candidates.values(), key=_age, default=None)
        own = self._own
        if own is not None and batch.revision >= own.create_revision:
            seen = self._candidates.get(own.key)
            if seen is None or seen.create_revision != own.create_revision:
                own.over.set()
        self._notify()

    def _notify(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


def _age(candidate: KeyValue) -> int:
    return candidate.create_revision
