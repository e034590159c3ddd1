"""The version that logs, metrics and `--version` say."""

from __future__ import annotations

from functools import cache
from importlib import metadata

UNKNOWN = "0+unknown"
"""When the code runs without having been installed."""


@cache
def version() -> str:
    """The version of the installed distribution; half a millisecond the first time."""
    try:
        return metadata.version("romana")
    except metadata.PackageNotFoundError:
        return UNKNOWN
