"""Waits for what is on its way, in tests that are not asynchronous."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 30.0
"""Seconds for what has to come, on however busy a machine."""
PAUSE: Final = 0.02


def becomes(condition: Callable[[], bool]) -> bool:
    """Whether a condition comes to hold."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(PAUSE)
    return True
