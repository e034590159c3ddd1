"""What a replica knows of topology's records: the one reader of them, for every service.

Fed by one `Follower` (see `follow_topology`). A record that cannot be read keeps what was known of
it, and is among `unreadable`; a replica that has just started knows the last version that could be
read, if etcd still keeps it. One of which nothing is known is there all the same, without a value.
A node is gone only by a deletion that was seen, or that was proved by a transaction
(`Snapshot.gone`): never because a snapshot lacks it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.common.etcd.client import EtcdClient
from services.common.etcd.follow import Follower
from services.common.etcd.keys import Keys
from services.common.etcd.types import KeyValue, Revision, Snapshot, WatchBatch
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.model.node import Node
from services.common.records.errors import RecordError
from services.common.records.layout import decode_layout, decode_node, decode_removed_node
from services.common.store.unreadable import Unreadable, UnreadableRecords
from services.common.tracing import spans

LAYOUT: Final = "layout"
NODE: Final = "node"
KINDS: Final = (LAYOUT, NODE)
"""Of records that may be unreadable."""


def follow_topology(
    client: EtcdClient, keys: Keys, on_batch: Callable[[WatchBatch], None]
) -> Follower:
    """The follower that a view is fed by: `on_batch` hands batches to it, in order."""

    def is_readable(item: KeyValue) -> bool:
        try:
            if item.key == keys.layout:
                decode_layout(item.value)
            elif item.key.startswith(keys.nodes):
                _decode_node(NodeName(item.key.removeprefix(keys.nodes)), item.value)
        except RecordError:
            return False
        return True

    return Follower(
        client,
        keys.topology,
        on_batch,
        beacon=keys.generation,
        proves_what_is_gone=True,
        is_readable=is_readable,
    )


@dataclass(frozen=True, slots=True)
class TopologyDifference:
    """What a batch changed; whole transactions, so in no order."""

    layout: bool = False
    nodes: frozenset[NodeName] = frozenset()
    """New and changed ones, as far as they can be read."""
    gone: frozenset[NodeName] = frozenset()
    """Deleted: that was seen, or proved."""
    appeared: frozenset[NodeName] = frozenset()
    """There since then, readable or not."""
    removed: frozenset[NodeName] = frozenset()
    """Removed by somebody, or with another word on it than before."""

    def __bool__(self) -> bool:
        return self.layout or bool(self.nodes or self.gone or self.appeared or self.removed)


@dataclass(frozen=True, slots=True)
class RemovedNode:
    """That somebody removed a node."""

    revision: Revision
    machine_is_off: bool
    """Nothing of it has the addresses any more, says who removed it."""


class TopologyView:
    def __init__(self, keys: Keys) -> None:
        """Knows nothing before the first snapshot."""
        self._keys = keys
        self.layout = Layout()
        self.layout_revision: Revision = 0
        """At which its key was written; 0: there is none."""
        self.generation: Revision = 0
        """At which the key was written that every topology transaction writes."""
        self.aside: Revision = 0
        """At which an address was set aside last that endpoints might have had."""
        self.nodes: dict[NodeName, Node] = {}
        """As they were when they could be read last."""
        self.node_revisions: dict[NodeName, Revision] = {}
        """At which the keys of `nodes` were written, readable or not."""
        self.removed: dict[NodeName, RemovedNode] = {}
        """Nodes that somebody removed: what was in use on them is to be released."""
        self.unreadable = UnreadableRecords()
        self.revision: Revision = 0
        """Everything up to it is known; 0 before the first snapshot."""
        self._layout_known = True

    @property
    def in_sync(self) -> bool:
        """A snapshot has been read, and the layout is known: without it nothing can be said."""
        return bool(self.revision) and self._layout_known

    @property
    def layout_known(self) -> bool:
        """Says whether `layout` is, or was, what is stored: false if it never could be read."""
        return self._layout_known

    def exists(self, name: NodeName) -> bool:
        """Says whether there is such a node, readable or not."""
        return name in self.nodes or self._keys.node(name) in self.unreadable

    def is_readable(self, name: NodeName) -> bool:
        """Says whether the node's record, if there is one, can be read."""
        return self._keys.node(name) not in self.unreadable

    def blank(self) -> frozenset[NodeName]:
        """The nodes that are there, and of which nothing could be read since this replica began."""
        return frozenset(
            name
            for key in self.unreadable
            if self.unreadable[key].kind == NODE
            and (name := self._node_name(key)) not in self.nodes
        )

    def apply_batch(self, batch: WatchBatch) -> TopologyDifference:
        """Takes over a batch of the watch."""
        if isinstance(batch, Snapshot):
            gone: list[tuple[str, KeyValue | None]] = [(key, None) for key in batch.gone]
            items = ((item.key, item) for item in (*batch.earlier, *batch.items))
            difference = self._update([*gone, *items])
        else:
            for event in batch.events:
                if event.key == self._keys.generation and event.item is not None:
                    spans.heard(event.revision, event.item.value)
            difference = self._update([(event.key, event.item) for event in batch.events])
        self.revision = batch.revision
        return difference

    def _update(self, items: list[tuple[str, KeyValue | None]]) -> TopologyDifference:
        keys = self._keys
        layout = False
        touched: dict[NodeName, bool] = {}
        """Nodes and whether they were there before."""
        changed: set[NodeName] = set()
        removed: set[NodeName] = set()
        for key, item in items:
            if key == keys.generation:
                self.generation = item.mod_revision if item is not None else 0
            elif key == keys.aside:
                self.aside = item.mod_revision if item is not None else 0
            elif key == keys.layout:
                layout = self._take_layout(item) or layout
            elif key.startswith(keys.nodes):
                name = self._node_name(key)
                touched.setdefault(name, self.exists(name))
                if self._take_node(name, item):
                    changed.add(name)
            elif key.startswith(keys.removed_nodes):
                name = NodeName(key.removeprefix(keys.removed_nodes))
                if item is None:
                    self.removed.pop(name, None)
                elif self._take_removed(name, item):
                    removed.add(name)
        return TopologyDifference(
            layout,
            frozenset(name for name in changed if name in self.nodes),
            frozenset(name for name, was in touched.items() if was and not self.exists(name)),
            frozenset(name for name, was in touched.items() if not was and self.exists(name)),
            frozenset(removed & self.removed.keys()),
        )

    def _take_removed(self, name: NodeName, item: KeyValue) -> bool:
        """Says whether that is another word than before."""
        before = self.removed.get(name)
        off = decode_removed_node(item.value).machine_is_off
        self.removed[name] = RemovedNode(item.mod_revision, machine_is_off=off)
        return before is None or before.machine_is_off != off

    def _take_layout(self, item: KeyValue | None) -> bool:
        """Says whether the layout is another one than before."""
        key, revision = self._keys.layout, item.mod_revision if item is not None else 0
        if revision == self.layout_revision:
            return False
        before = self.layout
        self.layout_revision = revision
        try:
            self.layout = decode_layout(item.value) if item is not None else Layout()
        except RecordError as error:
            self._layout_known = before != Layout()
            self.unreadable.add(key, Unreadable(LAYOUT, str(error), revision))
        else:
            self._layout_known = True
            self.unreadable.discard(key)
        return self.layout is not before

    def _take_node(self, name: NodeName, item: KeyValue | None) -> bool:
        """Says whether what is known of the node changed."""
        key = self._keys.node(name)
        if item is None:
            self.unreadable.discard(key)
            self.node_revisions.pop(name, None)
            return self.nodes.pop(name, None) is not None
        if item.mod_revision == self.node_revisions.get(name):
            return False
        try:
            node = _decode_node(name, item.value)
        except RecordError as error:
            self.unreadable.add(key, Unreadable(NODE, str(error), item.mod_revision))
            if name in self.nodes:
                self.node_revisions[name] = item.mod_revision
            return False
        self.unreadable.discard(key)
        self.nodes[name] = node
        self.node_revisions[name] = item.mod_revision
        return True

    def _node_name(self, key: str) -> NodeName:
        return NodeName(key.removeprefix(self._keys.nodes))


def _decode_node(name: NodeName, document: bytes) -> Node:
    node = decode_node(document)
    if node.name != name:
        raise RecordError(f"not a node of that name: it says {node.name[:80]!r}")
    return node
