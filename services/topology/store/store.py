"""Topology in etcd: every change is decided on what is known and proved by one transaction.

Every topology transaction compares the key `generation` and writes it, so that whatever was checked
(unique names and addresses, the fewest nodes, room in the layout) still holds when it is carried
out, however many replicas there are. One that was overtaken is decided anew.

A transaction has at most 128 operations. A change of the topology that moves more nodes writes the
layout with the first of them and the others in further transactions; `settle` completes it after a
crash. Until then such a node counts for no group.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.common.errors import Conflict, InvalidInput, Unavailable, WrongState
from services.common.etcd.client import EtcdClient
from services.common.etcd.follow import Follower
from services.common.etcd.keys import Keys
from services.common.etcd.types import (
    Compare,
    Delete,
    Field,
    Operation,
    Put,
    Relation,
    Revision,
    WatchBatch,
)
from services.common.model.layout import Layout
from services.common.model.names import NetworkName, NodeName
from services.common.model.node import Node
from services.common.records.layout import encode_layout, encode_node
from services.common.store.topology_view import TopologyDifference, follow_topology
from services.common.store.unreadable import Unreadable
from services.topology.layout.usage import Usage
from services.topology.metrics import TopologyMetrics
from services.topology.store.cache import TopologyCache, UsageCache
from services.topology.store.watchers import Watchers

MAX_NODES = 100
"""Nodes in one transaction."""
MAX_LAYOUT_BYTES = 1_000_000
"""etcd takes 1.5 MiB in one request, and the first nodes go with the layout."""
_ATTEMPTS = 12
_PAUSE = 0.01
"""Seconds, at most, before the second attempt; each pause is longer by as much."""
_CATCH_UP = 5.0
"""Seconds."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Decision(Generic[_T]):
    """What to do, and what to answer once it is done."""

    answer: _T
    layout: Layout | None = None
    """To write."""
    nodes: Sequence[Node] = ()
    """To write; no more than MAX_NODES."""
    marks: Sequence[Operation] = ()
    """To write besides, and nodes to delete."""
    demands: Sequence[Compare] = ()
    """Beside that nothing else changed."""

    @property
    def is_empty(self) -> bool:
        """Says whether there is nothing to write."""
        return self.layout is None and not self.nodes and not self.marks


@dataclass(frozen=True, slots=True)
class Committed(Generic[_T]):
    """A decision that was carried out."""

    answer: _T
    revision: Revision = 0
    """At which; 0: nothing was to do."""

    @property
    def changed(self) -> bool:
        """Says whether something was written."""
        return bool(self.revision)


