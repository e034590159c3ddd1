"""Whether a command printed what its page says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

VARIES: Final = (
    re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
    re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"),
    re.compile(r"\bctl-[0-9a-f]{12}\b"),
)
"""What differs from run to run on every page: times, ids of stores and of requests."""

ANYTHING: Final = "..."
"""A line that stands for any number of lines."""


def agree(said: Sequence[str], printed: Sequence[str], varies: Sequence[re.Pattern[str]]) -> bool:
    """Compares lines without what varies, ids of requests, blank lines, and the width of
    columns."""
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line == ANYTHING else re.escape(line) + "\n"
        for line in plain(said, varies)
    )
    text = "".join(f"{line}\n" for line in plain(printed, varies))
    return re.fullmatch(pattern, text) is not None


def plain(lines: Sequence[str], varies: Sequence[re.Pattern[str]]) -> Sequence[str]:
    """What is compared of lines."""
    found = []
    for line in lines:
        if line.startswith("Request id: "):
            continue
        for pattern in (*VARIES, *varies):
            line = pattern.sub("~", line)  # noqa: PLW2901
        if words := " ".join(line.split()):
            found.append(words)
    return found
