"""Log lines of the services for a terminal: short, one line each, coloured by who and how bad."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rich.text import Text

SERVICE_STYLES: Mapping[str, str] = {"topology": "cyan", "ipam": "magenta"}
LEVEL_STYLES: Mapping[str, str] = {
    "debug": "dim",
    "warning": "yellow",
    "error": "red",
    "critical": "bold red",
}

KNOWN = ("event", "level", "timestamp", "service", "version", "exception")
"""Fields with a place of their own, or without any."""


def compact(name: str, line: str) -> Text:
    """A line of a child: a JSON log line made readable, anything else as it is."""
    prefix = (f"{name:<8} ", SERVICE_STYLES.get(name, "bold"))
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or "event" not in fields:
        return Text.assemble(prefix, Text.from_ansi(line))
    level = str(fields.get("level", ""))
    details = "".join(
        f" {key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in fields.items()
        if key not in KNOWN
    )
    text = Text.assemble(
        prefix,
        (f"{_clock(str(fields.get('timestamp', '')))} ", "dim"),
        (str(fields["event"]), LEVEL_STYLES.get(level, "bold")),
        (details, ""),
    )
    if trace := fields.get("exception"):
        text.append(f"\n{trace}")
    return text


def _clock(timestamp: str) -> str:
    """The time of day of an ISO timestamp, in whole seconds."""
    return timestamp.partition("T")[2][:8]
