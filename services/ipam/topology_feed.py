"""What ipam knows of the topology: fed by a watch, handed to the state when nothing is pending.

Changes of areas must not happen between a decision and its transaction, so batches queue up here
until `catch_up`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

import structlog

from services.common.etcd.keys import Keys
from services.common.etcd.types import Event, Revision, Snapshot, WatchBatch
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.model.node import Node
from services.common.records.errors import RecordError
from services.common.records.layout import decode_layout, decode_node
from services.ipam.state import State

log = structlog.get_logger(__name__)


class TopologyFeed:
    """Layout and nodes with the revisions at which they were written."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._queue: deque[WatchBatch] = deque()
        self.layout = Layout()
        self.layout_revision: Revision = 0
        """0: there is none."""
        self.nodes: dict[NodeName, Node] = {}
        self.node_revisions: dict[NodeName, Revision] = {}
        self.in_sync = False
        """A snapshot has been taken over."""
        self.on_change: Callable[[], None] | None = None
        """Called when the state was given something new, and holds nothing undecided."""
        self._touched: dict[NodeName, None] = {}

    def push(self, batch: WatchBatch) -> None:
        """Takes a batch of the watch; `catch_up` makes it count."""
        self._queue.append(batch)

    def fill(self, state: State) -> None:
        """Hands all that is known to a new state."""
        state.nodes = dict(self.nodes)
        state.set_layout(self.layout)

    def catch_up(self, state: State) -> set[NodeName]:
        """Hands what was pushed to the state; returns the nodes that are gone.

        Not while decisions are pending.
        """
        before = set(self.nodes)
        changed = bool(self._queue)
        while self._queue:
            batch = self._queue.popleft()
            if isinstance(batch, Snapshot):
                self._replace(batch)
                self.fill(state)
                self.in_sync = True
            else:
                for event in batch.events:
                    self._take(event, state)
        if changed and self.on_change is not None:
            self.on_change()
        return before - self.nodes.keys()

    def take_touched(self) -> Collection[NodeName]:
        """Nodes that may have changed in the state since this was called."""
        touched, self._touched = self._touched, {}
        return touched

    def _replace(self, snapshot: Snapshot) -> None:
        self.layout, self.layout_revision = Layout(), 0
        self._touched.update(dict.fromkeys(self.nodes))
        self.nodes, self.node_revisions = {}, {}
        for item in snapshot.items:
            try:
                if item.key == self._keys.layout:
                    self.layout = decode_layout(item.value)
                    self.layout_revision = item.mod_revision
                elif item.key.startswith(self._keys.nodes):
                    node = decode_node(item.value)
                    self.nodes[node.name] = node
                    self.node_revisions[node.name] = item.mod_revision
                    self._touched[node.name] = None
            except RecordError:
                log.exception("topology_unreadable", key=item.key)

    def _take(self, event: Event, state: State) -> None:
        try:
            if event.key == self._keys.layout:
                self.layout = decode_layout(event.item.value) if event.item else Layout()
                self.layout_revision = event.revision if event.item else 0
                state.set_layout(self.layout)
            elif event.key.startswith(self._keys.nodes):
                self._take_node(event, state)
        except RecordError:
            log.exception("topology_unreadable", key=event.key)

    def _take_node(self, event: Event, state: State) -> None:
        if event.item is None:
            name = NodeName(event.key.removeprefix(self._keys.nodes))
            self._touched[name] = None
            self.nodes.pop(name, None)
            self.node_revisions.pop(name, None)
            state.drop_node(name)
        else:
            node = decode_node(event.item.value)
            self._touched[node.name] = None
            self.nodes[node.name] = node
            self.node_revisions[node.name] = event.revision
            state.set_node(node)
