"""Metrics of the calls that a server serves.

| name | type, labels | |
|---|---|---|
| romana_rpc_started_total | counter: method | |
| romana_rpc_handled_total | counter: method, code | ended, by gRPC code |
| romana_rpc_in_flight | gauge: method | |
| romana_rpc_duration_seconds | histogram: method | unary only: a stream's life is no latency |
| romana_rpc_errors_unexpected_total | counter: method | exceptions that are none of ours: bugs |

`method` is `package.Service/Method`. Children are looked up once, when a method is registered.
"""

from __future__ import annotations

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds. From one etcd transaction (about 1 ms) to a deadline."""

EXPECTED_CODES = (
    grpc.StatusCode.OK,
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


class RpcMetrics:
    """The families, once per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers them."""
        self.started = Counter(
            "romana_rpc_started_total", "Calls begun.", ["method"], registry=registry
        )
        self.handled = Counter(
            "romana_rpc_handled_total", "Calls ended.", ["method", "code"], registry=registry
        )
        self.in_flight = Gauge(
            "romana_rpc_in_flight", "Calls being served.", ["method"], registry=registry
        )
        self.duration = Histogram(
            "romana_rpc_duration_seconds",
            "Time to serve a unary call.",
            ["method"],
            buckets=BUCKETS,
            registry=registry,
        )
        self.unexpected = Counter(
            "romana_rpc_errors_unexpected_total",
            "Calls that ended by an exception that is not one of the API's errors.",
            ["method"],
            registry=registry,
        )

    def of(self, method: str, *, unary: bool) -> MethodMetrics:
        """The children of one method."""
        return MethodMetrics(self, method, unary=unary)


class MethodMetrics:
    """One method's children."""

    def __init__(self, families: RpcMetrics, method: str, *, unary: bool) -> None:
        """Makes all of them, so that they are exposed before the first call."""
        self._families = families
        self._method = method
        self._started = families.started.labels(method)
        self._in_flight = families.in_flight.labels(method)
        self._unexpected = families.unexpected.labels(method)
        self._duration = families.duration.labels(method) if unary else None
        self._handled = {
            code: families.handled.labels(method, code.name) for code in EXPECTED_CODES
        }

    def began(self) -> None:
        """Counts a call."""
        self._started.inc()
        self._in_flight.inc()

    def ended(self, code: grpc.StatusCode, seconds: float) -> None:
        """Counts its end."""
        self._in_flight.dec()
        handled = self._handled.get(code)
        if handled is None:
            handled = self._handled[code] = self._families.handled.labels(self._method, code.name)
        handled.inc()
        if self._duration is not None:
            self._duration.observe(seconds)

    def failed_unexpectedly(self) -> None:
        """Counts a bug."""
        self._unexpected.inc()
