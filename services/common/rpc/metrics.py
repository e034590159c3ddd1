"""Metrics of the calls that a server serves.

| name | type, labels | |
|---|---|---|
| romana_rpc_started_total | counter: method | |
| romana_rpc_handled_total | counter: method, code | ended, by gRPC code |
| romana_rpc_in_flight | gauge: method | |
| romana_rpc_duration_seconds | histogram: method | unary only: a stream's life is no latency |
| romana_rpc_errors_unexpected_total | counter: method | exceptions that are none of ours: bugs |

`method` is `package.Service/Method`.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator

import grpc
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds. From one etcd transaction (about 1 ms) to a deadline."""

EXPECTED_FAILURES = (
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
)
"""Those that our own errors and callers lead to: they exist, as 0, from the start."""


class RpcMetrics(Collector):
    """The families, once per registry.

    A collector of plain numbers: prometheus-client's own counters take a lock at each step, which
    one event loop does not need, and six of them a call are a good part of the shell's cost.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._methods: list[MethodMetrics] = []
        registry.register(self)

    def of(self, method: str, *, unary: bool) -> MethodMetrics:
        """Those of one method; exposed from now on."""
        metrics = MethodMetrics(method, unary=unary)
        self._methods.append(metrics)
        return metrics

    def collect(self) -> Iterator[Metric]:
        label = ["method"]
        started = CounterMetricFamily("romana_rpc_started", "Calls begun.", labels=label)
        handled = CounterMetricFamily(
            "romana_rpc_handled", "Calls ended.", labels=["method", "code"]
        )
        in_flight = GaugeMetricFamily("romana_rpc_in_flight", "Calls being served.", labels=label)
        duration = HistogramMetricFamily(
            "romana_rpc_duration_seconds", "Time to serve a unary call.", labels=label
        )
        unexpected = CounterMetricFamily(
            "romana_rpc_errors_unexpected",
            "Calls that ended by an exception that is not one of the API's errors.",
            labels=label,
        )
        for metrics in self._methods:
            name = [metrics.method]
            started.add_metric(name, metrics.started)
            in_flight.add_metric(name, metrics.started - sum(metrics.handled().values()))
            unexpected.add_metric(name, metrics.unexpected)
            for code, count in metrics.handled().items():
                handled.add_metric([metrics.method, code.name], count)
            if metrics.unary:
                counts = itertools.accumulate(metrics.buckets)
                bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
                duration.add_metric(name, list(zip(bounds, counts, strict=True)), metrics.seconds)
        yield from (started, handled, in_flight, duration, unexpected)


class MethodMetrics:
    __slots__ = (
        "buckets",
        "failed",
        "method",
        "seconds",
        "started",
        "succeeded",
        "unary",
        "unexpected",
    )

    def __init__(self, method: str, *, unary: bool) -> None:
        """All of them are 0."""
        self.method = method
        self.unary = unary
        self.started = 0
        self.succeeded = 0
        self.failed = dict.fromkeys(EXPECTED_FAILURES, 0)
        self.unexpected = 0
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def handled(self) -> dict[grpc.StatusCode, int]:
        return {grpc.StatusCode.OK: self.succeeded, **self.failed}

    def ended(self, code: grpc.StatusCode, seconds: float) -> None:
        """Counts a call's end; its begin is `started += 1`."""
        if code is grpc.StatusCode.OK:
            self.succeeded += 1  # apart, because hashing an enum's member is a call in Python
        else:
            self.failed[code] = self.failed.get(code, 0) + 1
        if self.unary:
            self.buckets[bisect.bisect_left(BUCKETS, seconds)] += 1
            self.seconds += seconds
