"""The agent's metrics, all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.agent.endpoints.observers import Operation, Result
from services.agent.kernel.state import Kind
from services.agent.routing.reconcile import Reconciler
from services.agent.routing.reconcile_round import Outcome
from services.common.errors import RomanaError

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class AgentMetrics:
    """Observes the reconciler, the stream, and what happens to endpoints."""

    def __init__(self, registry: CollectorRegistry) -> None:
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
        self._connects = Counter(
            "romana_agent_stream_connects", "Streams to ipam that came about.", registry=registry
        )
        self._disconnects = Counter(
            "romana_agent_stream_disconnects",
            "Streams to ipam that ended or did not come about.",
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
        """A round is done."""
        self._rounds.observe(seconds)
        for kind, count in outcome.operations.items():
            self._operations.labels(kind.value).inc(count)
        for kind, _ in outcome.refused:
            self._refused.labels(kind.value).inc()
        self._repaired.inc(outcome.repaired)
        self.repaired += outcome.repaired

    def failed(self) -> None:
        """A round ended by an error."""
        self._failures.inc()

    def operated(self, operation: Operation, result: Result, seconds: float) -> None:
        """An endpoint was attached or detached, or not."""
        self._endpoints.labels(operation.value, result.value).observe(seconds)

    def conflicted(self) -> None:
        """Somebody else has an address that an endpoint was to get."""
        self._conflicts.inc()

    def connected(self, peer: str) -> None:  # noqa: ARG002 - an address is no label
        """A replica answered."""
        self._connects.inc()

    def disconnected(self, error: RomanaError) -> None:  # noqa: ARG002
        """The stream ended, or did not come about."""
        self._disconnects.inc()


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
        """The gauges."""
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
