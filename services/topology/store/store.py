"""Topology in etcd: every change is decided on what is known and proved by one transaction.

Every topology transaction compares the key `generation` and writes it, so that whatever was checked
(unique names and addresses, the fewest nodes, room in the layout) still holds when it is carried
out, however many replicas there are. One that was overtaken is decided anew.

What etcd takes in one transaction is limited, in operations and in bytes. A change of the topology
that moves more nodes writes the layout with the first of them and the others in further
transactions; `place_misplaced` completes it after a crash. Until then such a node counts for no
group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.common.audit.record import Changed
from services.common.audit.writer import AuditWriter
from services.common.errors import InvalidInput, RomanaError, WrongState
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
from services.common.rpc.calling import who
from services.common.sizes import LAYOUT_BYTES
from services.common.store import optimistic
from services.common.store.optimistic import (
    Committed,
    OptimisticStore,
    catch_up,
    check_read,
    first_read,
)
from services.common.store.topology_view import TopologyDifference, follow_topology
from services.common.store.transactions import Group
from services.common.store.unreadable import Unreadable
from services.topology.layout.own_addresses import AddressInUse
from services.topology.layout.usage import InUse, Usage
from services.topology.metrics import TopologyMetrics
from services.topology.store import agent_presence
from services.topology.store.address_users import named
from services.topology.store.agent_presence import AgentPresence
from services.topology.store.cache import TopologyCache, UsageCache
from services.topology.store.watchers import Watchers

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Decision(Generic[_T]):
    """What to do, and what to answer once it is done."""

    answer: _T
    layout: Layout | None = None
    """To write."""
    nodes: Sequence[Node] = ()
    """To write: as many as fit, the first of them."""
    writes: Sequence[Operation] = ()
    """To write besides, and nodes to delete."""
    demands: Sequence[Compare] = ()
    """Beside that nothing else changed."""
    changed: Sequence[Changed] = ()
    """What is recorded of it; nothing of what follows from another change."""

    @property
    def is_empty(self) -> bool:
        """Says whether there is nothing to write."""
        return self.layout is None and not self.nodes and not self.writes


@dataclass(frozen=True, slots=True)
class Known:
    """What a replica knows at one moment; nothing of it changes."""

    layout: Layout
    nodes: Mapping[NodeName, Node]
    usage: InUse
    generation: Revision
    """Of the topology."""
    seen: Revision
    """Up to which `usage` is complete."""


class TopologyStore:
    """One replica's view of the store, and its way to change it."""

    def __init__(
        self, client: EtcdClient, keys: Keys, metrics: TopologyMetrics, audit: AuditWriter
    ) -> None:
        """Knows nothing before `run`."""
        self.keys = keys
        self._audit = audit
        self.watchers = Watchers()
        self.cache = TopologyCache(keys, self._changed)
        self._usage = UsageCache(keys)
        self._client = client
        self._metrics = metrics
        self._topology = follow_topology(client, keys, self._on_topology)
        self._store = OptimisticStore(
            client,
            self._topology,
            keys.generation,
            busy="TOPOLOGY_BUSY",
            on_lost_race=metrics.lost_races.inc,
        )
        self._ipam = Follower(client, keys.ipam, self._usage.take, beacon=keys.commit)

    @property
    def usage(self) -> Usage:
        """What is in use."""
        return self._usage.usage

    @property
    def usage_revision(self) -> Revision:
        """Up to which `usage` is complete."""
        return self._ipam.revision

    def known(self) -> Known:
        """All of it, to plan by it elsewhere."""
        cache, usage = self.cache, self._usage.usage
        return Known(
            cache.layout,
            dict(cache.nodes),
            usage.snapshot(),
            cache.generation,
            self.usage_revision,
        )

    async def catch_up(self) -> None:
        """Returns when all that is stored now is known; raises Unavailable."""
        self.check_in_sync()
        await self._store.catch_up()
        await catch_up(self._client, self._ipam, self.keys.commit)

    async def agent_presence(self, name: NodeName) -> AgentPresence:
        """What is known of a node's agent now; raises Unavailable."""
        return await agent_presence.look(name, self._client, self.keys)

    async def named(self, error: AddressInUse) -> RomanaError:
        """The error with the name of who has the address; raises Unavailable."""
        return await named(error, self._client, self.keys)

    async def run(self) -> None:
        """Follows the store for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._topology.run(), name="follow_topology")
            group.create_task(self._ipam.run(), name="follow_ipam")

    async def wait_in_sync(self) -> None:
        """Returns when everything there is has been read, however long the store is away."""
        await first_read(self._topology)
        await first_read(self._ipam)

    @property
    def in_sync(self) -> bool:
        """Everything there is has been read."""
        return bool(self._topology.revision and self._ipam.revision)

    def check_in_sync(self) -> None:
        """Raises Unavailable before that: what is known now is nothing."""
        check_read(self._topology, self._ipam)

    async def change(
        self,
        decide: Callable[[], Decision[_T]],
        *,
        looks_at_usage: bool = False,
        look: Callable[[], Awaitable[None]] | None = None,
    ) -> Committed[_T]:
        """Carries out what `decide` makes of the cache, which is up to date when it is called.

        `look`: reads what else it has to know, before each time.

        Raises:
            Conflict: it was overtaken again and again.
            Unavailable: as the client's.
            RomanaError: what `decide` raises; then nothing was written.
        """
        self.check_in_sync()

        async def prepare() -> None:
            if not self.cache.layout_known:
                raise record_unreadable(self.keys.layout)
            if looks_at_usage:
                await catch_up(self._client, self._ipam, self.keys.commit)
            if look is not None:
                await look()

        try:
            return await self._store.change(
                lambda: self._spelt(decide()), commit=self._commit, prepare=prepare
            )
        except AddressInUse as error:
            raise await self.named(error) from None

    async def _commit(self, decision: optimistic.Decision[_T]) -> Committed[_T] | None:
        return await self._store.commit(decision)

    def _spelt(self, decision: Decision[_T]) -> optimistic.Decision[_T]:
        """The decision by keys and documents; raises WrongState and InvalidInput."""
        if decision.is_empty:
            return optimistic.Decision(decision.answer)
        self._refuse_unreadable(decision)
        keys = self.keys
        writes = list(decision.writes)
        if decision.layout is not None:
            document = encode_layout(decision.layout)
            if len(document) > LAYOUT_BYTES:
                raise InvalidInput.at(
                    "", f"the layout has {len(document)} bytes, at most {LAYOUT_BYTES} fit"
                )
            writes.append(Put(keys.layout, document))
        generation = self.cache.generation
        writes += self._audit.operations(decision.changed, who(self._audit.service), generation)
        same = Compare(keys.generation, Field.MOD, Relation.EQUAL, generation)
        nodes = map(self._node_writes, decision.nodes) if decision.nodes else ()
        return optimistic.Decision(decision.answer, writes, nodes, [same, *decision.demands])

    def _node_writes(self, node: Node) -> Group:
        """That it was removed by force once is forgotten when it comes back."""
        put = Put(self.keys.node(node.name), encode_node(node))
        if node.name in self.cache.removed:
            return put, Delete(self.keys.removed_node(node.name))
        return (put,)

    def _refuse_unreadable(self, decision: Decision[_T]) -> None:
        """Raises WrongState rather than write over what cannot be read."""
        cache, keys = self.cache, self.keys
        touched = [keys.layout] if decision.layout is not None else []
        touched += [keys.node(node.name) for node in decision.nodes]
        for key in touched:
            if key in cache.unreadable:
                raise record_unreadable(key)

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
        self.cache.apply_batch(batch)

    def _changed(self, difference: TopologyDifference) -> None:
        self._metrics.show(
            networks=len(self.cache.layout.networks),
            groups=self.cache.group_count,
            nodes=len(self.cache.nodes),
            unplaced=self.cache.node_index.unplaced,
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
