"""Changes of one prefix of the store by any of several writers, without locks or elections.

A change is decided on what is known and proved by one transaction: it compares what the decision
was made by. One that was overtaken catches up with the store and is decided anew, after a pause of
random length. Every transaction writes the prefix's beacon, by which followers know how far they
are.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from services.common.errors import Conflict, Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import RequestTooLarge
from services.common.etcd.follow import Follower
from services.common.etcd.types import Compare, Operation, Put, Revision
from services.common.store import transactions
from services.common.store.transactions import Group, Room
from services.common.tracing import spans

CATCH_UP_SECONDS: Final = 5.0
"""How long memory may lag behind the store when somebody has to know that it does not."""
ATTEMPTS: Final = 12
PAUSE_SECONDS: Final = 0.02
"""At most, before the second attempt; each pause is longer by as much."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Decision(Generic[T]):
    answer: T
    writes: Sequence[Operation] = ()
    """In one transaction."""
    later: Iterable[Group] = ()
    """As many as fit go along with `writes`; the rest is for further decisions. Looked at once, and
    not further than that."""
    demands: Sequence[Compare] = ()
    """What must hold in the store."""

    @property
    def is_empty(self) -> bool:
        return not self.writes and not self.later


@dataclass(frozen=True, slots=True)
class Committed(Generic[T]):
    answer: T
    revision: Revision = 0
    """At which; 0: nothing was to do."""
    groups: int = 0
    """How many of `later` were written."""

    @property
    def changed(self) -> bool:
        """Says whether something was written."""
        return bool(self.revision)


class OptimisticStore:
    """One prefix, and the way to change it."""

    def __init__(
        self,
        client: EtcdClient,
        follower: Follower,
        beacon: str,
        *,
        busy: str,
        on_lost_race: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing happens yet.

        Args:
            client: the store.
            follower: of the prefix; somebody else runs it.
            beacon: the key that every transaction writes, and the follower knows.
            busy: reason of the error when a change was overtaken again and again.
            on_lost_race: told whenever one was overtaken.
        """
        self._client = client
        self._follower = follower
        self._key = beacon
        self._busy = busy
        self._on_lost_race = on_lost_race
        self._lock = asyncio.Lock()

    @property
    def _beacon(self) -> Put:
        """It says whose change it is, for who hears of it, if that is traced."""
        return Put(self._key, spans.current().encode() or b"1")

    async def change(
        self,
        decide: Callable[[], Decision[T]],
        *,
        commit: Callable[[Decision[T]], Awaitable[Committed[T] | None]] | None = None,
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> Committed[T]:
        """Carries out what `decide` makes of memory, which is up to date when it is called.

        Args:
            decide: may be called several times.
            commit: carries out a decision that is not empty; None as an answer: it was overtaken.
            prepare: done before each decision, when memory is up to date.

        Raises:
            Conflict: it was overtaken again and again.
            Unavailable: as the client's.
            RomanaError: what `decide` raises; then nothing was written.
        """
        async with self._lock:
            for attempt in range(1, ATTEMPTS + 1):
                await self.catch_up()
                if prepare is not None:
                    await prepare()
                decision = decide()
                if decision.is_empty:
                    return Committed(decision.answer)
                done = await (commit or self.commit)(decision)
                if done is not None:
                    return done
                self._on_lost_race()
                pause = random.random() * PAUSE_SECONDS * attempt  # noqa: S311 - jitter
                await asyncio.sleep(pause)
        raise Conflict("other changes came first again and again; try again", self._busy)

    async def commit(self, decision: Decision[T]) -> Committed[T] | None:
        """Carries out a decision in one transaction; None: it was overtaken."""
        room = Room(decision.demands, (self._beacon, *decision.writes))
        groups = list(transactions.head(decision.later, room))
        operations = [*decision.writes, *(one for group in groups for one in group)]
        if not operations:
            raise RequestTooLarge("a part of a change is too large for a transaction")
        revision = await self.transact(decision.demands, operations)
        if not revision:
            return None
        await self.seen(revision)
        return Committed(decision.answer, revision, len(groups))

    async def write(self, operations: Iterable[Operation], demands: Sequence[Compare] = ()) -> bool:
        """Carries out operations in as many transactions as they need, not all or nothing.

        `demands` are compared in each of them; False: they do not hold.
        """
        revision = 0
        for part in self.parts(operations, demands):
            revision = await self.transact(demands, part)
            if not revision:
                return False
        if revision:
            await self.seen(revision)
        return True

    def parts(
        self, operations: Iterable[Operation], demands: Sequence[Compare] = ()
    ) -> Iterable[Sequence[Operation]]:
        """The transactions that operations need."""
        return transactions.parts(operations, demands, (self._beacon,))

    async def transact(
        self, demands: Sequence[Compare], operations: Sequence[Operation]
    ) -> Revision:
        """The revision at which operations were carried out; 0: a demand does not hold."""
        outcome = await self._client.transact(demands, (self._beacon, *operations))
        return outcome.revision if outcome.succeeded else 0

    async def seen(self, revision: Revision) -> None:
        """Waits until memory holds everything up to a revision.

        So a caller reads what it wrote, and the next decision needs no wait.
        """
        await self._follower.wait_for(revision, CATCH_UP_SECONDS)

    async def catch_up(self) -> None:
        """Waits until memory holds all transactions there were."""
        await catch_up(self._client, self._follower, self._key)

    @contextlib.asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """While no change of this replica's is under way."""
        async with self._lock:
            yield


async def catch_up(client: EtcdClient, follower: Follower, beacon: str) -> None:
    """Waits until a follower has delivered all transactions there were."""
    item = await client.get(beacon)
    await follower.wait_for(item.mod_revision if item is not None else 0, CATCH_UP_SECONDS)


async def first_read(follower: Follower) -> None:
    """Returns when everything there is has been read, however long the store is away."""
    while not follower.revision:
        with contextlib.suppress(Unavailable):
            await follower.wait_for(1, CATCH_UP_SECONDS)


def check_read(*followers: Follower) -> None:
    """Raises Unavailable while one of them has not read its prefix: what is known is nothing."""
    if not all(follower.revision for follower in followers):
        raise Unavailable(
            "this replica has not read the store yet: try again", reason="NOT_IN_SYNC"
        )
