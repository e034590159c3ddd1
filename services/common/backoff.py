"""How long to wait before the next attempt: exponential, with full jitter and a bound.

Full jitter (a uniform draw below the exponential ceiling) because it makes the fewest calls of the
variants when many clients fail at once: M. Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015. Pure: who sleeps, and what counts as a success, is up to the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Ceilings of the delays, in seconds."""

    initial: float = 0.1
    factor: float = 2.0
    maximum: float = 10.0

    def ceiling(self, failures: int) -> float:
        """The longest delay after so many failures in a row, of which there is at least one."""
        try:
            return min(self.maximum, self.initial * self.factor ** (failures - 1))
        except OverflowError:
            return self.maximum


class Backoff:
    """Counts the failures in a row of one activity."""

    def __init__(self, policy: BackoffPolicy, random: Callable[[], float]) -> None:
        """Takes draws of [0, 1) from `random`."""
        self._policy = policy
        self._random = random
        self._failures = 0

    @property
    def failures(self) -> int:
        return self._failures

    def failed(self) -> float:
        """Counts a failure; returns the seconds to wait before the next attempt."""
        self._failures += 1
        return self._random() * self._policy.ceiling(self._failures)

    def succeeded(self) -> None:
        """Starts again from the shortest delay."""
        self._failures = 0
