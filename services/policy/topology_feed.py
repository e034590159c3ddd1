"""What this replica knows of networks and nodes: fed by a watch of topology's records."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import structlog

from services.common.etcd.keys import Keys
from services.common.etcd.types import KeyValue, Snapshot, WatchBatch
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.model.network import Network
from services.common.model.node import Node
from services.common.records.errors import RecordError
from services.common.records.layout import decode_layout, decode_node
from services.policy.engine import Engine
from services.policy.model import PolicyNetwork, PolicyNode

log = structlog.get_logger(__name__)

_NOTHING: Final = Layout()


class TopologyFeed:
    """Hands networks and nodes to the engine."""

    def __init__(
        self, keys: Keys, engine: Engine, on_nodes: Callable[[Collection[NodeName]], None]
    ) -> None:
        """`on_nodes` is told of nodes that came or went."""
        self._keys = keys
        self._engine = engine
        self._on_nodes = on_nodes
        self.unreadable: dict[str, str] = {}
        """Keys of records that cannot be read, and their kinds. What was read before counts on."""

    def take(self, batch: WatchBatch) -> None:
        """Takes a batch of the watch."""
        moved: list[NodeName] = []
        if isinstance(batch, Snapshot):
            there = {item.key for item in batch.items}
            for name in tuple(self._engine.nodes):
                if self._keys.node(name) not in there:
                    self._take_node(name, None, moved)
            if self._keys.layout not in there:
                self._take_layout(None)
            items: list[tuple[str, KeyValue | None]] = [(item.key, item) for item in batch.items]
        else:
            items = [(event.key, event.item) for event in batch.events]
        for key, item in items:
            self._take(key, item, moved)
        if moved:
            self._on_nodes(moved)

    def _take(self, key: str, item: KeyValue | None, moved: list[NodeName]) -> None:
        keys = self._keys
        kind = "layout" if key == keys.layout else "node"
        if key != keys.layout and not key.startswith(keys.nodes):
            return
        self.unreadable.pop(key, None)
        try:
            if kind == "layout":
                self._take_layout(item)
            else:
                self._take_node(NodeName(key.removeprefix(keys.nodes)), item, moved)
        except RecordError:
            self.unreadable[key] = kind
            log.exception("topology_unreadable", key=key)

    def _take_layout(self, item: KeyValue | None) -> None:
        layout = decode_layout(item.value) if item is not None else _NOTHING
        self._engine.set_networks({one.name: _network(one) for one in layout.networks})

    def _take_node(self, name: NodeName, item: KeyValue | None, moved: list[NodeName]) -> None:
        known = name in self._engine.nodes
        if item is None:
            self._engine.drop_node(name)
        else:
            self._engine.put_node(_node(decode_node(item.value)))
        if known != (item is not None):
            moved.append(name)


def _network(network: Network) -> PolicyNetwork:
    return PolicyNetwork(
        network.name, network.cidr, network.isolation, network.masquerade, network.gateway
    )


def _node(node: Node) -> PolicyNode:
    addresses = (node.address, *(attachment.address for attachment in node.attachments))
    return PolicyNode(
        node.name,
        node.labels,
        tuple(dict.fromkeys(address for address in addresses if address is not None)),
    )
