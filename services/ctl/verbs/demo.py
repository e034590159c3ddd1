"""`romana demo`: a data center on this machine, told step by step."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lab import demo as lab_demo
from services.ctl.calls.verb import single

app = single()


@app.command("demo")
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C.")] = False,
) -> None:
    """Shows Romana at work on this machine: four VLANs, two racks, real packets.

    Needs root, etcd, iproute2 and nftables. It takes about a minute and leaves nothing behind.

    \b
    Examples:
      romana demo
      romana demo --keep
    """
    sys.exit(lab_demo.main(["--keep"] if keep else []))
