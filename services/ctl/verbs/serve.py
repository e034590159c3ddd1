"""`romana serve`: one service in the foreground.

This process becomes the service. Options are handed over as the environment variables that the
service's settings are read from: `romana serve agent` needs root, and no etcd.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from services.ctl.calls.service_addresses import (
    CONSOLE_PORT,
    IPAM_PORT,
    POLICY_PORT,
    TOPOLOGY_PORT,
)
from services.ctl.calls.verb import single

app = single()


class Service(StrEnum):
    """What there is to run."""

    TOPOLOGY = "topology"
    IPAM = "ipam"
    AGENT = "agent"
    POLICY = "policy"
    KUBERNETES = "kubernetes"
    CONSOLE = "console"


_ON_THE_STORE: Final = (Service.TOPOLOGY, Service.IPAM, Service.POLICY)
_CLIENTS: Final = (Service.AGENT, Service.KUBERNETES, Service.CONSOLE)
_ONLY: Final = {
    "listen": (*_ON_THE_STORE, Service.CONSOLE),
    "etcd": _ON_THE_STORE,
    "initial-topology": (Service.TOPOLOGY,),
    "ipam": _CLIENTS,
    "topology": _CLIENTS,
    "policy": _CLIENTS,
    "node": (Service.AGENT,),
    "kubeconfig": (Service.KUBERNETES,),
}
"""Services that an option is for; the others are for all."""


@app.command("serve")
def serve(
    service: Annotated[
        Service,
        typer.Argument(
            metavar="topology|ipam|policy|agent|kubernetes|console", help="Service to run."
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Settings, YAML."),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help=f"Where to serve.  [default: 127.0.0.1:{TOPOLOGY_PORT}, :{IPAM_PORT}, "
            f":{POLICY_PORT} or :{CONSOLE_PORT}]",
        ),
    ] = "",
    etcd: Annotated[str, typer.Option(metavar="HOST:PORT,...", help="Where etcd is.")] = "",
    ipam: Annotated[
        str,
        typer.Option(metavar="HOST:PORT,...", help="Agent, kubernetes, console: where ipam is."),
    ] = "",
    topology: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT,...",
            help="Agent, kubernetes, console: where topology is.  [agent: one address]",
        ),
    ] = "",
    policy: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT,...",
            help="Agent, kubernetes, console: where policy is.  [agent's default: nowhere: nothing "
            "is enforced]",
        ),
    ] = "",
    node: Annotated[
        str,
        typer.Option(metavar="NAME", help="Agent only: this node.  [default: the host's name]"),
    ] = "",
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Kubernetes only: where its API server is.  [default: the pod's ServiceAccount]",
        ),
    ] = None,
    metrics: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where /metrics is served.")
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow connections to other machines without TLS.")
    ] = False,
    initial_topology: Annotated[
        str,
        typer.Option(
            metavar="FILE|flat|kubeadm",
            help="Topology only: apply this if there is no topology yet.",
        ),
    ] = "",
    log_level: Annotated[
        str, typer.Option(metavar="debug|info|warning|error", help="Lowest level that is logged.")
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
      romana serve policy --etcd 10.0.0.5:2379
      romana serve agent --ipam 10.0.0.5:9620 --topology 10.0.0.5:9610 --policy 10.0.0.5:9630
      romana serve console --listen 127.0.0.1:9660 --ipam 10.0.0.5:9620,10.0.0.6:9620
      romana serve kubernetes --kubeconfig /etc/romana/kubeconfig --policy 10.0.0.5:9630
      ROMANA_IPAM__LOG__FORMAT=json romana serve ipam
    """
    given = {
        "listen": ("LISTEN__ADDRESS", listen),
        "etcd": ("ETCD__ENDPOINTS", etcd),
        "initial-topology": ("INITIAL_TOPOLOGY", initial_topology),
        "ipam": ("IPAM", ipam),
        "topology": ("TOPOLOGY", topology),
        "policy": ("POLICY", policy),
        "node": ("NODE", node),
        "kubeconfig": ("KUBECONFIG", "" if kubeconfig is None else str(kubeconfig)),
        "metrics": ("METRICS__ADDRESS", metrics),
        "log-level": ("LOG__LEVEL", log_level),
    }
    texts = {"INSECURE" if service in _CLIENTS else "LISTEN__INSECURE": "true" * insecure}
    for option, (name, text) in given.items():
        if text and service not in _ONLY.get(option, tuple(Service)):
            raise typer.BadParameter(f"--{option} is for {' and '.join(_ONLY[option])}")
        texts[name] = text
    prefix = f"ROMANA_{service.upper()}__"
    environment = {**os.environ, **{prefix + name: text for name, text in texts.items() if text}}
    arguments = [sys.executable, "-m", f"services.{service}.main"]
    if config is not None:
        arguments += ["--config", str(config)]
    sys.stdout.flush()
    os.execve(sys.executable, arguments, environment)  # noqa: S606  # our own interpreter
