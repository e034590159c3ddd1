"""A screen in memory, as a pipe or as a terminal of some width."""

from __future__ import annotations

import io

from services.common.terminal.table import Screen


class Stream(io.StringIO):
    """Says that it is a terminal if it shall be one."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Captured:
    """A screen and what was written to it."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.stdout = Stream(terminal=terminal)
        self.stderr = Stream(terminal=terminal)
        self.screen = Screen(self.stdout, self.stderr)

    @property
    def out(self) -> str:
        return self.stdout.getvalue()

    @property
    def err(self) -> str:
        return self.stderr.getvalue()
