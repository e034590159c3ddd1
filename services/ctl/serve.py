"""`romana serve`: one service in the foreground.

This process becomes the service. Options are handed over as the environment variables that the
service's settings are read from.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from services.ctl.endpoints import IPAM_PORT, TOPOLOGY_PORT
from services.ctl.verb import single

app = single()


class Service(StrEnum):
    """What there is to run."""

    TOPOLOGY = "topology"
    IPAM = "ipam"


@app.command("serve")
def serve(
    service: Annotated[Service, typer.Argument(metavar="topology|ipam", help="Which one.")],
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Settings, YAML."),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help=f"Where to serve.  [default: 127.0.0.1:{TOPOLOGY_PORT} or :{IPAM_PORT}]",
        ),
    ] = "",
    etcd: Annotated[str, typer.Option(metavar="HOST:PORT,...", help="Where etcd is.")] = "",
    metrics: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where /metrics is served.")
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve other machines without TLS.")
    ] = False,
    initial_topology: Annotated[
        str,
        typer.Option(
            metavar="FILE|flat|kubeadm", help="Topology only: applied if there is none yet."
        ),
    ] = "",
    log_level: Annotated[
        str, typer.Option(metavar="debug|info|warning|error", help="What is logged.")
    ] = "",
) -> None:
    """Runs one service in the foreground until it is interrupted.

    Settings are the defaults, then those of the --config file, then of the environment, then
    options. A file has sections; in the environment, sections and fields are joined by two
    underscores: listen.address of ipam is ROMANA_IPAM__LISTEN__ADDRESS.

    \b
    Examples:
      romana serve topology --etcd 10.0.0.5:2379
      romana serve ipam --config /etc/romana/ipam.yaml
      ROMANA_IPAM__LOG__FORMAT=json romana serve ipam
    """
    if initial_topology and service is not Service.TOPOLOGY:
        raise typer.BadParameter("--initial-topology is for topology")
    given = {
        "LISTEN__ADDRESS": listen,
        "LISTEN__INSECURE": "true" if insecure else "",
        "ETCD__ENDPOINTS": etcd,
        "METRICS__ADDRESS": metrics,
        "LOG__LEVEL": log_level,
        "INITIAL_TOPOLOGY": initial_topology,
    }
    prefix = f"ROMANA_{service.upper()}__"
    environment = {**os.environ, **{prefix + name: text for name, text in given.items() if text}}
    arguments = [sys.executable, "-m", f"services.{service}.main"]
    if config is not None:
        arguments += ["--config", str(config)]
    sys.stdout.flush()
    os.execve(sys.executable, arguments, environment)  # noqa: S606  # our own interpreter