class TopologyStore:
    """One replica's view of the store, and its way to change it."""

    def __init__(self, client: EtcdClient, keys: Keys, metrics: TopologyMetrics) -> None:
        """Knows nothing before `run`."""
        self.keys = keys
        self.watchers = Watchers()
        self.cache = TopologyCache(keys, self._changed)
        self._usage = UsageCache(keys)
        self._client = client
        self._metrics = metrics
        self._lock = asyncio.Lock()
        self._topology = follow_topology(client, keys, self._on_topology)
        self._ipam = Follower(client, keys.ipam, self._usage.take, beacon=keys.commit)

    @property
    def usage(self) -> Usage:
        """What is in use."""
        return self._usage.usage

    @property
    def usage_revision(self) -> Revision:
        """Up to which `usage` is complete."""
        return self._ipam.revision

    async def run(self) -> None:
        """Follows the store for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._topology.run(), name="follow_topology")
            group.create_task(self._ipam.run(), name="follow_ipam")

    async def wait_in_sync(self) -> None:
        """Returns when everything there is has been read, however long the store is away."""
        for follower in (self._topology, self._ipam):
            while not follower.revision:
                with contextlib.suppress(Unavailable):
                    await follower.wait_for(1, _CATCH_UP)

    @property
    def in_sync(self) -> bool:
        """Everything there is has been read."""
        return bool(self._topology.revision and self._ipam.revision)

    def check_in_sync(self) -> None:
        """Raises Unavailable before that: what is known now is nothing."""
        if not self.in_sync:
            raise Unavailable(
                "this replica has not read the store yet: try again", reason="NOT_IN_SYNC"
            )

    async def change(
        self, decide: Callable[[], Decision[_T]], *, looks_at_usage: bool = False
    ) -> Committed[_T]:
        """Carries out what `decide` makes of the cache, which is up to date when it is called.

        Raises:
            Conflict: it was overtaken again and again.
            Unavailable: as the client's.
            RomanaError: what `decide` raises; then nothing was written.
        """
        self.check_in_sync()
        async with self._lock:
            for attempt in range(1, _ATTEMPTS + 1):
                await self._catch_up(looks_at_usage=looks_at_usage)
                decision = decide()
                if decision.is_empty:
                    return Committed(decision.answer)
                self._refuse_unreadable(decision)
                if revision := await self._commit(decision):
                    return Committed(decision.answer, revision)
                self._metrics.lost_races.inc()
                await asyncio.sleep(random.random() * _PAUSE * attempt)  # noqa: S311 - jitter
        raise Conflict(
            "other changes came first again and again; try again", reason="TOPOLOGY_BUSY"
        )

    def _refuse_unreadable(self, decision: Decision[_T]) -> None:
        """Raises WrongState rather than write over what cannot be read."""
        cache, keys = self.cache, self.keys
        touched = [keys.layout] if decision.layout is not None else []
        touched += [keys.node(node.name) for node in decision.nodes]
        for key in touched:
            if key in cache.unreadable:
                raise record_unreadable(key)

    async def _commit(self, decision: Decision[_T]) -> Revision:
        """The revision at which it was carried out; 0 if it was overtaken."""
        keys = self.keys
        compares = [
            Compare(keys.generation, Field.MOD, Relation.EQUAL, self.cache.generation),
            *decision.demands,
        ]
        operations: list[Operation] = [Put(keys.generation, b"1"), *decision.marks]
        if decision.layout is not None:
            document = encode_layout(decision.layout)
            if len(document) > MAX_LAYOUT_BYTES:
                raise InvalidInput.at(
                    "", f"the layout has {len(document)} bytes, at most {MAX_LAYOUT_BYTES} fit"
                )
            operations.append(Put(keys.layout, document))
        for node in decision.nodes:
            operations.append(Put(keys.node(node.name), encode_node(node)))
            if node.name in self.cache.removed:
                operations.append(Delete(keys.removed_node(node.name)))
        outcome = await self._client.transact(compares, operations)
        if not outcome.succeeded:
            return 0
        # So that a caller reads what it wrote, and the next decision needs no wait.
        await self._topology.wait_for(outcome.revision, _CATCH_UP)
        return outcome.revision

    async def _catch_up(self, *, looks_at_usage: bool) -> None:
        generation = await self._client.get(self.keys.generation)
        await self._topology.wait_for(generation.mod_revision if generation else 0, _CATCH_UP)
        if looks_at_usage:
            commit = await self._client.get(self.keys.commit)
            await self._ipam.wait_for(commit.mod_revision if commit else 0, _CATCH_UP)

    def etag(self, name: NodeName) -> str:
        """That of a node; empty if there is none."""
        revision = self.cache.node_revisions.get(name)
        return str(revision) if revision is not None else ""

    @property
    def layout_etag(self) -> str:
        """That of the topology."""
        return str(self.cache.layout_revision)

    @property
    def unreadable(self) -> Mapping[str, Unreadable]:
        """Records that cannot be read, by key."""
        return {**self.cache.unreadable, **self._usage.unreadable}

    def first_unreadable(self, networks: Collection[NetworkName]) -> str | None:
        """The key of a record that may stand for something on these networks."""
        pages = (key for key in self._usage.unreadable if self._usage.network(key) in networks)
        return min((*self.cache.unreadable, *pages), default=None)

    def _on_topology(self, batch: WatchBatch) -> None:
        self.cache.take(batch)

    def _changed(self, difference: TopologyDifference) -> None:
        self._metrics.show(
            networks=len(self.cache.layout.networks),
            groups=self.cache.group_count,
            nodes=len(self.cache.nodes),
            unplaced=self.cache.roster.unplaced,
        )
        self.watchers.note(difference)


def record_unreadable(key: str) -> WrongState:
    """The error for a change that what cannot be read stands against."""
    return WrongState(
        f"the record {key} in etcd cannot be read, and nothing is changed that it may stand for: "
        "repair it, or remove it",
        reason="RECORD_UNREADABLE",
        metadata={"key": key},
    )
