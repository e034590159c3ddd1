"""One replica of ipam: follows the store, and writes to it while it is the elected one.

    standby    memory is fed by a watch of what the active replica writes
    take-over  it writes `Keys.commit`, and waits until its own watches have seen that: memory now
               holds all that anybody wrote before, and nobody else can write any more
    active     the watch is off; memory changes by decisions, which the committer makes durable
    resigned   what is in flight ends, another one takes over; memory goes on by the watch
    deposed    memory is thrown away and read again

The topology is followed at all times.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from services.common.audit.record import Who
from services.common.audit.writer import AuditWriter
from services.common.errors import Unavailable
from services.common.etcd.client import EtcdClient
from services.common.etcd.election import Election
from services.common.etcd.follow import Follower
from services.common.etcd.keys import Keys
from services.common.etcd.types import KeyValue, Put, Range, Revision, Snapshot, WatchBatch
from services.common.model.names import NodeName
from services.common.own_task import in_own_task
from services.common.process.gc_tuning import freeze_heap, unfreeze_heap
from services.common.store.topology_view import follow_topology
from services.common.store.unreadable import Unreadable, UnreadableRecords
from services.ipam.deciding.commands import CloseRested, Command, Result
from services.ipam.deciding.rested import has_rested
from services.ipam.ledger.index import Place
from services.ipam.ledger.ledger import Ledger
from services.ipam.routes.view import RoutesView
from services.ipam.store import codec
from services.ipam.store.clock import RestClock
from services.ipam.store.fenced_transactions import Deposed, Leadership
from services.ipam.store.group_commit import NOT_ACTIVE, CommitObserver, Committer
from services.ipam.store.node_releases import NodeReleases
from services.ipam.store.topology_feed import TopologyFeed

log = structlog.get_logger(__name__)

CATCH_UP_SECONDS: Final = 60.0
"""How long a take-over may wait for the watch."""
CONFIRM_SECONDS: Final = 5.0
"""How long memory may lag behind the store when somebody has to know that it does not."""
DISTRUST_SECONDS: Final = 1.0
"""How long to wait before memory is read again that cannot be trusted any more."""
CLOSE_RESTED_SECONDS: Final = 1.0
"""How often blocks are looked for in which the last rest has ended."""

RELEASE_GRACE_SECONDS: Final = 300.0
RELEASE_FENCE_SECONDS: Final = 300.0

Listener = Callable[[Sequence[Place] | None], None]
"""Is told of blocks that changed; None: all may have."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a replica is, to the others and to callers."""

    replica: str
    """Unique."""
    address: str
    """Where other replicas reach it."""
    epoch: str
    """Of the store's history."""


