"""Metrics of the controller."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge


class What(StrEnum):
    """What Romana is told of."""

    TENANT = "tenant"
    POLICY = "policy"
    ENDPOINT = "endpoint"
    NODE = "node"
    ADDRESS = "address"
    """That nobody gave back."""


class Outcome(StrEnum):
    """What came of it."""

    DONE = "done"
    REFUSED = "refused"


class ControllerMetrics:
    """The family, once per registry; also watches informers."""

    def __init__(
        self,
        registry: CollectorRegistry,
        kinds: Mapping[str, str],
        is_leader: Callable[[], bool],
    ) -> None:
        """Registers it.

        Args:
            registry: Where.
            kinds: Words for objects, by their path at the API server.
            is_leader: Says whether this replica is the one that writes.
        """
        self._kinds: Final = kinds
        self._changes = Counter(
            "romana_kubernetes_changes",
            "Objects of the API server that changed in what matters here.",
            ["kind"],
            registry=registry,
        )
        self._following = Gauge(
            "romana_kubernetes_following",
            "Whether changes of such objects are heard of.",
            ["kind"],
            registry=registry,
        )
        self._listed = Counter(
            "romana_kubernetes_lists",
            "How often all objects were read.",
            ["kind"],
            registry=registry,
        )
        self._told = Counter(
            "romana_kubernetes_told",
            "What Romana's services were told, by what came of it.",
            ["what", "outcome"],
            registry=registry,
        )
        for kind in kinds.values():
            self._changes.labels(kind)
            self._following.labels(kind).set(0)
            self._listed.labels(kind)
        for what in What:
            for outcome in Outcome:
                self._told.labels(what.value, outcome.value)
        Gauge(
            "romana_kubernetes_leader", "Whether this replica writes.", registry=registry
        ).set_function(is_leader)

    def told(self, what: What, outcome: Outcome, count: int = 1) -> None:
        """Something was said."""
        self._told.labels(what.value, outcome.value).inc(count)

    # What informers say.

    def listed(self, path: str, objects: int) -> None:  # noqa: ARG002
        """All objects have been read."""
        self._listed.labels(self._kinds[path]).inc()

    def changed(self, path: str, changes: int) -> None:
        """Some have changed."""
        self._changes.labels(self._kinds[path]).inc(changes)

    def following(self, path: str, *, follows: bool) -> None:
        """From now on changes are heard of, or not."""
        self._following.labels(self._kinds[path]).set(follows)
