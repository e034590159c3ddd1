"""What there is of policies, for Prometheus: looked at when it is scraped."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.policy.agents.streams import RuleStreams
from services.policy.store.store import PolicyStore


class PolicyCollector(Collector):
    """Looks at what there is when it is scraped."""

    def __init__(
        self, store: PolicyStore, rule_streams: RuleStreams, registry: CollectorRegistry
    ) -> None:
        self._store = store
        self._rule_streams = rule_streams
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        engine, rule_streams = self._store.engine, self._rule_streams
        totals = (
            ("policies", "Policies.", len(self._store.feed.policies)),
            ("tenants", "Tenants of which something is known.", len(engine.tenants)),
            ("endpoints", "Endpoints, attached or not.", len(engine.endpoints)),
            (
                "disputed_endpoints",
                "Endpoints that agents report and ipam says otherwise of: they are not believed.",
                len(self._store.feed.disputed),
            ),
            ("nodes", "Nodes.", len(engine.nodes)),
            ("rule_sets", "Rule sets that some node needs.", rule_streams.rule_sets),
            (
                "groups",
                "Address groups that some node needs, without empty ones.",
                rule_streams.groups,
            ),
        )
        for name, text, value in totals:
            yield GaugeMetricFamily(f"romana_policy_{name}", text, value)
        yield from self._devices()

    def _devices(self) -> Iterable[Metric]:
        groups = GaugeMetricFamily(
            "romana_policy_device_group_down",
            "Whether too few devices of a group are up.",
            labels=("group",),
        )
        devices = GaugeMetricFamily(
            "romana_policy_device_up",
            "Whether a device is up on a network.",
            labels=("group", "device", "network"),
        )
        for group in self._store.engine.devices.values():
            groups.add_metric((group.name,), group.is_down)
            for leg in group.legs:
                devices.add_metric((group.name, leg.device, leg.network), leg.is_up)
        yield from (groups, devices)
