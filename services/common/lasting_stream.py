"""A text stream whose reader may go, or whose disk may fill up, without ending whoever writes.

What a process was asked to do does not depend on who reads what it says about it. A write that
fails is dropped and noted; later ones are tried again, since a disk may have room again. A pipe
without a reader never has one again: the descriptor is led to /dev/null, so that nothing that is
still buffered fails later, at Python's own end.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TextIO


class LastingStream:
    """Stands in for a `TextIO`; all but writing is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None
        """Why something that was written did not get out."""

    @property
    def unread(self) -> bool:
        """Nobody reads any more: for what only says things, and would go on for ever."""
        return isinstance(self.lost, BrokenPipeError)

    def write(self, text: str) -> int:
        """Writes, if that is possible."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def give_up(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self._stream.fileno())
        finally:
            os.close(nowhere)
        self._stream.flush()

    def _lose(self, error: OSError) -> None:
        self.lost = self.lost or error
        if isinstance(error, BrokenPipeError):
            self.give_up()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
