"""What is counted of requests to the store: by each client, and for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram

OPERATIONS = ("get", "range", "transact", "grant_lease", "revoke_lease")
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@dataclass(slots=True)
class StoreCounters:
    """Totals since the client was made."""

    requests: int = 0
    """Calls of the client's methods; a retried one counts once."""
    failures: int = 0
    """Of these, those that raised."""
    reconnects: int = 0
    """Moves to another endpoint, and streams that had to be opened again."""
    regressions: int = 0
    """Answers that were not believed: another cluster's, or from before what was seen."""


class RequestObserver(Protocol):
    def observe(self, operation: str, seconds: float, *, ok: bool) -> None:
        """Takes the client's method name and how long it took, retries included."""


class NoRequestObserver:
    def observe(self, operation: str, seconds: float, *, ok: bool) -> None:
        pass


class StoreMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers `romana_etcd_request_seconds` and `romana_etcd_request_failures_total`."""
        self._seconds = Histogram(
            "romana_etcd_request_seconds",
            "How long requests to etcd took, retries included.",
            ["operation"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._failures = Counter(
            "romana_etcd_request_failures",
            "Requests to etcd that failed.",
            ["operation"],
            registry=registry,
        )
        for operation in OPERATIONS:
            self._failures.labels(operation)
        self._by_operation = {name: self._seconds.labels(name) for name in OPERATIONS}
        """Asking for a label takes longer than counting."""

    def observe(self, operation: str, seconds: float, *, ok: bool) -> None:
        known = self._by_operation.get(operation) or self._seconds.labels(operation)
        known.observe(seconds)
        if not ok:
            self._failures.labels(operation).inc()
