"""A wall clock of a process's own, which a test sets while the process runs.

Debian's libfaketime stands between the process and its C library. Only the wall clock is another:
time since boot goes on as it is, since no administrator and no NTP changes that.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def library() -> Path | None:
    """Where libfaketime is; None: it is not installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


class FakeClock:
    """At first what the machine's clock says."""

    def __init__(self, file: Path) -> None:
        """The process reads from `file` what time it is."""
        self._file = file
        self.set(0)

    def set(self, ahead: int) -> None:
        """Makes it so many seconds ahead of the machine's clock, at once."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead:+d}\n")
        new.replace(self._file)

    @property
    def environment(self) -> Mapping[str, str]:
        """What the process is started with."""
        found = library()
        assert found is not None
        return {
            "LD_PRELOAD": str(found),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
