"""How attaching and detaching went, for those who watch: each operation with outcome and time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import Protocol

from services.common.errors import Conflict, Exhausted, RomanaError, Unavailable


class Operation(StrEnum):
    """What was asked for."""

    ATTACH = "attach"
    DETACH = "detach"


class Result(StrEnum):
    """What came of it."""

    OK = "ok"
    REFUSED = "refused"
    """The request is wrong, or the kernel or ipam says no."""
    EXHAUSTED = "exhausted"
    """No address is left."""
    UNAVAILABLE = "unavailable"
    """Ipam is away, or time ran out: the same again may succeed."""
    FAILED = "failed"
    """A defect."""


class EndpointObserver(Protocol):
    """Is told what was done."""

    def operated(self, operation: Operation, result: Result, seconds: float, /) -> None:
        """An operation ended."""


class NoObserver:
    """Watches nothing."""

    def operated(self, operation: Operation, result: Result, seconds: float, /) -> None:
        """Does nothing."""


@contextlib.contextmanager
def watched(observer: EndpointObserver, operation: Operation) -> Iterator[None]:
    """Tells an observer how the body ends, unless it is cancelled."""
    begun = time.perf_counter()
    try:
        yield
    except Exception as error:
        observer.operated(operation, result_of(error), time.perf_counter() - begun)
        raise
    observer.operated(operation, Result.OK, time.perf_counter() - begun)


def result_of(error: Exception) -> Result:
    """An error in one word."""
    match error:
        case Exhausted():
            return Result.EXHAUSTED
        case Unavailable() | Conflict():
            return Result.UNAVAILABLE
        case RomanaError():
            return Result.REFUSED
        case _:
            return Result.FAILED
