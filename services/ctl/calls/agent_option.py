"""Where the agent of this node listens: an option, the environment, the default."""

from __future__ import annotations

import os
from typing import Annotated

import typer

DEFAULT = "unix:/run/romana/agent.sock"
VARIABLE = "ROMANA_AGENT"

AgentOption = Annotated[
    str,
    typer.Option(
        "--agent-socket",
        metavar="unix:/PATH",
        help=f"Agent of this node [{VARIABLE}; else {DEFAULT}].",
    ),
]


def address(option: str) -> str:
    """The address to call; a bare path is that of a Unix socket."""
    found = option or os.environ.get(VARIABLE, "") or DEFAULT
    return f"unix:{found}" if found.startswith("/") else found
