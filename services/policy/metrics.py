"""Counts how mutations of policies, tenants and endpoints end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter

from services.common.errors import RomanaError, Unavailable


class Operation(StrEnum):
    """What was to be done."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    APPLY = "apply"
    TENANT = "tenant"
    ENDPOINT = "endpoint"
    REPORT = "report"


class Result(StrEnum):
    """How it ended."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    VALIDATED = "validated"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


class PolicyMetrics:
    """Counters and histograms; every label set exists from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._changes = Counter(
            "romana_policy_changes",
            "Mutations by how they ended.",
            ["operation", "outcome"],
            registry=registry,
        )
        for operation in Operation:
            for result in Result:
                self._changes.labels(operation.value, result.value)

    def count(self, operation: Operation, result: Result) -> None:
        """Counts a mutation."""
        self._changes.labels(operation.value, result.value).inc()

    @contextmanager
    def refusals(self, operation: Operation) -> Iterator[None]:
        """Counts what is raised."""
        try:
            yield
        except Unavailable:
            self.count(operation, Result.UNAVAILABLE)
            raise
        except RomanaError:
            self.count(operation, Result.REFUSED)
            raise
