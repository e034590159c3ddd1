"""Metrics of policy on a node, all of them.

Rules of policies are labels here, against the habit that names are none: whoever writes a policy
wants to see what it does, and a node has only the policies that its endpoints need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.agent.kernel.nftables import table_names
from services.agent.rules.enforce import Enforcement
from services.agent.rules.render_devices import LegCounted, RuleLed
from services.agent.rules.render_rules import Counted
from services.common.errors import RomanaError

_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class PolicyMetrics:
    """Observes enforcement and the stream of rules."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "romana_agent_policy_transaction_seconds",
            "Time of a change of the table of rules.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._failures = Counter(
            "romana_agent_policy_failures",
            "Changes of the table of rules that the kernel refused.",
            registry=registry,
        )
        self._repairs = Counter(
            "romana_agent_policy_repairs",
            "Times that somebody else had changed the table of rules and it was put right.",
            registry=registry,
        )
        self._cut = Counter(
            "romana_agent_policy_cut_connections",
            "Connections that were ended because a rule denies them now.",
            registry=registry,
        )
        self._connects = Counter(
            "romana_agent_policy_stream_connects",
            "Streams to policy that came about.",
            registry=registry,
        )
        self._disconnects = Counter(
            "romana_agent_policy_stream_disconnects",
            "Streams to policy that ended or did not come about.",
            registry=registry,
        )

    def enforced(self, seconds: float) -> None:
        """A transaction was applied."""
        self._seconds.observe(seconds)

    def enforcement_failed(self) -> None:
        """One was refused."""
        self._failures.inc()

    def table_repaired(self) -> None:
        """The table was put right."""
        self._repairs.inc()

    def cut(self, connections: int) -> None:
        """Connections were ended."""
        self._cut.inc(connections)

    def connected(self, peer: str) -> None:  # noqa: ARG002 - an address is no label
        """A replica answered."""
        self._connects.inc()

    def disconnected(self, error: RomanaError) -> None:  # noqa: ARG002
        """The stream ended, or did not come about."""
        self._disconnects.inc()


class PolicyCollector(Collector):
    """What is the case now, and what the kernel has counted."""

    def __init__(
        self, enforcement: Enforcement, connected: Callable[[], bool], registry: CollectorRegistry
    ) -> None:
        self._enforcement = enforcement
        self._connected = connected
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Gauges and counters."""
        enforcement = self._enforcement
        for name, text, value in (
            ("stream_connected", "There is a stream to policy.", float(self._connected())),
            ("open_endpoints", "Endpoints that have their rules.", enforcement.open_endpoints),
            ("rule_sets", "Rule sets that are known.", enforcement.rule_sets),
            ("groups", "Address groups with members.", enforcement.groups),
        ):
            yield GaugeMetricFamily(f"romana_agent_policy_{name}", text, value=value)
        yield from self._counted()

    def _counted(self) -> Iterator[Metric]:
        labels = ("policy", "direction", "rule")
        packets = CounterMetricFamily(
            "romana_agent_policy_rule_packets",
            "Packets that a rule decided about: the first ones of connections.",
            labels=labels,
        )
        sizes = CounterMetricFamily(
            "romana_agent_policy_rule_bytes", "The same in bytes.", labels=labels
        )
        drops = CounterMetricFamily(
            "romana_agent_policy_dropped_packets",
            "Packets that were dropped, but by no rule.",
            labels=("reason",),
        )
        counts = self._enforcement.counts
        for reason in table_names.DROPS:
            drops.add_metric((reason,), counts.get(reason, (0, 0))[0])
        for name, counted in self._enforcement.counted.items():
            if isinstance(counted, Counted) and name in counts:
                values = (counted.policy, counted.direction.value, counted.rule)
                packets.add_metric(values, counts[name][0])
                sizes.add_metric(values, counts[name][1])
        yield from (packets, sizes, drops)
        yield from self._led()

    def _led(self) -> Iterator[Metric]:
        by_rule = CounterMetricFamily(
            "romana_agent_policy_led_packets",
            "Packets that a rule led through devices, as connections began.",
            labels=("policy", "direction", "rule", "group"),
        )
        by_device = CounterMetricFamily(
            "romana_agent_policy_device_packets",
            "Packets that were sent to a device, both directions of connections.",
            labels=("group", "device", "network"),
        )
        counts = self._enforcement.counts
        for name, counted in self._enforcement.counted.items():
            packets = counts.get(name, (0, 0))[0]
            if isinstance(counted, RuleLed):
                rule = counted.policy, counted.direction.value, counted.rule, counted.group
                by_rule.add_metric(rule, packets)
            elif isinstance(counted, LegCounted):
                by_device.add_metric((counted.group, counted.device, counted.network), packets)
        unknown = GaugeMetricFamily(
            "romana_agent_policy_unknown_devices",
            "Devices on networks of this node that have never answered: nothing is sent to them.",
            value=self._enforcement.unknown_devices,
        )
        yield from (by_rule, by_device, unknown)
