"""The agent's metrics, all of them.

Rules of policies are labels here, against the habit that names are none: whoever writes a policy
wants to see what it does, and a node has only the policies that its endpoints need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.agent.endpoints.observers import Operation, Result
from services.agent.kernel.nftables import table_names
from services.agent.kernel.state import Kind
from services.agent.routing.reconcile import Reconciler
from services.agent.routing.reconcile_round import Outcome
from services.agent.rules.device_chains import LegCounted, RuleCopied, RuleLed
from services.agent.rules.enforce import Enforcement
from services.agent.rules.render_rules import Counted
from services.common.errors import RomanaError

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class StreamMetrics:
    """Observes a stream from a service."""

    def __init__(self, connects: Counter, disconnects: Counter) -> None:
        self._connects = connects
        self._disconnects = disconnects

    def connected(self, peer: str) -> None:  # noqa: ARG002 - an address is no label
        self._connects.inc()

    def disconnected(self, error: RomanaError) -> None:  # noqa: ARG002
        self._disconnects.inc()


class AgentMetrics(StreamMetrics):
    """Observes the reconciler, the stream, and what happens to endpoints."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(
            Counter(
                "romana_agent_stream_connects",
                "Streams to ipam that came about.",
                registry=registry,
            ),
            Counter(
                "romana_agent_stream_disconnects",
                "Streams to ipam that ended or did not come about.",
                registry=registry,
            ),
        )
        self._rounds = Histogram(
            "romana_agent_reconcile_seconds",
            "Time of a comparison with the kernel and its repair.",
            buckets=BUCKETS,
            registry=registry,
        )
        self._failures = Counter(
            "romana_agent_reconcile_failures",
            "Comparisons that ended by an error.",
            registry=registry,
        )
        self._operations = Counter(
            "romana_agent_kernel_operations",
            "Objects added, replaced or removed in the kernel.",
            ["kind"],
            registry=registry,
        )
        self._refused = Counter(
            "romana_agent_kernel_refusals",
            "Operations that the kernel refused.",
            ["kind"],
            registry=registry,
        )
        self._repaired = Counter(
            "romana_agent_repaired_objects",
            "Objects that somebody else had changed and that were put right.",
            registry=registry,
        )
        self._conflicts = Counter(
            "romana_agent_address_conflicts",
            "Addresses that somebody else on the link turned out to have.",
            registry=registry,
        )
        self._endpoints = Histogram(
            "romana_agent_endpoint_seconds",
            "Time of attaching and detaching an endpoint.",
            ["operation", "outcome"],
            buckets=BUCKETS,
            registry=registry,
        )
        self.repaired = 0
        """Objects that were put right since the start."""
        for kind in Kind:
            self._operations.labels(kind.value)
            self._refused.labels(kind.value)
        for operation in Operation:
            for result in Result:
                self._endpoints.labels(operation.value, result.value)

    def reconciled(self, outcome: Outcome, seconds: float) -> None:
        self._rounds.observe(seconds)
        for kind, count in outcome.operations.items():
            self._operations.labels(kind.value).inc(count)
        for kind, _ in outcome.refused:
            self._refused.labels(kind.value).inc()
        self._repaired.inc(outcome.repaired)
        self.repaired += outcome.repaired

    def failed(self) -> None:
        self._failures.inc()

    def operated(self, operation: Operation, result: Result, seconds: float) -> None:
        self._endpoints.labels(operation.value, result.value).observe(seconds)

    def conflicted(self) -> None:
        self._conflicts.inc()


class PolicyMetrics(StreamMetrics):
    """Observes enforcement and the stream of rules."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(
            Counter(
                "romana_agent_policy_stream_connects",
                "Streams to policy that came about.",
                registry=registry,
            ),
            Counter(
                "romana_agent_policy_stream_disconnects",
                "Streams to policy that ended or did not come about.",
                registry=registry,
            ),
        )
        self._seconds = Histogram(
            "romana_agent_policy_transaction_seconds",
            "Time of a change of the table of rules.",
            buckets=BUCKETS,
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

    def enforced(self, seconds: float) -> None:
        self._seconds.observe(seconds)

    def enforcement_failed(self) -> None:
        self._failures.inc()

    def table_repaired(self) -> None:
        self._repairs.inc()

    def cut(self, connections: int) -> None:
        self._cut.inc(connections)


class AgentCollector(Collector):
    """What is the case now, read when it is asked for."""

    def __init__(
        self,
        reconciler: Reconciler,
        connected: Callable[[], bool],
        disowned: Callable[[], int],
        removed: Callable[[], bool],
        registry: CollectorRegistry,
    ) -> None:
        """Asked at every scrape.

        Args:
            reconciler: Of the node.
            connected: There is a stream to ipam.
            disowned: How many endpoints have addresses that ipam has not for them.
            removed: Somebody has removed this node.
            registry: Where it is registered.
        """
        self._reconciler = reconciler
        self._connected = connected
        self._disowned = disowned
        self._removed = removed
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        reconciler = self._reconciler
        for name, text, value in (
            ("romana_agent_ready", "The kernel holds what is asked for.", reconciler.ready),
            ("romana_agent_in_sync", "It is known what is asked for.", reconciler.in_sync),
            ("romana_agent_stream_connected", "There is a stream to ipam.", self._connected()),
            ("romana_agent_endpoints", "Endpoints on this node.", len(reconciler.endpoints)),
            ("romana_agent_routes", "Routes of ours in the kernel.", reconciler.routes),
            (
                "romana_agent_failing_resources",
                "Resources that the kernel does not hold.",
                len(reconciler.troubles),
            ),
            (
                "romana_agent_disowned_endpoints",
                "Endpoints with addresses that ipam has not for them.",
                self._disowned(),
            ),
            ("romana_agent_node_removed", "Somebody has removed this node.", self._removed()),
        ):
            yield GaugeMetricFamily(name, text, value=float(value))


class PolicyCollector(Collector):
    """What is the case now, and what the kernel has counted."""

    def __init__(
        self, enforcement: Enforcement, connected: Callable[[], bool], registry: CollectorRegistry
    ) -> None:
        self._enforcement = enforcement
        self._connected = connected
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
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
        copied = CounterMetricFamily(
            "romana_agent_policy_copied_packets",
            "Packets of which a rule had a copy made for a device, both directions.",
            labels=("policy", "direction", "rule", "group"),
        )
        for name, counted in self._enforcement.counted.items():
            if isinstance(counted, RuleCopied):
                rule = counted.policy, counted.direction.value, counted.rule, counted.group
                copied.add_metric(rule, counts.get(name, (0, 0))[0])
        unknown = GaugeMetricFamily(
            "romana_agent_policy_unknown_devices",
            "Devices on networks of this node that have never answered: nothing is sent to them.",
            value=self._enforcement.unknown_devices,
        )
        yield from (by_rule, by_device, copied, unknown)
