"""How full something is, as a small bar and in numbers."""

from __future__ import annotations

from rich.text import Text
from romana.ipam.v1 import utilization_pb2

from services.ctl.views import enum_text

USAGE_TITLE = "USED"

WIDTH = 10
PARTS = " ▏▎▍▌▋▊▉█"
"""Eighths of a character."""
NEARLY_FULL = 0.8
FULL = 0.95


def bar(used: int, size: int) -> Text:
    """A bar of ten characters and the share; what is in use at all is never an empty bar."""
    ratio = min(1.0, used / size) if size else 0.0
    eighths = max(round(ratio * WIDTH * 8), 1 if used else 0)
    whole, rest = divmod(eighths, 8)
    drawn = ("█" * whole + (PARTS[rest] if rest else "")).ljust(WIDTH, "·")
    style = "red" if ratio >= FULL else "yellow" if ratio >= NEARLY_FULL else "green"
    return Text.assemble((drawn, style), f" {enum_text.share(used, size):>5}")


def of_total(usage: utilization_pb2.Usage) -> str:
    """Such as "12/65536"."""
    return f"{enum_text.large(usage.used)}/{enum_text.large(usage.size)}"
