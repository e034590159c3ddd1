"""What ipam knows of the topology: fed by a watch, handed to the ledger when nothing is pending.

Changes of areas must not happen between a decision and its transaction, so batches queue up here
until `catch_up`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection

from services.common.etcd.keys import Keys
from services.common.etcd.types import WatchBatch
from services.common.model.names import NodeName
from services.common.store.topology_view import TopologyDifference, TopologyView
from services.ipam.ledger.ledger import Ledger


class TopologyFeed:
    """The view that decisions are made by, and what has not reached it yet."""

    def __init__(self, keys: Keys) -> None:
        self.view = TopologyView(keys)
        self._queue: deque[WatchBatch] = deque()
        self.on_change: Callable[[], None] | None = None
        """Called when the ledger was given something new, and holds nothing undecided."""
        self._touched: dict[NodeName, None] = {}

    @property
    def in_sync(self) -> bool:
        """A snapshot has been taken over, with a layout that could be read."""
        return self.view.in_sync

    def push(self, batch: WatchBatch) -> None:
        """Takes a batch of the watch; `catch_up` makes it count."""
        self._queue.append(batch)

    def fill(self, ledger: Ledger) -> None:
        """Hands all that is known to a new ledger."""
        ledger.nodes = dict(self.view.nodes)
        ledger.unreadable_nodes = self.view.blank()
        ledger.set_layout(self.view.layout)

    @property
    def is_behind(self) -> bool:
        """Says whether something was pushed that `catch_up` has not handed on."""
        return bool(self._queue)

    def catch_up(self, ledger: Ledger) -> set[NodeName]:
        """Hands the next batch of those that were pushed to the ledger, if there is one.

        Returns nodes that are gone, or removed by force. Not while decisions are pending.
        """
        if not self._queue:
            return set()
        first = not self.view.revision
        difference = self.view.apply_batch(self._queue.popleft())
        if first:
            self.fill(ledger)
        else:
            self._hand_on(difference, ledger)
        self._touched.update(dict.fromkeys(sorted(difference.nodes | difference.gone)))
        if self.on_change is not None:
            self.on_change()
        gone = difference.gone | difference.removed
        return {name for name in gone if not self.view.exists(name)}

    def _hand_on(self, difference: TopologyDifference, ledger: Ledger) -> None:
        ledger.unreadable_nodes = self.view.blank()
        if difference.layout:
            ledger.set_layout(self.view.layout)
        for name in sorted(difference.gone):
            ledger.drop_node(name)
        for name in sorted(difference.nodes):
            ledger.set_node(self.view.nodes[name])

    def drain_touched(self) -> Collection[NodeName]:
        """Nodes that may have changed in the ledger since this was called."""
        touched, self._touched = self._touched, {}
        return touched
