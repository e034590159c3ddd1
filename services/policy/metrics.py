"""What policy tells Prometheus.

| name | type, labels | |
|---|---|---|
| romana_policy_policies, _tenants, _endpoints, _nodes | gauge | as this replica knows them |
| romana_policy_rule_sets, _groups | gauge | in use, on any node |
| romana_policy_unreadable | gauge: kind | records of the store that cannot be read |
| romana_policy_recompute_seconds | histogram | from a change that was seen to what nodes get |
| romana_policy_changes_total | counter: operation, outcome | mutations by how they ended |
| romana_policy_sync_..., romana_policy_agents | | `services.common.sync.metrics` |
"""

from __future__ import annotations

from collections import Counter as Counted
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.common.errors import RomanaError, Unavailable
from services.policy.feed import KINDS
from services.policy.store import PolicyStore
from services.policy.syncing import Syncing


class Operation(StrEnum):
    """What was to be done."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    APPLY = "apply"
    TENANT = "tenant"
    ENDPOINT = "endpoint"
    REPORT = "report"


class Result(StrEnum):
    """How it ended."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    VALIDATED = "validated"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


class PolicyMetrics:
    """Counters and histograms; every label set exists from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._changes = Counter(
            "romana_policy_changes",
            "Mutations by how they ended.",
            ["operation", "outcome"],
            registry=registry,
        )
        for operation in Operation:
            for result in Result:
                self._changes.labels(operation.value, result.value)

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


class PolicyCollector(Collector):
    """Looks at what there is when it is scraped."""

    def __init__(self, store: PolicyStore, syncing: Syncing, registry: CollectorRegistry) -> None:
        self._store = store
        self._syncing = syncing
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """All gauges."""
        engine, syncing = self._store.engine, self._syncing
        counts = (
            ("policies", "Policies.", len(self._store.feed.policies)),
            ("tenants", "Tenants of which something is known.", len(engine.tenants)),
            ("endpoints", "Endpoints, attached or not.", len(engine.endpoints)),
            ("nodes", "Nodes.", len(engine.nodes)),
            ("rule_sets", "Rule sets that some node needs.", syncing.rule_sets),
            ("groups", "Address groups that some node needs, without empty ones.", syncing.groups),
        )
        for name, text, value in counts:
            yield GaugeMetricFamily(f"romana_policy_{name}", text, value)
        unreadable = Counted(self._store.unreadable.values())
        family = GaugeMetricFamily(
            "romana_policy_unreadable",
            "Records of the store that cannot be read, and are ignored.",
            labels=["kind"],
        )
        for kind in KINDS:
            family.add_metric([kind], unreadable[kind])
        yield family
