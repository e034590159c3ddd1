"""Group commit: decisions in memory, one transaction for all that arrived meanwhile.

One transaction is in flight at a time. Requests that arrive during it wait; when it is through they
are decided, as many as fit into the next transaction, and answered when etcd has that. There is no
timer: a lone caller waits for nothing but its own transaction.

Every transaction demands that this replica is still the active one, and that nobody wrote since the
last transaction (`Keys.commit`); one that takes addresses into use demands besides that none was
set aside since, one that brings blocks into use that layout and nodes are those it was decided by.
If it fails, its decisions are undone; if its outcome is not
known, nothing is decided until a further transaction has settled whether it came through.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, TypeVar

import structlog

from services.common.errors import RomanaError, Unavailable, internal_error
from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import STORE_OUTCOME_UNKNOWN, RequestTooLarge
from services.common.etcd.keys import Keys
from services.common.etcd.types import Compare, Field, Operation, Relation, Revision
from services.common.sizes import TRANSACTION_OPERATIONS
from services.ipam.deciding import reservations
from services.ipam.deciding.batch import Streaks
from services.ipam.deciding.commands import (
    DropReservation,
    Item,
    NodeCommand,
    Result,
    SetReservation,
    operations_most,
    perform,
)
from services.ipam.ledger.index import Place
from services.ipam.ledger.state import Pending, State
from services.ipam.store import codec, node_releases
from services.ipam.store.fenced_transactions import Deposed, Leadership, OutcomeLost, Writer
from services.ipam.store.topology_feed import TopologyFeed

log = structlog.get_logger(__name__)

NOT_ACTIVE: Final = "NOT_ACTIVE"
"""Reason of the error for what was not decided, since another replica decides."""
OVERLOADED: Final = "OVERLOADED"
"""Reason of the error for what would have to wait too long."""
_T = TypeVar("_T")

OPERATIONS_MOST: Final = TRANSACTION_OPERATIONS - 1
"""`Keys.commit` is written besides."""
QUEUE_MOST: Final = 200_000
"""Items that may wait; at 50,000 a second those at the end wait for four seconds."""
STREAMED_MOST: Final = 50_000
"""Items that wait when streams are read no further: a second's work, so that none is slower for it,
and others need not wait for longer than that."""
STALE_MOST: Final = 20
"""How often a transaction is tried again because the topology changed under it."""
ITEMS_MOST: Final = 2000
"""How many items are decided at once, so that the event loop is not kept from all else."""
GATHER_MOST: Final = 64
"""Items that are worth a transaction of their own."""
QUIET_TURNS: Final = 8
"""Turns of the event loop in which nothing arrives; a call takes as many to get here."""
LOGGED_MOST: Final = 1000
"""Characters of a request in the log."""
BUDGET_LEAST: Final = 1
"""Operations: a transaction that is too large is divided, down to one item."""


class Observer(Protocol):
    """Is told of transactions."""

    def committed(self, items: int, operations: int, seconds: float) -> None:
        """One went through."""

    def undone(self, why: str) -> None:
        """One was undone: `stale`, `store_away`, `too_large`, `deposed` or `failed`."""

    def released(self, addresses: int) -> None:
        """So many addresses were released that were in use on a node that is gone."""

    def failed(self) -> None:
        """A decision failed by a defect of ours, and was undone."""


@dataclass(slots=True, eq=False)
class _Job:
    items: Sequence[Item]
    done: asyncio.Future[list[Result]]
    results: list[Result] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Decision:
    """What was decided for one transaction."""

    jobs: Sequence[tuple[_Job, int]]
    """Jobs at the head of the queue, and how many of their items."""
    writes: Sequence[Operation] = ()
    """Besides those of the state."""
    conditions: Sequence[Compare] = ()
    """The same."""
    then: Callable[[], None] | None = None
    """What takes effect once it is in the store."""


class Committer:
    """The only writer of blocks and reservations, while its replica is the active one."""

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        state: State,
        feed: TopologyFeed,
        leadership: Leadership,
        *,
        reach_topology: Callable[[Revision], Awaitable[None]],
        on_commit: Callable[[Sequence[Place], Revision], None],
        on_nodes: Callable[[], None],
        now: Callable[[], int],
        observer: Observer,
    ) -> None:
        """Nothing happens before `run`.

        Args:
            client: the store.
            keys: its keys.
            state: equal to the store up to `leadership.revision`.
            feed: the topology, of which changes are handed to the state between transactions.
            leadership: the right to write.
            reach_topology: returns when the feed was given everything up to a revision.
            on_commit: told of the blocks that a transaction changed, and its revision; also of
                those that the topology moved.
            on_nodes: told that nodes have gone, or that some may have come back of which releases
                are written down.
            now: the time by which addresses rest, in milliseconds.
            observer: told of transactions.
        """
        self._keys = keys
        self._state = state
        self._feed = feed
        self._leadership = leadership
        self._on_commit = on_commit
        self._on_nodes = on_nodes
        self._now = now
        self._observer = observer
        self._writer = Writer(client, keys, leadership, reach_topology)
        self._budget = OPERATIONS_MOST
        self._queue: deque[_Job] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._readers = 0
        self._entry = asyncio.Lock()
        self._answered = asyncio.Event()
        self._crowded = False
        """The last transaction answered several callers."""
        self._at_hand: list[_Job] = []
        """What the last transaction was decided for."""
        self._closing = False
        self._ended = asyncio.Event()
        self.finished = False
        """It ended as `finish` asked: memory is equal to the store."""

    @property
    def decides(self) -> bool:
        """Says whether something may be submitted."""
        return not (self._closing or self._ended.is_set())

    @property
    def revision(self) -> Revision:
        """Of the last transaction: memory is equal to the store as of then."""
        return self._writer.revision

    @property
    def waiting(self) -> int:
        """How many items wait for their transaction."""
        return self._waiting

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """Decides items, in order and each by itself, and returns when that is in the store.

        Refusals are among the results. Raises Unavailable if this replica cannot say.
        """
        if not self.decides:
            raise _not_active()
        if self._waiting + len(items) > QUEUE_MOST:
            raise Unavailable("too many requests are waiting for the store", reason=OVERLOADED)
        job = _Job(items, asyncio.get_running_loop().create_future())
        self._queue.append(job)
        self._waiting += len(items)
        self._wake.set()
        return await job.done

    async def room(self, items: int) -> None:
        """Returns when that many more may be submitted without crowding out others.

        In the order of the calls. For streams, whose callers are to be slowed down, not refused.
        Raises Unavailable if this replica decides no more.
        """
        async with self._entry:
            while self.decides and self._waiting and self._waiting + items > STREAMED_MOST:
                self._answered.clear()
                await self._answered.wait()
        if not self.decides:
            raise _not_active()

    async def finish(self) -> None:
        """Decides nothing more; returns when the transaction in flight is through."""
        self._closing = True
        self._answered.set()
        self._wake.set()
        await self._ended.wait()

    async def settled(self) -> None:
        """Returns when memory holds nothing that is not in the store.

        That holds until the caller awaits something.
        """
        self._readers += 1
        try:
            while not self._settled.is_set():
                await self._settled.wait()
        finally:
            self._readers -= 1

    def topology_changed(self) -> None:
        """Takes over what the feed was given: at once, or after the transaction in flight."""
        if self._settled.is_set():
            self._take_over()
        if self._feed.is_behind:
            self._wake.set()

    async def run(self) -> None:
        """Commits until it is cancelled or shall `finish`.

        Raises Deposed; and anything else where memory may not be what the store holds any more.
        """
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._catch_up()
                while self._queue and not self._closing:
                    await self._gather()
                    self._settled.clear()
                    try:
                        await self._round()
                    except Deposed:
                        raise
                    except Exception:
                        self._fail_at_hand()
                        raise
                    finally:
                        self._settled.set()
                    await self._catch_up()
                    if self._readers:
                        await asyncio.sleep(0)  # their turn, before memory changes again
                if self._closing:
                    self.finished = True
                    return
        finally:
            self._ended.set()
            while self._queue:
                self._fail(self._queue.popleft(), _not_active())
            self._answered.set()
            self._state.rollback()

    async def _gather(self) -> None:
        """Lets calls join that are on their way in this process, if there are several callers.

        A transaction costs as much processor time as two calls. While calls take longer to get here
        than a transaction takes, each would carry but a few of them, and cost more than they do.
        """
        if not self._crowded:
            return
        quiet = 0
        while quiet < QUIET_TURNS and self._waiting < GATHER_MOST:
            before = self._waiting
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._waiting == before else 0

    async def _round(self) -> None:
        """Decides what fits into one transaction, carries it out and answers."""
        for _ in range(STALE_MOST):
            decision = self._decide()
            pending = self._state.drain()
            writes = [
                *codec.operations(self._keys, pending, str(self.revision).encode()),
                *decision.writes,
            ]
            if not writes:
                self._answer_from_memory(decision)
                await asyncio.sleep(0)  # others' turn: no transaction gives it to them
                return
            started = time.perf_counter()
            try:
                conditions = [*self._conditions(pending), *decision.conditions]
                revision = await self._writer.write(conditions, writes)
            except RequestTooLarge:
                self._undo(decision.jobs, "too_large")
                self._divide()
            except Unavailable as error:
                self._undo(decision.jobs, "store_away")
                self._fail_first(len(decision.jobs), error)
                return
            except (OutcomeLost, asyncio.CancelledError):
                # not NOT_ACTIVE: who forwarded would ask the next one, and hide what was done
                self._undo(decision.jobs, "deposed")
                self._fail_first(len(decision.jobs), _outcome_lost())
                raise
            except BaseException:
                self._undo(decision.jobs, "deposed")
                raise
            else:
                if revision is not None:
                    self._committed(decision, len(writes), time.perf_counter() - started)
                    return
                self._undo(decision.jobs, "stale")
                await self._catch_up()
        busy = Unavailable("the topology changes too fast to decide anything", reason="BUSY")
        self._fail(self._queue.popleft(), busy)

    def _fail_first(self, jobs: int, error: Unavailable) -> None:
        for _ in range(jobs):
            self._fail(self._queue.popleft(), error)

    def _divide(self) -> None:
        """Tries less at once; the first item fails if it is too large by itself."""
        if self._budget > BUDGET_LEAST:
            self._budget = max(self._budget // 2, BUDGET_LEAST)
        else:
            log.error("commit_too_large")
            self._fail(self._queue.popleft(), RomanaError("too large for one transaction"))

    def _answer_from_memory(self, decision: _Decision) -> None:
        """No transaction proves that memory is still what the store holds: the lease has to."""
        if not self._leadership.holds():
            raise Deposed
        self._answer(decision.jobs)

    def _committed(self, decision: _Decision, operations: int, seconds: float) -> None:
        self._budget = min(self._budget + 1, OPERATIONS_MOST)
        places = self._state.settle(self.revision)
        if decision.then is not None:
            decision.then()
        self._on_commit(places, self.revision)
        self._observer.committed(sum(count for _, count in decision.jobs), operations, seconds)
        self._answer(decision.jobs)

    def _decide(self) -> _Decision:
        """Decides items from the head of the queue. Jobs stay there until they are answered."""
        state, now, stamp = self._state, self._now(), int(time.time())
        streaks = Streaks(state, stamp)
        jobs: list[tuple[_Job, int]] = []
        self._at_hand = []
        total = 0
        for job in self._queue:
            self._at_hand.append(job)
            start = position = len(job.results)
            end = start if job.done.done() else len(job.items)
            while position < end:
                most = min(end, position + ITEMS_MOST - total)
                before, position = position, streaks.run(job.items, position, most, job.results)
                total += position - before
                if position == end:
                    break
                item = job.items[position]
                if isinstance(item, SetReservation | DropReservation | NodeCommand):
                    # A reservation changes areas, to which undoing refers, and what is done for
                    # a node that is gone depends on that: alone in its transaction.
                    if total:
                        break
                    return self._decide_alone(item, job, [*jobs, (job, 1)])
                if total and (
                    total >= ITEMS_MOST or state.operations + operations_most(item) > self._budget
                ):
                    break
                result = self._guarded(item, partial(perform, state, item, now, stamp))
                streaks.note(item, result)
                job.results.append(result)
                position += 1
                total += 1
            if position == end or position > start:
                jobs.append((job, position - start))
            if position < end:
                break
        return _Decision(jobs)

    def _guarded(self, item: Item, decide: Callable[[], _T]) -> _T | RomanaError:
        """Decides an item. A defect of ours is its result and nobody else's."""
        mark = self._state.mark()
        try:
            return decide()
        except Exception:
            self._state.rollback(mark)
            log.exception("decision_failed", item=repr(item)[:LOGGED_MOST])
            self._observer.failed()
            return internal_error()

    def _decide_alone(
        self,
        item: SetReservation | DropReservation | NodeCommand,
        job: _Job,
        decided: Sequence[tuple[_Job, int]],
    ) -> _Decision:
        if isinstance(item, SetReservation | DropReservation):
            return self._decide_reservation(item, job, decided)
        now = self._now()
        most = self._budget - 1  # its record
        view = self._feed.view
        found = self._guarded(
            item, lambda: node_releases.carry_out(item, self._state, view, self._keys, now, most)
        )
        it = node_releases.Carried(found) if isinstance(found, RomanaError) else found
        job.results.append(it.result)
        return _Decision(decided, it.writes, it.conditions, it.then)

    def _decide_reservation(
        self,
        item: SetReservation | DropReservation,
        job: _Job,
        decided: Sequence[tuple[_Job, int]],
    ) -> _Decision:
        state = self._state
        name = item.reservation.name if isinstance(item, SetReservation) else item.name
        made = item if isinstance(item, SetReservation) else None
        wanted = made.reservation if made is not None else None
        try:
            allow = made is not None and made.allow_in_use
            needed = reservations.is_needed(state, name, wanted, allow_in_use=allow)
        except RomanaError as error:
            job.results.append(error)
            return _Decision(decided)
        job.results.append(None)
        if not needed:
            return _Decision(decided)

        def then() -> None:
            if wanted is None:
                state.drop_reservation(name)
            else:
                state.set_reservation(wanted)

        write = codec.reservation_operation(self._keys, name, wanted)
        return _Decision(decided, [write], then=then)

    def _conditions(self, pending: Pending) -> list[Compare]:
        """What must hold in the store for pending decisions to be right."""
        keys, view = self._keys, self._feed.view
        conditions = []
        if pending.takes:
            conditions.append(Compare(keys.aside, Field.MOD, Relation.EQUAL, view.aside))
        if pending.areas:
            conditions.append(Compare(keys.layout, Field.MOD, Relation.EQUAL, view.layout_revision))
        conditions += [
            Compare(keys.node(node), Field.MOD, Relation.EQUAL, view.node_revisions[node])
            for node in pending.nodes
        ]
        return conditions

    def _undo(self, decided: Sequence[tuple[_Job, int]], why: str) -> None:
        self._observer.undone(why)
        self._state.rollback()
        for job, count in decided:
            if count:
                del job.results[-count:]

    def _answer(self, decided: Sequence[tuple[_Job, int]]) -> None:
        """Answers the jobs at the head of the queue that are complete."""
        self._crowded = len(decided) > 1
        self._answered.set()
        for job, count in decided:
            self._waiting -= count
            if job.done.done():
                self._waiting -= len(job.items) - len(job.results)
                self._queue.popleft()
            elif len(job.results) == len(job.items):
                job.done.set_result(job.results)
                self._queue.popleft()

    def _fail(self, job: _Job, error: RomanaError) -> None:
        """Answers a job that was taken from the queue: what is not decided has failed."""
        missing = len(job.items) - len(job.results)
        self._waiting -= missing
        self._answered.set()
        if not job.done.done():
            job.results += [error] * missing
            job.done.set_result(job.results)

    def _fail_at_hand(self) -> None:
        """Answers those for whose sake something failed, so that they do not come again with it."""
        self._observer.undone("failed")
        for job in self._at_hand:
            if job in self._queue:
                self._queue.remove(job)
                job.results.clear()
                self._fail(job, internal_error())

    async def _catch_up(self) -> None:
        """Takes over all that the feed was given; others have their turn between two batches."""
        self._take_over()
        while self._feed.is_behind:
            await asyncio.sleep(0)
            self._take_over()

    def _take_over(self) -> None:
        """Takes over a batch: what one transaction of topology changed."""
        if self._feed.catch_up(self._state) or self._state.releases:
            self._on_nodes()
        moved = self._state.take_moved()
        if moved:
            self._on_commit(moved, self.revision)


def _not_active() -> Unavailable:
    return Unavailable("this replica is not the active one any more", reason=NOT_ACTIVE)


def _outcome_lost() -> Unavailable:
    return Unavailable(
        "this replica is not the active one any more, and what it wrote last may be carried out",
        reason=STORE_OUTCOME_UNKNOWN,
    )
