"""`romana serve`: one service in the foreground.

This process becomes the service: its own options, environment and `--help` are those of its main
module, which this command knows nothing of.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from services.ctl.verb import single

app = single()


class Service(StrEnum):
    """What there is to run."""

    TOPOLOGY = "topology"
    IPAM = "ipam"


@app.command(
    "serve",
    context_settings={"allow_extra_args": True, "allow_interspersed_args": False},
)
def serve(
    ctx: typer.Context,
    service: Annotated[Service, typer.Argument(help="Which one.")],
) -> None:
    """Runs one service in the foreground. What follows its name goes to the service.

    Settings come from its options, then ROMANA_TOPOLOGY__... or ROMANA_IPAM__... in the
    environment, then its --config file.

    \b
    Examples:
      romana serve topology --help
      romana serve ipam --config /etc/romana/ipam.yaml
      ROMANA_IPAM__ETCD__ENDPOINTS=10.0.0.5:2379 romana serve ipam
    """
    sys.stdout.flush()
    os.execv(  # noqa: S606  # our own interpreter, our own module
        sys.executable, [sys.executable, "-m", f"services.{service}.main", *ctx.args]
    )
