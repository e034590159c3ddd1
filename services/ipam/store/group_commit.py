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
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from services.common.audit.record import Who
from services.common.audit.writer import AuditWriter
from services.common.errors import RomanaError, Unavailable, internal_error
from services.common.etcd.client import EtcdClient
from services.common.etcd.errors import STORE_OUTCOME_UNKNOWN, RequestTooLarge
from services.common.etcd.keys import Keys
from services.common.etcd.types import Compare, Field, Operation, Relation, Revision
from services.common.model.names import NodeName
from services.common.sizes import TRANSACTION_OPERATIONS
from services.common.tracing import spans
from services.ipam.deciding.batch import Batch
from services.ipam.deciding.commands import Command, Result, Terms
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.index import Place
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.unsaved import Pending
from services.ipam.store import codec, recorded
from services.ipam.store.fenced_transactions import Deposed, Leadership, OutcomeLost, Writer
from services.ipam.store.topology_feed import TopologyFeed

log = structlog.get_logger(__name__)

NOT_ACTIVE: Final = "NOT_ACTIVE"
"""Reason of the error for what was not decided, since another replica decides."""
OVERLOADED: Final = "OVERLOADED"
"""Reason of the error for what would have to wait too long."""

OPERATIONS_MOST: Final = TRANSACTION_OPERATIONS - 1
"""`Keys.commit` is written besides."""
QUEUE_MOST: Final = 200_000
"""Commands that may wait; at 50,000 a second those at the end wait for four seconds."""
STREAMED_MOST: Final = 50_000
"""Commands that wait when streams are read no further: a second's work, so that none is slower for
it, and others need not wait for longer than that."""
STALE_MOST: Final = 20
"""How often a transaction is tried again because the topology changed under it."""
GATHER_MOST: Final = 64
"""Commands that are worth a transaction of their own."""
QUIET_TURNS: Final = 8
"""Turns of the event loop in which nothing arrives; a call takes as many to get here."""
LOGGED_MOST: Final = 1000
"""Characters of a request in the log."""
BUDGET_LEAST: Final = 1
"""Operations: a transaction that is too large is divided, down to one command."""


class CommitObserver(Protocol):
    def committed(self, commands: int, operations: int, seconds: float) -> None:
        pass

    def undone(self, why: str) -> None:
        """One was undone: `stale`, `store_away`, `too_large`, `deposed` or `failed`."""

    def released(self, addresses: int) -> None:
        """So many addresses were released that were in use on a node that is gone."""

    def failed(self) -> None:
        """A decision failed by a defect of ours, and was undone."""


@dataclass(slots=True, eq=False)
class _Job:
    commands: Sequence[Command]
    done: asyncio.Future[list[Result]]
    results: list[Result] = field(default_factory=list)
    span: str = field(default_factory=spans.current)
    """For whose sake."""
    who: Who | None = None
    """Asked for it, and is recorded if it is a change of that kind."""


