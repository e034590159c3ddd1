"""`romana support-bundle`: all that one needs to know to help, in one file."""

from __future__ import annotations

import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
import yaml

from services.common.process import environment
from services.common.process.version import version
from services.ctl.calls import agent_option, service_addresses
from services.ctl.calls.agent_option import AgentOption
from services.ctl.calls.session import Session
from services.ctl.calls.verb import single, verb
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.local import bundle, log_files, private_file

app = single()

SETTINGS: Final = Path("/etc/romana")
METRICS: Final = {
    "topology": f"127.0.0.1:{service_addresses.TOPOLOGY_PORT + 1}",
    "ipam": f"127.0.0.1:{service_addresses.IPAM_PORT + 1}",
    "policy": f"127.0.0.1:{service_addresses.POLICY_PORT + 1}",
}
METRICS_OF_AGENT: Final = "127.0.0.1:9641"


@verb(
    app,
    "support-bundle",
    examples="""
        romana support-bundle
        romana support-bundle --file /tmp/romana.tar.gz --metrics ipam-2=10.0.0.6:9621
        romana support-bundle --no-node --config ./ipam.yaml
    """,
)
async def support_bundle(
    session: Session,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Where to.  [default: romana-support-HOST-TIME.tar.gz here]",
        ),
    ] = None,
    config: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE",
            help="Settings file to include; repeat for several.  [default: /etc/romana/*.yaml]",
        ),
    ] = [],  # noqa: B006  # typer reads it, nobody writes to it
    metrics: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=HOST:PORT",
            help="A process whose metrics to take, instead of that at the usual port if "
            "NAME is topology, ipam, policy or agent; repeat it.",
        ),
    ] = [],  # noqa: B006
    node: Annotated[
        bool | None,
        typer.Option(
            "--node/--no-node",
            help="Ask the agent and the kernel of this machine.  [default: if an agent is here]",
        ),
    ] = None,
    agent_socket: AgentOption = "",
) -> ExitCode:
    """Gathers versions, harmless settings, states, logs, metrics and a node's kernel in one file.

    Nothing is sent anywhere. What cannot be had is left out, and manifest.yaml lists it.
    Look at the file before you pass it on: it has names and addresses.
    """
    now = time.time()
    host = socket.gethostname()
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    folder = f"romana-support-{host}-{stamp}"
    path = file or Path(f"{folder}.tar.gz")
    agent = agent_option.address(agent_socket)
    is_node = _has_agent(agent) if node is None else node
    addresses = {**_usual(), **({"agent": METRICS_OF_AGENT} if is_node else {}), **_named(metrics)}
    parts = await bundle.collect(
        bundle.Wanted(
            environment=_environment(session, agent),
            configs=config or bundle.files_in(SETTINGS, "*.yaml"),
            logs=_logs(),
            metrics=addresses,
            node=is_node,
            timeout=session.common.timeout * 3,
        )
    )
    problems = {part.path: part.problem for part in parts if part.problem}
    manifest = {
        "romana": version(),
        "host": host,
        "time": stamp,
        "files": [part.path for part in parts if part.content],
        "problems": problems,
    }
    text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True).encode()
    content = bundle.packed(folder, [bundle.Part("manifest.yaml", text), *parts], now)
    private_file.write(path, content)
    if session.out.for_programs:
        session.out.value({"file": str(path), "bytes": len(content), "problems": dict(problems)})
    else:
        session.out.line(str(path))
        for name, problem in problems.items():
            session.note(f"not in it, or not whole: {name}: {problem.splitlines()[0]}")
    return ExitCode.OK


def _has_agent(address: str) -> bool:
    """Whether an agent's socket is on this machine, or is where this user may not look."""
    try:
        return Path(address.removeprefix("unix:")).exists()
    except PermissionError:
        return True


def _logs() -> list[Path]:
    """What a cluster of `romana up`, running or not, wrote on this machine."""
    found = service_addresses.chosen(os.environ)
    own = service_addresses.data_dir(os.environ)
    folder = Path(found.data_dir) if found and found.data_dir else own
    return [
        *bundle.files_in(folder / log_files.FOLDER, "*.log", "*.log.old"),
        *bundle.files_in(folder / "etcd", "*.log"),
    ]


def _usual() -> dict[str, str]:
    """Metrics of a running `romana up`, else at the usual ports of this machine."""
    found = service_addresses.chosen(os.environ)
    if found is None:
        return METRICS
    where = {
        "topology": found.topology_metrics,
        "ipam": found.ipam_metrics,
        "policy": found.policy_metrics,
    }
    return {name: address for name, address in where.items() if address}


def _named(metrics: list[str]) -> dict[str, str]:
    """What --metrics names: address by NAME."""
    found = {}
    for item in metrics:
        name, _, address = item.partition("=")
        if not address or not name.replace("-", "").isalnum():
            raise typer.BadParameter(f"--metrics {item}: give NAME=HOST:PORT")
        found[name] = address
    return found


def _environment(session: Session, agent: str) -> dict[str, str]:
    """That of the children: they ask whom this command was told to ask."""
    common = session.common
    variables = {
        environment.TOPOLOGY_VARIABLE: common.addresses.topology,
        environment.IPAM_VARIABLE: common.addresses.ipam,
        environment.POLICY_VARIABLE: common.addresses.policy,
        agent_option.VARIABLE: agent,
        "COLUMNS": "200",
    }
    if common.tls is not None:
        variables |= {
            "ROMANA_TLS_CA": str(common.tls.ca),
            "ROMANA_TLS_CERT": str(common.tls.certificate),
            "ROMANA_TLS_KEY": str(common.tls.key),
        }
    if common.insecure:
        variables["ROMANA_INSECURE"] = "true"
    return {**os.environ, **variables}
