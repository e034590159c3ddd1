"""Hands what is known of networks and nodes to the engine."""

from __future__ import annotations

from collections.abc import Callable, Collection

from services.common.etcd.keys import Keys
from services.common.etcd.types import WatchBatch
from services.common.model.names import NodeName
from services.common.model.network import Mode, Network
from services.common.model.node import Node
from services.common.store.topology_view import TopologyView
from services.policy.engine.engine import Engine
from services.policy.model import PolicyNetwork, PolicyNode


class TopologyFeed:
    def __init__(
        self, keys: Keys, engine: Engine, on_nodes: Callable[[Collection[NodeName]], None]
    ) -> None:
        """`on_nodes` is told of nodes that came or went."""
        self.view = TopologyView(keys)
        self._engine = engine
        self._on_nodes = on_nodes

    def apply_batch(self, batch: WatchBatch) -> None:
        view, engine = self.view, self._engine
        difference = view.apply_batch(batch)
        if difference.layout:
            engine.set_networks({one.name: _network(one) for one in view.layout.networks})
        for name in sorted(difference.gone):
            engine.drop_node(name)
        # One of which nothing could be read has what is attached to it all the same.
        for name in sorted(difference.appeared - difference.nodes):
            engine.put_node(PolicyNode(name))
        for name in sorted(difference.nodes):
            engine.put_node(_node(view.nodes[name]))
        if moved := difference.gone | difference.appeared:
            self._on_nodes(sorted(moved))


def _network(network: Network) -> PolicyNetwork:
    return PolicyNetwork(
        network.name,
        network.cidr,
        network.isolation,
        network.masquerade,
        network.gateway,
        is_onlink=network.mode is Mode.ONLINK,
    )


def _node(node: Node) -> PolicyNode:
    return PolicyNode(node.name, node.labels, node.addresses)
