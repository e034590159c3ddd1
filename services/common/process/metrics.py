"""What every process counts of itself.

The registry is made by `new_registry` in `main.py` and handed on; nothing
uses prometheus-client's global one. Metrics of calls are in `services.common.rpc.metrics`, the
page in `services.common.rpc.metrics_pages`.
"""

from __future__ import annotations

import asyncio

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)

from services.common.process.version import version

LAG_INTERVAL = 0.25
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


def new_registry(service: str) -> CollectorRegistry:
    """A registry with what Python and the process say of themselves, and what is running."""
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    Gauge("romana_build_info", "Always 1.", ["version", "service"], registry=registry).labels(
        version(), service
    ).set(1)
    return registry


class LoopLag:
    """How late the event loop wakes a sleeper: what every call waits for on top."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Registers `romana_event_loop_lag_seconds`."""
        self._lag = Histogram(
            "romana_event_loop_lag_seconds",
            "How much later than asked for the event loop ran a timer.",
            buckets=LAG_BUCKETS,
            registry=registry,
        )

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self._lag.observe(max(0.0, loop.time() - due))
