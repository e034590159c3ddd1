"""What the command says goes to streams that outlive their readers.

`romana topology apply FILE | head -1` applies the file, although nobody reads to the end, and so
does one whose standard output is closed or on a full disk. That something did not get out is said
at the end, unless it was a pipe whose reader had enough.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO, cast

import typer

from services.common.lasting_stream import LastingStream


class StandardStreams:
    """Standard output and error while the command runs."""

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._before = sys.stdout, sys.stderr
        self._out, self._err = LastingStream(out), LastingStream(err)
        sys.stdout, sys.stderr = cast("TextIO", self._out), cast("TextIO", self._err)

    def give_back(self) -> bool:
        """Flushes; says so and returns False if something did not get out that somebody reads."""
        self._out.flush()
        self._err.flush()
        sys.stdout, sys.stderr = self._before
        lost = self._out.lost
        if lost is None or self._out.unread:
            return True
        self._out.give_up()
        self._err.write(f"Error: the output could not be written: {lost.strerror}\n")
        return False


def guard() -> StandardStreams:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # else the next file or socket would take its place
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    # Python sets None for what was closed when it started
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    out = sys.stdout or os.fdopen(1, "w", closefd=False)
    err = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (out, err):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a tree drawn in Latin-1 is no reason to fail
    return StandardStreams(out, err)


def between_messages() -> None:
    """Shows what an endless verb has said so far; ends it if nobody reads any more."""
    sys.stdout.flush()
    if isinstance(sys.stdout, LastingStream) and sys.stdout.unread:
        raise typer.Exit