class Committer:
    """The only writer of blocks and reservations, while its replica is the active one."""

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        ledger: Ledger,
        feed: TopologyFeed,
        leadership: Leadership,
        *,
        reach_topology: Callable[[Revision], Awaitable[None]],
        on_commit: Callable[[Sequence[Place], Revision], None],
        on_nodes: Callable[[Collection[NodeName]], None],
        now: Callable[[], int],
        observer: CommitObserver,
        audit: AuditWriter,
    ) -> None:
        """Nothing happens before `run`.

        Args:
            client: the store.
            keys: its keys.
            ledger: equal to the store up to `leadership.revision`.
            feed: the topology, of which changes are handed to the ledger between transactions.
            leadership: the right to write.
            reach_topology: returns when the feed was given everything up to a revision.
            on_commit: told of the blocks that a transaction changed, and its revision; also of
                those that the topology moved.
            on_nodes: told of nodes that have gone, and that some may have come back of which
                releases are written down.
            now: the time by which addresses rest, in milliseconds.
            observer: told of transactions.
            audit: makes records of what operators change.
        """
        self._audit = audit
        self._keys = keys
        self._ledger = ledger
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
        self._idle = asyncio.Event()
        self._idle.set()
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
        return not (self._closing or self._ended.is_set())

    @property
    def revision(self) -> Revision:
        """Of the last transaction: memory is equal to the store as of then."""
        return self._writer.revision

    @property
    def waiting(self) -> int:
        """How many commands wait for their transaction."""
        return self._waiting

    async def submit(self, commands: Sequence[Command], who: Who | None = None) -> list[Result]:
        """Executes commands, in order and each by itself, and returns when that is in the store.

        Refusals are among the results. `who` is for the record of one that is a change of an
        operator's. Raises Unavailable if this replica cannot say.
        """
        if not self.decides:
            raise _not_active()
        if self._waiting + len(commands) > QUEUE_MOST:
            raise Unavailable("too many requests are waiting for the store", reason=OVERLOADED)
        job = _Job(commands, asyncio.get_running_loop().create_future(), who=who)
        self._queue.append(job)
        self._waiting += len(commands)
        self._wake.set()
        return await job.done

    async def room(self, commands: int) -> None:
        """Returns when that many more may be submitted without crowding out others.

        In the order of the calls. For streams, whose callers are to be slowed down, not refused.
        Raises Unavailable if this replica decides no more.
        """
        async with self._entry:
            while self.decides and self._waiting and self._waiting + commands > STREAMED_MOST:
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

    async def idle(self) -> None:
        """Returns when memory holds nothing that is not in the store.

        That holds until the caller awaits something.
        """
        self._readers += 1
        try:
            while not self._idle.is_set():
                await self._idle.wait()
        finally:
            self._readers -= 1

    def topology_changed(self) -> None:
        """Takes over what the feed was given: at once, or after the transaction in flight."""
        if self._idle.is_set():
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
                    self._idle.clear()
                    try:
                        await self._round()
                    except Deposed:
                        raise
                    except Exception:
                        self._fail_at_hand()
                        raise
                    finally:
                        self._idle.set()
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
            self._ledger.rollback()

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
            first = self._first_awaited()
            was = recorded.before(self._ledger, first.commands) if first is not None else None
            executed = self._execute()
            pending = self._ledger.pending()
            writes = codec.operations(self._keys, pending, str(self.revision).encode())
            if writes and first is not None:
                writes += self._records(first, was)
            if not writes:
                self._answer_from_memory(executed)
                await asyncio.sleep(0)  # others' turn: no transaction gives it to them
                return
            started = time.perf_counter()
            try:
                with spans.shared("commit", (job.span for job, _ in executed)):
                    revision = await self._writer.write(self._conditions(pending), writes)
            except RequestTooLarge:
                self._undo(executed, "too_large")
                self._divide()
            except Unavailable as error:
                self._undo(executed, "store_away")
                self._fail_first(len(executed), error)
                return
            except (OutcomeLost, asyncio.CancelledError):
                # not NOT_ACTIVE: who forwarded would ask the next one, and hide what was done
                self._undo(executed, "deposed")
                self._fail_first(len(executed), _outcome_lost())
                raise
            except BaseException:
                self._undo(executed, "deposed")
                raise
            else:
                if revision is not None:
                    self._committed(executed, len(writes), time.perf_counter() - started)
                    return
                self._undo(executed, "stale")
                await self._catch_up()
        busy = Unavailable("the topology changes too fast to decide anything", reason="BUSY")
        self._fail(self._queue.popleft(), busy)

    def _first_awaited(self) -> _Job | None:
        """The first job whose caller has not given up: what has a transaction of its own is its."""
        return next((job for job in self._queue if not job.done.done()), None)

    def _records(self, job: _Job, was: Reservation | None) -> Sequence[Operation]:
        """Of the one command of a transaction that is recorded."""
        if job.who is None:
            return ()
        changed = recorded.changed(job.commands, job.results, was)
        return self._audit.operations(changed, job.who, self.revision)

    def _fail_first(self, jobs: int, error: Unavailable) -> None:
        for _ in range(jobs):
            self._fail(self._queue.popleft(), error)

    def _divide(self) -> None:
        """Tries less at once; the first command fails if it is too large by itself."""
        if self._budget > BUDGET_LEAST:
            self._budget = max(self._budget // 2, BUDGET_LEAST)
        else:
            log.error("commit_too_large")
            self._fail(self._queue.popleft(), RomanaError("too large for one transaction"))

    def _answer_from_memory(self, executed: Sequence[tuple[_Job, int]]) -> None:
        """No transaction proves that memory is still what the store holds: the lease has to."""
        if not self._leadership.holds():
            raise Deposed
        self._answer(executed)

    def _committed(
        self, executed: Sequence[tuple[_Job, int]], operations: int, seconds: float
    ) -> None:
        self._budget = min(self._budget + 1, OPERATIONS_MOST)
        places = self._ledger.saved(self.revision)
        self._on_commit(places, self.revision)
        self._observer.committed(sum(count for _, count in executed), operations, seconds)
        self._answer(executed)

    def _execute(self) -> list[tuple[_Job, int]]:
        """Executes commands from the head of the queue: jobs, and how many of their commands.

        Jobs stay in the queue until they are answered.
        """
        terms = Terms(self._now(), int(time.time()), self._budget)
        batch = Batch(self._ledger, terms, self._on_defect)
        executed = []
        self._at_hand = []
        for job in self._queue:
            self._at_hand.append(job)
            before = len(job.results)
            is_through = job.done.done() or batch.execute(job.commands, job.results)
            if is_through or len(job.results) > before:
                executed.append((job, len(job.results) - before))
            if not is_through:
                break
        return executed

    def _on_defect(self, command: Command, error: Exception) -> RomanaError:
        log.error("decision_failed", command=repr(command)[:LOGGED_MOST], exc_info=error)
        self._observer.failed()
        return internal_error()

    def _conditions(self, pending: Pending) -> list[Compare]:
        """What must hold in the store for pending decisions to be right."""
        keys, view = self._keys, self._feed.view
        conditions = [
            Compare(keys.node(node), Field.CREATE, Relation.EQUAL, 0) for node in pending.absent
        ]
        if pending.takes:
            conditions.append(Compare(keys.aside, Field.MOD, Relation.EQUAL, view.aside))
        if pending.areas:
            conditions.append(Compare(keys.layout, Field.MOD, Relation.EQUAL, view.layout_revision))
        conditions += [
            Compare(keys.node(node), Field.MOD, Relation.EQUAL, view.node_revisions[node])
            for node in pending.nodes
        ]
        return conditions

    def _undo(self, executed: Sequence[tuple[_Job, int]], why: str) -> None:
        self._observer.undone(why)
        self._ledger.rollback()
        for job, count in executed:
            if count:
                del job.results[-count:]

    def _answer(self, executed: Sequence[tuple[_Job, int]]) -> None:
        """Answers the jobs at the head of the queue that are complete."""
        self._crowded = len(executed) > 1
        self._answered.set()
        for job, count in executed:
            self._waiting -= count
            if job.done.done():
                self._waiting -= len(job.commands) - len(job.results)
                self._queue.popleft()
            elif len(job.results) == len(job.commands):
                job.done.set_result(job.results)
                self._queue.popleft()

    def _fail(self, job: _Job, error: RomanaError) -> None:
        """Answers a job that was taken from the queue: what is not decided has failed."""
        missing = len(job.commands) - len(job.results)
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
        gone = self._feed.catch_up(self._ledger)
        if gone or self._ledger.releases:
            self._on_nodes(gone)
        moved = self._ledger.drain_moved()
        if moved:
            self._on_commit(moved, self.revision)


def _not_active() -> Unavailable:
    return Unavailable("this replica is not the active one any more", reason=NOT_ACTIVE)


def _outcome_lost() -> Unavailable:
    return Unavailable(
        "this replica is not the active one any more, and what it wrote last may be carried out",
        reason=STORE_OUTCOME_UNKNOWN,
    )
