"""The time by which addresses rest, which goes on steadily whatever is done to the wall clock.

It begins with the wall clock, since what rests outlives a process, and goes on with the time since
the machine was booted, suspension included. It is never behind what is stored: so what another
replica released by a clock that was ahead, or by this one before it was set back, rests for its
delay from then on and no longer.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def since_boot() -> float:
    """Seconds since the machine was booted, those in which it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class RestClock:
    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = since_boot
    ) -> None:
        """Begins with `wall`, Unix time in seconds, and goes on as `steady` does."""
        self._steady = steady
        self._ahead = wall() - steady()

    def now(self, latest: int) -> int:
        """Unix time in milliseconds; `latest` is the last such time that is stored."""
        now = int((self._steady() + self._ahead) * 1000)
        if now < latest:
            self._ahead += (latest - now) / 1000
            return latest
        return now
