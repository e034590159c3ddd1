"""A committer on a real store, with all it works on: its feed learns of the topology when told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass, field

from services.common.audit.writer import AuditWriter
from services.common.etcd.types import Compare, Delete, Field, Relation, Snapshot
from services.common.model.names import EndpointName, NodeName
from services.common.store.unreadable import UnreadableRecords
from services.ipam.api.audited import TEXTS
from services.ipam.deciding.commands import Allocated, Release
from services.ipam.ledger.ledger import Ledger
from services.ipam.store import codec
from services.ipam.store.fenced_transactions import Leadership
from services.ipam.store.group_commit import Committer
from services.ipam.store.topology_feed import TopologyFeed
from tests.conftest import Store
from tests.support.ipam_world import allocate


@dataclass
class Told:
    """What an observer was told."""

    commits: list[int] = field(default_factory=list)
    undo: list[str] = field(default_factory=list)
    defects: int = 0
    released_addresses: int = 0
    nodes: int = 0
    """How often nodes were said to have gone."""
    on_gone: Callable[[Collection[NodeName]], None] = lambda _: None
    """Is told which."""

    def committed(self, items: int, operations: int, seconds: float) -> None:
        del operations, seconds
        self.commits.append(items)

    def undone(self, why: str) -> None:
        self.undo.append(why)

    def failed(self) -> None:
        self.defects += 1

    def released(self, addresses: int) -> None:
        self.released_addresses += addresses

    def on_nodes(self, gone: Collection[NodeName]) -> None:
        self.nodes += 1
        self.on_gone(gone)


@dataclass
class Parts:
    """A committer with all it works on. Its feed learns of the topology only when it asks."""

    store: Store
    committer: Committer
    ledger: Ledger
    feed: TopologyFeed
    told: Told
    task: asyncio.Task[None]

    async def ask(self, *names: str, tenant: str = "t", on: str = "h1") -> list[object]:
        """Allocates; addresses as text, refusals as they are."""
        wanted = [allocate(name, on, tenant) for name in names]
        return texts(await self.committer.submit(wanted))

    async def release(self, name: str) -> None:
        """As its owner does."""
        await self.committer.submit([Release(EndpointName(name))])

    async def hear(self) -> None:
        """Has the feed learn of the topology as it is."""
        self.feed.push(await snapshot(self.store, self.feed))
        self.committer.topology_changed()
        await self.committer.idle()


def texts(results: Sequence[object]) -> list[object]:
    return [
        result.addresses[0].text if isinstance(result, Allocated) else result for result in results
    ]


async def snapshot(store: Store, feed: TopologyFeed) -> Snapshot:
    found = await store.client.range(store.keys.topology)
    known = {store.keys.node(name) for name in feed.view.nodes}
    return Snapshot(found.items, found.revision, known - {item.key for item in found.items})


@contextlib.asynccontextmanager
async def leading(store: Store) -> AsyncIterator[Parts]:
    """The active one, with what was stored before."""
    client, keys = store.client, store.keys
    leader = f"{keys.leader}x"
    await client.transact((), (Delete(leader),))  # a predecessor's
    created = await client.put(leader, b"here")
    revision = await client.put(keys.commit, b"begin")
    ledger, feed, told = Ledger(), TopologyFeed(keys), Told()
    stored = await client.range(keys.ipam)
    codec.apply_batch(keys, Snapshot(stored.items, stored.revision), ledger, UnreadableRecords())
    feed.push(await snapshot(store, feed))
    feed.catch_up(ledger)

    async def reach(reached: int) -> None:
        fresh = await snapshot(store, feed)
        assert fresh.revision >= reached
        feed.push(fresh)

    fence = Compare(leader, Field.CREATE, Relation.EQUAL, created)
    committer = Committer(
        client,
        keys,
        ledger,
        feed,
        Leadership("me", fence, lambda: True, revision),
        reach_topology=reach,
        on_commit=lambda *_: None,
        on_nodes=told.on_nodes,
        now=lambda: int(time.time() * 1000),
        observer=told,
        audit=AuditWriter(keys, "ipam", TEXTS),
    )
    task = asyncio.create_task(committer.run())
    try:
        yield Parts(store, committer, ledger, feed, told, task)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
