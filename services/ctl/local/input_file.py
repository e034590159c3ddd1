"""Files that are named to the command; `-` is standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from services.common.errors import InvalidInput
from services.ctl.failures import failure
from services.ctl.failures.failure import Failure, usage

STANDARD_INPUT: Final = "-"


def called(file: Path) -> str:
    """What people are told that a file is."""
    return "standard input" if str(file) == STANDARD_INPUT else str(file)


def content(file: Path) -> bytes:
    """What a file holds; raises Failure."""
    try:
        return sys.stdin.buffer.read() if str(file) == STANDARD_INPUT else file.read_bytes()
    except OSError as error:
        raise usage(f"cannot read {called(file)}: {error.strerror}") from None


def text(file: Path) -> str:
    """What a file of text holds; raises Failure."""
    try:
        return content(file).decode()
    except UnicodeDecodeError as error:
        raise usage(f"{called(file)} is not UTF-8 text: {error}") from None


@contextmanager
def named(file: Path | None) -> Iterator[None]:
    """What a service or a reader finds wrong with a file is said with its name."""
    try:
        yield
    except (Failure, InvalidInput) as error:
        failed = error if isinstance(error, Failure) else failure.of_error(error)
        if file is not None and failed.status == "INVALID_ARGUMENT":
            failed.file = called(file)
        raise failed from None
