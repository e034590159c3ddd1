"""`romana up`: a cluster on this machine, in the foreground."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from romana.topology.v1 import topology_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.etcd.process import free_port
from services.common.process import environment
from services.common.terminal.table import Column, Screen
from services.ctl.calls import service_addresses
from services.ctl.calls.service_addresses import Cluster, ServiceAddresses
from services.ctl.calls.session import CommonOptions, Session
from services.ctl.calls.verb import FormatOption, finish, single
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import Failure
from services.ctl.local import input_file
from services.ctl.local.cluster import Plan, Ports, Stopped, cluster
from services.ctl.local.cluster_tls import cluster_tls, has_tls
from services.ctl.local.data_dir import locked
from services.ctl.local.log_files import LogFiles
from services.ctl.verbs.topology import BUILTINS, Builtin
from services.ctl.views.log_lines import compact
from services.ctl.views.output import Format, Output

app = single()


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


COLUMNS: tuple[Column[tuple[str, str, str]], ...] = (
    Column("SERVICE", lambda item: item[0]),
    Column("ADDRESS", lambda item: item[1]),
    Column("METRICS", lambda item: item[2]),
)


def _port(what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        metavar="PORT", min=0, max=65535, help=f"{what}; 0: any free one."
    )
    return option


@app.command("up")
def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar=environment.DATA_DIR_VARIABLE,
            help="Where etcd's data and endpoints.json are.  [default: ~/.local/share/romana]",
        ),
    ] = None,
    etcd: Annotated[
        str,
        typer.Option(metavar="HOST:PORT,...", help="Use this etcd instead of starting one."),
    ] = "",
    topology_port: Annotated[int, _port("Topology service")] = service_addresses.TOPOLOGY_PORT,
    ipam_port: Annotated[int, _port("Ipam service")] = service_addresses.IPAM_PORT,
    policy_port: Annotated[int, _port("Policy service")] = service_addresses.POLICY_PORT,
    topology_metrics_port: Annotated[int, _port("Its metrics")] = service_addresses.TOPOLOGY_PORT
    + 1,
    ipam_metrics_port: Annotated[int, _port("Its metrics")] = service_addresses.IPAM_PORT + 1,
    policy_metrics_port: Annotated[int, _port("Its metrics")] = service_addresses.POLICY_PORT + 1,
    console: Annotated[
        bool, typer.Option("--console/--no-console", help="Serve the console, for a browser.")
    ] = True,
    console_port: Annotated[int, _port("The console")] = service_addresses.CONSOLE_PORT,
    tls: Annotated[
        bool | None,
        typer.Option(
            "--tls/--no-tls",
            help="Mutual TLS, with certificates of an authority of its own; every other `romana` "
            "of the same user uses them by itself.  [default: with it, if the data directory has "
            "certificates]",
        ),
    ] = None,
    initial_topology: Annotated[
        str,
        typer.Option(metavar="FILE|flat|kubeadm", help="Apply this if there is no topology yet."),
    ] = "",
    log_level: Annotated[
        LogLevel, typer.Option(help="Lowest level that the services log.")
    ] = LogLevel.INFO,
    output: FormatOption = Format.TABLE,
) -> None:
    """Runs etcd and all services on this machine until it is interrupted.

    Data survives: the next start from the same directory goes on where this one ended. While it
    runs, every other `romana` of the same user finds it by itself.

    \b
    Examples:
      romana up --initial-topology flat
      romana up --tls
      romana up --data-dir ./romana-data --topology-port 0 --ipam-port 0 --policy-port 0
      romana up --etcd 10.0.0.5:2379,10.0.0.6:2379
    """
    ports = Ports(
        topology=topology_port or free_port(),
        ipam=ipam_port or free_port(),
        policy=policy_port or free_port(),
        topology_metrics=topology_metrics_port or free_port(),
        ipam_metrics=ipam_metrics_port or free_port(),
        policy_metrics=policy_metrics_port or free_port(),
        console=(console_port or free_port()) if console else None,
    )
    screen = Screen()
    folder = (data_dir or service_addresses.data_dir(os.environ)).expanduser().absolute()
    secure = has_tls(folder) if tls is None else tls
    plan = Plan(
        folder=folder,
        ports=ports,
        etcd=etcd,
        log_level=log_level,
        tls=cluster_tls(folder) if secure else None,
    )
    finish(lambda: _run(plan, initial_topology, Output(output, screen)), form=output)


async def _run(plan: Plan, initial: str, out: Output) -> ExitCode:
    request = initial_request(initial)
    with locked(plan.folder), LogFiles(plan.folder) as logs:

        def said(name: str, line: str) -> None:
            logs.add(name, line)
            _relay(out.screen, name, line)

        plan.ports.check()
        if plan.tls is not None:
            plan.tls.make(datetime.now(UTC))
        try:
            async with cluster(plan, said) as running:
                found = await running.start()
                if request is not None:
                    with input_file.named(Path(initial)):
                        await running.unless_ended(_apply_first(found, request, out.screen))
                service_addresses.publish(plan.folder, found, os.environ)
                _announce(out, found, plan.folder)
                try:
                    await running.until_stopped(_meanwhile(plan, out.screen))
                finally:
                    service_addresses.withdraw(plan.folder, os.environ)
                    out.screen.note("Stopping ...")
        except Stopped:
            out.screen.note("Stopped before everything served")
        except Failure as error:
            if error.reason != "CHILD_ENDED":
                raise
            out.screen.note(f"Error: {error.message}", style="bold red")
            return ExitCode.NEGATIVE
    return ExitCode.OK


async def _meanwhile(plan: Plan, screen: Screen) -> None:
    if plan.tls is None:
        await asyncio.Event().wait()
    else:
        await plan.tls.keep(screen.note)


def initial_request(text: str) -> api.ApplyTopologyRequest | None:
    """What to apply at the first start: a built-in topology's name, or a file."""
    if not text:
        return None
    if text in set(Builtin):
        return api.ApplyTopologyRequest(
            builtin=topology_pb2.BuiltinTopology(name=BUILTINS[Builtin(text)])
        )
    return api.ApplyTopologyRequest(
        document=topology_pb2.TopologyDocument(text=input_file.text(Path(text)))
    )