class Replica:
    """Memory, and the way to change it."""

    def __init__(
        self,
        client: EtcdClient,
        keys: Keys,
        identity: Identity,
        *,
        ttl: int,
        observer: CommitObserver,
        audit: AuditWriter,
        release_grace: float = RELEASE_GRACE_SECONDS,
        release_fence: float = RELEASE_FENCE_SECONDS,
    ) -> None:
        """Nothing happens before `run`.

        Args:
            client: the store.
            keys: its keys.
            identity: who this is.
            ttl: seconds after which an active replica that is silent is replaced.
            observer: told of transactions.
            audit: makes records of what operators change.
            release_grace: seconds that a node may be gone, without anybody having asked for it,
                until what is in use on it is released.
        """
        self.identity = identity
        self.ledger = Ledger()
        self.routes = RoutesView()
        self._client = client
        self.keys = keys
        self._observer = observer
        self._audit = audit
        self._release_grace = release_grace
        self._release_fence = release_fence
        self._releases: NodeReleases | None = None
        self._feed = TopologyFeed(keys)
        self._feed.on_change = lambda: self._tell(())
        self._topology = follow_topology(client, keys, self._on_topology)
        # whoever is elected before it has read the store lets all wait
        self._election = Election(client, keys.leader, identity.address.encode(), ttl, stands=False)
        self._follower: Follower | None = None
        self._committer: Committer | None = None
        self._clock = RestClock()
        self._unreadable = UnreadableRecords()
        self._loaded = False
        self._listeners: set[Listener] = set()
        self._changed = asyncio.Event()

    @property
    def in_sync(self) -> bool:
        """Memory is as the store was a moment ago, and an active replica is known."""
        return self._loaded and self._feed.in_sync and self.active_address is not None

    @property
    def loaded(self) -> bool:
        return self._loaded and self._feed.in_sync

    @property
    def candidates(self) -> frozenset[str]:
        return frozenset(item.value.decode() for item in self._election.candidates)

    @property
    def active(self) -> bool:
        """This is the active replica, ready to decide."""
        committer = self._committer
        return committer is not None and committer.decides and self._election.is_leader

    @property
    def elected(self) -> bool:
        """This is the active replica, or will be when it has taken over."""
        return self._election.is_leader

    @property
    def active_address(self) -> str | None:
        leader = self._election.leader
        return leader.value.decode() if leader is not None else None

    @property
    def revision(self) -> Revision:
        """Up to which memory is equal to the store."""
        if self._committer is not None:
            return self._committer.revision
        return self._follower.revision if self._follower is not None else 0

    @property
    def floor(self) -> Revision:
        """Everything that anybody wrote up to it is in memory, or was when it changed last."""
        return min(self.revision, self._topology.revision)

    @property
    def unreadable(self) -> Mapping[str, Unreadable]:
        return {**self._unreadable, **self._feed.view.unreadable}

    @property
    def waiting(self) -> int:
        return self._committer.waiting if self._committer is not None else 0

    def now(self) -> int:
        """The time by which addresses rest, in milliseconds."""
        return self._clock.now(self.ledger.latest_rest)

    async def submit(self, commands: Sequence[Command], who: Who | None = None) -> list[Result]:
        """Executes commands and makes that durable; raises Unavailable if this is not active."""
        return await self._deciding().submit(commands, who)

    async def room(self, commands: int) -> None:
        """Waits until that many more may be submitted; raises Unavailable if this is not active."""
        await self._deciding().room(commands)

    def _deciding(self) -> Committer:
        if self._committer is None or not self._election.is_leader:
            raise Unavailable("this replica is not the active one", reason=NOT_ACTIVE)
        return self._committer

    async def committed(self) -> Ledger:
        """Memory, when it holds nothing that is not in the store. Read it before the next await."""
        if self._committer is not None:
            await self._committer.idle()
        if not (self._loaded and self._feed.in_sync):
            raise Unavailable("this replica has not read the store yet", reason="NOT_IN_SYNC")
        return self.ledger

    async def confirm(self) -> Revision:
        """Waits until memory holds everything that is in the store now; returns its revision.

        Raises Unavailable.
        """
        revision = await self._client.revision()
        await self._topology.wait_for(revision, CONFIRM_SECONDS)
        follower, committer = self._follower, self._committer
        if committer is not None:
            # what it has in flight may be in the store already
            await committer.idle()
            if not self._election.is_leader:
                raise Unavailable("this replica is not the active one any more", NOT_ACTIVE)
        elif follower is not None:
            await follower.wait_for(revision, CONFIRM_SECONDS)
        if not self.loaded:
            raise Unavailable("this replica has not read the store yet", "NOT_IN_SYNC")
        return revision

    def drain_changed_nodes(self) -> Collection[NodeName]:
        """Nodes that may have changed since this was called."""
        return self._feed.drain_touched()

    async def read_pages(self) -> Range:
        """All block pages as stored, when memory has caught up with them."""
        pages = await self._client.range(self.keys.blocks)
        if self._committer is None and self._follower is not None:
            await self._follower.wait_for(pages.revision, CATCH_UP_SECONDS)
        return pages

    async def read(self, key: str) -> KeyValue | None:
        """One key as stored, when memory has caught up with it."""
        item = await self._client.get(key)
        if item is not None and self._committer is None and self._follower is not None:
            await self._follower.wait_for(item.mod_revision, CATCH_UP_SECONDS)
        return item

    @property
    def next_change(self) -> asyncio.Event:
        """Is set when `in_sync`, `active` or `elected` may have changed since it was asked for."""
        return self._changed

    async def changed(self) -> None:
        """Returns when `in_sync`, `active` or `elected` may have changed since it was called."""
        await self._changed.wait()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Tells a listener of changes; returns what ends that."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def run(self) -> None:
        """Follows, stands for election and decides, until it is cancelled; then call `resign`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._topology.run(), name="follow topology")
            group.create_task(self._election.run(), name="election")
            group.create_task(self._watch_election(), name="watch election")
            group.create_task(self._live(), name="live")

    async def hand_over(self) -> None:
        """Lets another replica decide from now on, if there is one, and goes on as a standby.

        What is in flight ends first; what waits is not decided, and may be asked of the other.
        """
        if self._committer is not None:
            if not self._election.has_successor:
                return
            await self._committer.finish()
        try:
            await self._election.withdraw()
        except Unavailable as error:
            log.warning("hand_over_unfinished", why=error.message)

    async def resign(self) -> None:
        """Lets another replica take over at once."""
        await self._election.resign()

    async def _live(self) -> None:
        known: Revision | None = None
        while True:
            if known is None:
                self._reset()
            known = await self._live_once(known)

    async def _live_once(self, known: Revision | None) -> Revision | None:
        """From reading the store until this replica is not the active one any more.

        Takes and returns the revision up to which memory is equal to the store; None: it is of no
        use, and nothing here keeps it.
        """
        self._follower = Follower(
            self._client, self.keys.ipam, self._on_batch, start=known, beacon=self.keys.commit
        )
        following = asyncio.create_task(self._follower.run(), name="follow ipam")
        try:
            committer = await self._take_over(self._follower, following)
            if committer is not None:
                await self._lead(committer)
                if committer.finished:
                    self._committer = None
                    self._take_topology()
                    return committer.revision
            return None
        finally:
            self._committer = None
            self._notify()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _take_over(
        self, follower: Follower, following: asyncio.Task[None]
    ) -> Committer | None:
        """Waits until this replica is elected, and makes its memory complete."""
        elected = asyncio.create_task(self._election.until(leading=True), name="until elected")
        try:
            await asyncio.wait({elected, following}, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
        finally:
            elected.cancel()
        try:
            fence = self._election.fence()
            mark = Put(self.keys.commit, f"{self.identity.replica}/0".encode())
            outcome = await self._client.transact((fence,), (mark,))
            if not outcome.succeeded:
                return None
            await follower.wait_for(outcome.revision, CATCH_UP_SECONDS)
            # What is in use on a node that is not known would be taken for left over.
            await self._topology.wait_for(outcome.revision, CATCH_UP_SECONDS)
        except Unavailable as error:
            log.warning("take_over_failed", why=error.message)
            await asyncio.sleep(0.1)
            return None
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        leadership = Leadership(
            self.identity.replica, fence, lambda: self._election.is_leader, outcome.revision
        )
        return Committer(
            self._client,
            self.keys,
            self.ledger,
            self._feed,
            leadership,
            reach_topology=lambda revision: self._topology.wait_for(revision, CATCH_UP_SECONDS),
            on_commit=self._on_commit,
            on_nodes=self._on_nodes,
            now=self.now,
            observer=self._observer,
            audit=self._audit,
        )

    async def _lead(self, committer: Committer) -> None:
        log.info("active", replica=self.identity.replica, revision=committer.revision)
        self._committer = committer
        self._releases = NodeReleases(
            committer,
            self.ledger,
            self._feed.view,
            self._release_grace,
            self._release_fence,
            self._observer.released,
        )
        freeze_heap()
        self._notify()
        try:
            await in_own_task(self._decide(committer, self._releases), "lead")
        except* Deposed:
            if committer.finished:
                log.info("handed_over", replica=self.identity.replica)
            else:
                log.warning("deposed", replica=self.identity.replica)
        except* Exception:
            # Memory may not be what the store holds: it is thrown away and read again.
            log.exception("deciding_failed", replica=self.identity.replica)
            await asyncio.sleep(DISTRUST_SECONDS)

    async def _decide(self, committer: Committer, releases: NodeReleases) -> None:
        """Until this replica is deposed."""
        async with asyncio.TaskGroup() as group:
            group.create_task(committer.run(), name="commit")
            group.create_task(self._close_rested(committer), name="close rested blocks")
            group.create_task(releases.run(), name="release what is on nodes gone")
            group.create_task(self._until_deposed(), name="until deposed")

    async def _until_deposed(self) -> None:
        await self._election.until(leading=False)
        raise Deposed

    async def _close_rested(self, committer: Committer) -> None:
        while True:
            await asyncio.sleep(CLOSE_RESTED_SECONDS)
            if has_rested(self.ledger, self.now()):
                with contextlib.suppress(Unavailable):
                    await committer.submit((CloseRested(),))

    async def _watch_election(self) -> None:
        while True:
            self._notify()
            await self._election.changed()

    def _reset(self) -> None:
        self.ledger = Ledger()
        self.routes.detach()
        self._loaded = False
        self._feed.fill(self.ledger)
        self._take_topology()
        self._tell(None)
        self._notify()
        unfreeze_heap()

    def _on_topology(self, batch: WatchBatch) -> None:
        self._feed.push(batch)
        if self._committer is not None:
            self._committer.topology_changed()
        else:
            self._take_topology()
        self._notify()

    def _take_topology(self) -> None:
        """Takes over all that was pushed, also what a committer that ended has left."""
        while self._feed.is_behind:
            self._feed.catch_up(self.ledger)
        moved = self.ledger.drain_moved()
        if moved:
            self._tell(moved)

    def _on_batch(self, batch: WatchBatch) -> None:
        if isinstance(batch, Snapshot):
            if self._loaded:
                self._reset()
            codec.apply_batch(self.keys, batch, self.ledger, self._unreadable)
            self._loaded = True
            asyncio.get_running_loop().call_soon(freeze_heap)  # when the snapshot is gone
            self._notify()
            self._tell(None)
        elif batch.events:
            self._tell(codec.apply_batch(self.keys, batch, self.ledger, self._unreadable))

    def _on_nodes(self, gone: Collection[NodeName]) -> None:
        if self._releases is not None:
            self._releases.look(gone)

    def _on_commit(self, places: Sequence[Place], revision: Revision) -> None:
        del revision
        self._tell(places)

    def _tell(self, places: Sequence[Place] | None) -> None:
        if places is not None:
            self.routes.changed(places)
        for listener in tuple(self._listeners):
            listener(places)

    def _notify(self) -> None:
        if self.loaded:
            self._election.stand()
        self._changed.set()
        self._changed = asyncio.Event()
