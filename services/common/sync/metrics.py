"""What a service tells Prometheus of agents' streams."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.common.sync.hub import Hub

PHASES = ("snapshot", "snapshot_end", "delta")
STARTS = ("resumed", "snapshot")
STATES = ("connected", "behind", "failing")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class SyncMetrics:
    """Counters and histograms, and the observer of the hub."""

    def __init__(self, service: str, registry: CollectorRegistry) -> None:
        messages = Counter(
            f"romana_{service}_sync_messages",
            "Responses to agents, by phase.",
            ["phase"],
            registry=registry,
        )
        self._messages = {phase: messages.labels(phase) for phase in PHASES}
        starts = Counter(
            f"romana_{service}_sync_starts",
            "How agents were brought up to date: resumed where they were, or by a snapshot.",
            ["kind"],
            registry=registry,
        )
        self._starts = {kind: starts.labels(kind) for kind in STARTS}
        self._lag = Histogram(
            f"romana_{service}_sync_lag_seconds",
            "From a change to the acknowledgment that an agent has applied it.",
            buckets=SECONDS,
            registry=registry,
        )

    def begun(self, *, resumed: bool) -> None:
        """An agent was resumed, or got a snapshot."""
        self._starts["resumed" if resumed else "snapshot"].inc()

    def sent(self, phase: str) -> None:
        self._messages[phase].inc()

    def applied(self, seconds: float) -> None:
        self._lag.observe(seconds)


class AgentCollector(Collector):
    """Counts agents when it is scraped."""

    def __init__(self, service: str, hub: Hub, registry: CollectorRegistry) -> None:
        self._name = f"romana_{service}_agents"
        self._hub = hub
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Agents with a stream to this replica, each in one state."""
        counts = dict.fromkeys(STATES, 0)
        for stream in self._hub.streams:
            if stream.sender.failures:
                counts["failing"] += 1
            elif stream.is_behind:
                counts["behind"] += 1
            else:
                counts["connected"] += 1
        agents = GaugeMetricFamily(
            self._name,
            "Agents with a stream to this replica: failing ones could not apply something, those "
            "behind take long to apply what they were sent, the others are just connected.",
            labels=["state"],
        )
        for state, count in counts.items():
            agents.add_metric([state], count)
        return [agents]
