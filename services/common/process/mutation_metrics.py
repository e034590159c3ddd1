"""Counts how mutations end, the same for every service that has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Generic, TypeVar

from prometheus_client import Counter

from services.common.errors import RomanaError, Unavailable

Operation = TypeVar("Operation", bound=StrEnum)


class Result(StrEnum):
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    VALIDATED = "validated"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


class Mutations(Generic[Operation]):
    """A counter of a service's mutations; every label set exists from the start."""

    def __init__(self, changes: Counter, operations: type[Operation]) -> None:
        """Counts in `changes`, whose labels are the operation and how it ended."""
        self._changes = changes
        for operation in operations:
            for result in Result:
                changes.labels(operation.value, result.value)

    def count(self, operation: Operation, result: Result) -> None:
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
