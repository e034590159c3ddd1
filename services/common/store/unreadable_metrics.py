"""How many records a service cannot read, for Prometheus: looked at when it is scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.common.store.unreadable import Unreadable, counts


class UnreadableCollector(Collector):
    """`romana_etcd_unreadable_records`, by kind."""

    def __init__(
        self,
        kinds: Sequence[str],
        records: Callable[[], Mapping[str, Unreadable]],
        registry: CollectorRegistry,
    ) -> None:
        """`kinds` are all there can be: they are there from the start."""
        self._kinds = kinds
        self._records = records
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        found = counts(self._records())
        family = GaugeMetricFamily(
            "romana_etcd_unreadable_records",
            "Records of the store that cannot be read.",
            labels=["kind"],
        )
        for kind in self._kinds:
            family.add_metric([kind], found.get(kind, 0))
        return [family]