async def _apply_first(found: Cluster, request: api.ApplyTopologyRequest, screen: Screen) -> None:
    """Applies the initial topology unless there is one."""
    common = CommonOptions(
        ServiceAddresses(found.topology, found.ipam, found.policy),
        tls=found.tls,
        request_id="up-initial-topology",
    )
    async with Session(common) as session:
        topology = session.topology
        current = await topology.read(topology.stub.GetTopology, api.GetTopologyRequest())
        if current.spec.topologies:
            screen.note("There is a topology already: the initial one is not applied")
            return
        request.etag = current.etag
        request.request_id = session.request_id
        await topology.once(topology.stub.ApplyTopology, request)


def _announce(out: Output, found: Cluster, folder: Path) -> None:
    if out.for_programs:
        out.event({**asdict(found)})
        return
    scheme = "https" if found.certificates else "http"
    parts = [
        ("topology", found.topology, f"http://{found.topology_metrics}/metrics"),
        ("ipam", found.ipam, f"http://{found.ipam_metrics}/metrics"),
        ("policy", found.policy, f"http://{found.policy_metrics}/metrics"),
        ("etcd", found.etcd, f"{scheme}://{found.etcd.partition(',')[0]}/metrics"),
    ]
    out.screen.table(parts, COLUMNS, wide=True)
    sys.stdout.flush()
    out.screen.note(f"Everything serves. Data is in {folder}. Ctrl-C ends it.")
    if folder != service_addresses.own_folder(os.environ):
        out.screen.note(
            f"Other commands find it while no other cluster runs; to be sure:\n"
            f"  export {environment.DATA_DIR_VARIABLE}={shlex.quote(str(folder))}"
        )
    if found.console:
        out.screen.note(f"The console, for a browser: {found.console}")
    if found.certificates:
        out.screen.note(
            "A node's certificate: romana certificates issue NODE --role node; they are in "
            f"{found.certificates}"
        )


def _relay(screen: Screen, name: str, line: str) -> None:
    """Shows a child's line; in a pipe as it is, since each line says itself who wrote it."""
    if screen.err.is_terminal:
        screen.err.print(compact(name, line), soft_wrap=True)
    else:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
