"""Files that are named to the command; `-` is standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.ctl.failures.failure import Failure, usage


def content(file: Path) -> bytes:
    """What a file holds; raises Failure."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise usage(f"cannot read {file}: {error.strerror}") from None


def text(file: Path) -> str:
    """What a file of text holds; raises Failure."""
    try:
        return content(file).decode()
    except UnicodeDecodeError as error:
        raise usage(f"{file} is not UTF-8 text: {error}") from None


@contextmanager
def named(file: Path | None) -> Iterator[None]:
    """What a service finds wrong with a file is said with its name."""
    try:
        yield
    except Failure as failed:
        if file is not None and failed.status == "INVALID_ARGUMENT":
            failed.message = f"{file}: {failed.message}"
        raise
