"""What this replica knows of the store: the topology, and what ipam has in use.

Fed by watches, in whole transactions. A document that cannot be read ends the process: to go on
without it would mean to hand out what it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from services.common.etcd.keys import Keys
from services.common.etcd.types import Event, KeyValue, Revision, Snapshot, WatchBatch
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.model.node import Node
from services.common.records.blocks import decode_page
from services.common.records.layout import decode_layout, decode_node
from services.topology.roster import Roster
from services.topology.usage import PageUse, Usage


@dataclass(frozen=True, slots=True)
class Difference:
    """What a batch changed."""

    layout: bool = False
    nodes: frozenset[NodeName] = field(default_factory=frozenset)
    """New, changed and gone."""


class TopologyCache:
    """Layout and nodes at one revision."""

    def __init__(self, keys: Keys, on_change: Callable[[Difference], None]) -> None:
        self._keys = keys
        self._on_change = on_change
        self.layout = Layout()
        self.group_count = 0
        """On all levels."""
        self.layout_revision: Revision = 0
        """0: there is none."""
        self.generation: Revision = 0
        """mod_revision of the key that every topology transaction writes."""
        self.nodes: dict[NodeName, Node] = {}
        self.node_revisions: dict[NodeName, Revision] = {}
        self.roster = Roster(self.layout)
        """Of `nodes` in `layout`."""
        self.revision: Revision = 0

    def take(self, batch: WatchBatch) -> None:
        """Takes over a batch of the watch; raises RecordError."""
        if isinstance(batch, Snapshot):
            difference = self._replace(batch)
        else:
            difference = self._update([(event.key, event.item) for event in batch.events])
        self.revision = batch.revision
        if difference.layout or difference.nodes:
            self._on_change(difference)

    def _replace(self, snapshot: Snapshot) -> Difference:
        present = {item.key for item in snapshot.items}
        gone: list[tuple[str, KeyValue | None]] = [
            (key, None)
            for key in (
                self._keys.layout,
                self._keys.generation,
                *(self._keys.node(name) for name in self.nodes),
            )
            if key not in present
        ]
        return self._update([*gone, *((item.key, item) for item in snapshot.items)])

    def _update(self, items: list[tuple[str, KeyValue | None]]) -> Difference:
        layout = False
        nodes: set[NodeName] = set()
        for key, item in items:
            if key == self._keys.generation:
                self.generation = item.mod_revision if item else 0
            elif key == self._keys.layout:
                revision = item.mod_revision if item else 0
                if revision != self.layout_revision:
                    self.layout = decode_layout(item.value) if item else Layout()
                    self.layout_revision = revision
                    self.group_count = sum(1 for t in self.layout.topologies for _ in t.walk())
                    self.roster = Roster(self.layout, self.nodes.values())
                    layout = True
            elif key.startswith(self._keys.nodes):
                name = NodeName(key.removeprefix(self._keys.nodes))
                if item is None or item.mod_revision != self.node_revisions.get(name):
                    self._put_node(name, item)
                    nodes.add(name)
        return Difference(layout, frozenset(nodes))

    def _put_node(self, name: NodeName, item: KeyValue | None) -> None:
        node = decode_node(item.value) if item is not None else None
        if name in self.nodes:
            self.roster.remove(self.nodes[name])
        if item is not None and node is not None:
            self.roster.add(node)
            self.nodes[name] = node
            self.node_revisions[name] = item.mod_revision
        else:
            self.nodes.pop(name, None)
            self.node_revisions.pop(name, None)


class UsageCache:
    """Addresses in use, by block."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.usage = Usage()

    def take(self, batch: WatchBatch) -> None:
        """Takes over a batch of the watch of all that ipam writes; raises RecordError."""
        if isinstance(batch, Snapshot):
            self.usage.clear()
            for item in batch.items:
                self._put(item.key, item)
        else:
            for event in batch.events:
                self._event(event)

    def _event(self, event: Event) -> None:
        self._put(event.key, event.item)

    def _put(self, key: str, item: KeyValue | None) -> None:
        if not key.startswith(self._keys.blocks):
            return
        place = self._keys.parse_block(key)
        use = None
        if item is not None:
            page = decode_page(item.value)
            use = PageUse(page.length, NodeName(page.node), len(page.used))
        self.usage.put(place.network, place.base, place.page, use)
