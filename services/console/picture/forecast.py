"""When a group will be full, if it goes on as it did: a straight line through what was seen."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

SAMPLES: Final = 60
"""Of a group; with one each minute the last hour."""
SAMPLES_LEAST: Final = 5


@dataclass(frozen=True, slots=True)
class Forecast:
    """A line through the last samples."""

    per_hour: float
    """Addresses more in use, or less."""
    hours: float | None
    """Until nothing is free. None: not at that rate."""
    over: float
    """Seconds from the first sample to the last."""


class Trend:
    """The last samples of one group."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)

    def add(self, now: float, used: int) -> None:
        """Notes how many addresses are in use."""
        self._samples.append((now, used))

    def forecast(self, free: int) -> Forecast | None:
        """None: too few samples."""
        if len(self._samples) < SAMPLES_LEAST:
            return None
        times = [time for time, _ in self._samples]
        uses = [used for _, used in self._samples]
        over = times[-1] - times[0]
        if over <= 0:
            return None
        mean_time, mean_use = sum(times) / len(times), sum(uses) / len(uses)
        spread = sum((time - mean_time) ** 2 for time in times)
        slope = sum((t - mean_time) * (u - mean_use) for t, u in self._samples) / spread
        hours = free / slope / 3600 if slope > 0 else None
        return Forecast(per_hour=slope * 3600, hours=hours, over=over)
