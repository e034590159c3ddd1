"""Metrics of the console."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.console.follow.world import World


class ConsoleCollector(Collector):
    """What is the case now."""

    def __init__(self, world: World, registry: CollectorRegistry) -> None:
        self._world = world
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Gauges."""
        world = self._world
        yield GaugeMetricFamily(
            "romana_console_browsers", "Browsers that follow.", value=len(world.live)
        )
        yield GaugeMetricFamily(
            "romana_console_lost_watches",
            "Watches that are not up: what is shown of theirs is of before.",
            value=len(world.services.lost),
        )
