"""What this replica knows of the store: the topology, and what ipam has in use.

Fed by watches, in whole transactions. What cannot be read of either stays as it was, and nothing is
removed that it may stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.common.etcd.keys import Keys
from services.common.etcd.types import KeyValue, Snapshot, WatchBatch
from services.common.model.names import NetworkName, NodeName
from services.common.model.node import Node
from services.common.records.blocks import PAGE_BITS, BlockPage, decode_page
from services.common.records.errors import RecordError
from services.common.store.topology_view import KINDS as TOPOLOGY_KINDS
from services.common.store.topology_view import TopologyDifference, TopologyView
from services.common.store.unreadable import Unreadable, UnreadableRecords
from services.topology.layout.node_index import NodeIndex
from services.topology.layout.usage import PageUse, Usage

PAGE: Final = "page"
KINDS: Final = (*TOPOLOGY_KINDS, PAGE)
"""Of records that may be unreadable."""


class TopologyCache(TopologyView):
    """Layout and nodes at one revision, with what placing a node needs to know of them."""

    def __init__(self, keys: Keys, on_change: Callable[[TopologyDifference], None]) -> None:
        super().__init__(keys)
        self._on_change = on_change
        self.group_count = 0
        """On all levels."""
        self.node_index = NodeIndex(self.layout)
        """Of `nodes` in `layout`."""
        self._counted: dict[NodeName, Node] = {}
        """The nodes that the index has."""

    def apply_batch(self, batch: WatchBatch) -> TopologyDifference:
        difference = super().apply_batch(batch)
        if difference.layout:
            self.group_count = sum(1 for one in self.layout.topologies for _ in one.walk())
            self.node_index = NodeIndex(self.layout, self.nodes.values())
            self._counted = dict(self.nodes)
        else:
            for name in difference.nodes | difference.gone:
                self._count(name)
        if difference:
            self._on_change(difference)
        return difference

    def _count(self, name: NodeName) -> None:
        before = self._counted.pop(name, None)
        if before is not None:
            self.node_index.remove(before)
        node = self.nodes.get(name)
        if node is not None:
            self.node_index.add(node)
            self._counted[name] = node


class UsageCache:
    """Addresses in use, by block."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.usage = Usage()
        self.unreadable = UnreadableRecords()
        """Pages of which nobody knows what is in use in them."""

    def take(self, batch: WatchBatch) -> None:
        """Takes over a batch of the watch of all that ipam writes."""
        if isinstance(batch, Snapshot):
            before, self.usage = self.usage, Usage()
            for key in self.unreadable.keys() - {item.key for item in batch.items}:
                self.unreadable.discard(key)
            for item in batch.items:
                self._put(item.key, item, before)
        else:
            for event in batch.events:
                self._put(event.key, event.item, self.usage)

    def network(self, key: str) -> NetworkName:
        """That of a page's key, however the rest is spelt."""
        return NetworkName(key.removeprefix(self._keys.blocks).partition("/")[0])

    def _put(self, key: str, item: KeyValue | None, known: Usage) -> None:
        """What was `known` of a page stays if it cannot be read."""
        if not key.startswith(self._keys.blocks):
            return
        try:
            place = self._keys.parse_block(key)
        except ValueError as error:
            self._note(key, item, error)
            return
        use = None
        if item is not None:
            try:
                page = decode_page(item.value)
            except RecordError as error:
                self._note(key, item, error)
                use = known.page(place.network, place.base, place.page)
            else:
                self._note(key, None)
                first = place.page << PAGE_BITS
                offsets = sum({1 << use.offset - first for use in page.used if use.offset >= first})
                home = NodeName(page.node)
                use = PageUse(
                    page.length, place.bits, home, offsets, _elsewhere(page), _visited(page)
                )
        else:
            self._note(key, None)
        self.usage.put(place.network, place.base, place.page, use)

    def _note(self, key: str, item: KeyValue | None, error: ValueError | None = None) -> None:
        """Says whether a key is there and cannot be read."""
        if item is None:
            self.unreadable.discard(key)
        else:
            self.unreadable.add(key, Unreadable(PAGE, str(error), item.mod_revision))


def _visited(page: BlockPage) -> tuple[NodeName, ...]:
    """Other nodes that its addresses are on."""
    return tuple(NodeName(visit.node) for visit in page.visits if visit.node != page.node)


def _elsewhere(page: BlockPage) -> tuple[NodeName, ...]:
    """Other nodes that its addresses are on, or moving to."""
    nodes = (node for visit in page.visits for node in (visit.node, visit.to))
    return tuple(NodeName(node) for node in nodes if node and node != page.node)
