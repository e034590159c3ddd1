"""Runs commands, waits for things; for the test cluster."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 240.0
"""At most, for any one thing to come up, on a busy machine."""


class Failed(Exception):
    """Something did not come up, or a command failed."""


def sh(
    *command: object, check: bool = True, timeout: float = 300, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; raises Failed with what it said."""
    done = subprocess.run(
        [str(part) for part in command],
        text=True,
        capture_output=True,
        check=False,
        timeout=timeout,
        **more,
    )
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise Failed(f"{' '.join(map(str, command))}: {said}")
    return done


def until(
    what: str,
    ready: Callable[[], object],
    *,
    log: Path | None = None,
    seconds: float = SECONDS,
    pause: float = 0.1,
) -> float:
    """Waits until `ready` says true; returns how many seconds that took."""
    begun = time.monotonic()
    while not ready():
        if time.monotonic() - begun > seconds:
            raise Failed(f"{what}: not within {seconds:.0f} s\n{tail(log)}".strip())
        time.sleep(pause)
    return time.monotonic() - begun


def tail(log: Path | None, lines: int = 20) -> str:
    """The end of a log."""
    if log is None or not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
