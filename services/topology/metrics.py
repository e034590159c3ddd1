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

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.common.errors import RomanaError, Unavailable
from services.topology.cache import TopologyCache


class Operation(StrEnum):
    """What was to be done."""

    APPLY = "apply"
    REGISTER = "register"
    UPDATE = "update"
    DELETE = "delete"
    SETTLE = "settle"


class Result(StrEnum):
    """How it ended."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    VALIDATED = "validated"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


class TopologyMetrics:
    """The families, once per registry."""

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
        self._changes = Counter(
            "romana_topology_changes_total",
            "Mutations by how they ended.",
            ["operation", "outcome"],
            registry=registry,
        )
        for operation in Operation:
            for result in Result:
                self._changes.labels(operation.value, result.value)

    def show(self, cache: TopologyCache) -> None:
        """Sets the gauges."""
        self._networks.set(len(cache.layout.networks))
        self._groups.set(cache.group_count)
        self._nodes.set(len(cache.nodes))
        self._unplaced.set(cache.roster.unplaced)

    def count(self, operation: Operation, result: Result) -> None:
        """Counts a mutation."""
        self._changes.labels(operation.value, result.value).inc()

    @contextmanager
    def refusals(self, operation: Operation) -> Iterator[None]:
        """Counts what is raised."""
        try:
            yield
        except Unavailable:
            self.count(operation, Result.UNAVAILABLE)
            raise
        except RomanaError:
            self.count(operation, Result.REFUSED)
            raise
