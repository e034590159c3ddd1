"""Metrics of topology.

| name | type, labels | |
|---|---|---|
| romana_topology_networks, _groups, _nodes | gauge | as this replica knows them |
| romana_topology_nodes_unplaced | gauge | nodes in no group |
| romana_topology_watchers | gauge | open WatchTopology streams |
| romana_topology_changes_total | counter: operation, outcome | mutations by how they ended |
| romana_topology_lost_races_total | counter | transactions that another replica or ipam overtook |
"""

from __future__ import annotations

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.common.process.mutation_metrics import Mutations


class Operation(StrEnum):
    APPLY = "apply"
    REGISTER = "register"
    UPDATE = "update"
    DELETE = "delete"
    SETTLE = "settle"


class TopologyMetrics(Mutations[Operation]):
    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers them; every label set exists from the start."""

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"romana_topology_{name}", text, registry=registry)

        self._networks = gauge("networks", "Networks.")
        self._groups = gauge("groups", "Prefix groups.")
        self._nodes = gauge("nodes", "Nodes.")
        self._unplaced = gauge("nodes_unplaced", "Nodes that are in no group.")
        self.watchers = gauge("watchers", "Streams that follow the topology.")
        self.lost_races = Counter(
            "romana_topology_lost_races_total",
            "Transactions that were overtaken and tried again.",
            registry=registry,
        )
        changes = Counter(
            "romana_topology_changes_total",
            "Mutations by how they ended.",
            ["operation", "outcome"],
            registry=registry,
        )
        super().__init__(changes, Operation)

    def show(self, *, networks: int, groups: int, nodes: int, unplaced: int) -> None:
        self._networks.set(networks)
        self._groups.set(groups)
        self._nodes.set(nodes)
        self._unplaced.set(unplaced)
