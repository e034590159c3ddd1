"""`romana agent`: the agent of this node, and the plug-in that runtimes start."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from romana.agent.v1 import agent_service_pb2 as api

from services.common.rpc.message_json import plain
from services.common.terminal.table import Column, fields
from services.ctl.calls.agent_option import AgentOption
from services.ctl.calls.session import Session
from services.ctl.calls.verb import group, verb
from services.ctl.failures.exit_codes import ExitCode

app = group("The agent of this node: status, the CNI plug-in, removal.")

RULE_COLUMNS: Sequence[Column[api.RuleCount]] = (
    Column("Policy", lambda item: item.policy),
    Column("Direction", lambda item: item.direction),
    Column("Rule", lambda item: item.rule),
    Column("Packets", lambda item: str(item.packets), right=True),
    Column("Bytes", lambda item: str(item.bytes), right=True),
)

CNI = Path(__file__).parents[2] / "agent" / "cni"


@verb(app, "status", examples="romana agent status")
async def status(session: Session, agent_socket: AgentOption = "") -> ExitCode:
    """Shows what the agent does, and why it is not ready. Exit code 1: it is not."""
    agent = session.agent(agent_socket)
    answer = await agent.read(agent.stub.GetStatus, api.GetStatusRequest())
    if session.out.for_programs:
        session.out.value(plain(answer))
    else:
        session.out.sheet(
            fields(
                [
                    ("Node", answer.node),
                    ("Version", answer.version),
                    ("Ready", "yes" if answer.ready else "no"),
                    *(("", reason) for reason in answer.reasons),
                    ("Stream to ipam", "yes" if answer.connected else "no"),
                    ("Applied revision", str(answer.applied.revision)),
                    ("Epoch", answer.applied.epoch),
                    ("Endpoints", str(answer.endpoints)),
                    ("Routes", str(answer.routes)),
                    ("Repaired", str(answer.repaired)),
                    *_policy(answer),
                    *(("Failed", f"{each.resource}: {each.message}") for each in answer.failures),
                    *(("Warning", warning) for warning in answer.warnings),
                ]
            )
        )
    return ExitCode.OK if answer.ready else ExitCode.NEGATIVE


@verb(app, "rules", examples="romana agent rules")
async def rules(session: Session, agent_socket: AgentOption = "") -> None:
    """Shows how many packets each policy rule has decided on this node."""
    agent = session.agent(agent_socket)
    answer = await agent.read(agent.stub.GetStatus, api.GetStatusRequest())
    session.out.listing(
        list(answer.policy.rules),
        RULE_COLUMNS,
        document=plain,
        name=lambda item: f"{item.policy} {item.direction} {item.rule}",
        empty="no policy is about an endpoint of this node",
    )


def _policy(answer: api.GetStatusResponse) -> list[tuple[str, str]]:
    if not answer.HasField("policy"):
        return [("Policies", "not enforced")]
    found = answer.policy
    drops = ", ".join(f"{reason} {count}" for reason, count in sorted(found.dropped.items()))
    return [
        ("Stream to policy", "yes" if found.connected else "no"),
        ("Rules' revision", str(found.applied.revision)),
        ("Open endpoints", str(found.open_endpoints)),
        ("Rule sets", str(found.rule_sets)),
        ("Groups", str(found.groups)),
        ("Dropped", drops),
    ]


@app.command("uninstall")
def uninstall(
    state_dir: Annotated[
        Path | None,
        typer.Option(
            "--state-dir", metavar="DIR", help="The agent's state.  [default: its setting]"
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="The agent's settings."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Removes all that the agent has made in this node's kernel. No agent may run.

    The links of endpoints go too; their addresses stay allocated.

    \b
    Examples:
      romana agent uninstall
      romana agent uninstall --yes --state-dir /var/lib/romana
    """
    if not yes and sys.stdin.isatty():
        typer.confirm("Remove all routes, rules and endpoints' links?", abort=True, err=True)
    arguments = [sys.executable, "-m", "services.agent.uninstall"]
    for option, value in (("--state-dir", state_dir), ("--config", config)):
        if value is not None:
            arguments += [option, str(value)]
    sys.stdout.flush()
    os.execv(sys.executable, arguments)  # noqa: S606  # our own interpreter


@app.command("install-cni")
def install_cni(
    folder: Annotated[
        Path, typer.Option("--bin-dir", metavar="DIR", help="The runtime's plug-in folder.")
    ] = Path("/opt/cni/bin"),
    conf: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="A CNI configuration."),
    ] = None,
    conf_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the runtime looks for it; it is written last."),
    ] = None,
) -> None:
    """Copies romana-cni and romana-ipam to where container runtimes look for plug-ins.

    A static program, or a Python script where romana was installed without a C compiler.

    \b
    Examples:
      romana agent install-cni
      romana agent install-cni --bin-dir /usr/lib/cni
      romana agent install-cni --conf romana.conflist --conf-file /etc/cni/net.d/10-romana.conflist
    """
    if (conf is None) != (conf_file is None):
        raise typer.BadParameter("--conf and --conf-file come together")
    for name in ("romana-cni", "romana-ipam"):  # one program, which looks at its name
        _install(folder / name, cni_plugin(), 0o755)
    if conf is not None and conf_file is not None:
        _install(conf_file, conf.read_bytes(), 0o644)


def _install(path: Path, content: bytes, mode: int) -> None:
    """Puts a file in the place of what is there, which may be in use."""
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(content)
        new.chmod(mode)
        new.replace(path)
    except OSError as error:
        sys.stderr.write(f"Error: {path} cannot be written: {error.strerror}\n")
        raise typer.Exit(ExitCode.REFUSED) from None
    sys.stdout.write(f"{path}\n")


def cni_plugin() -> bytes:
    """The program, or the script for the interpreter that there is."""
    program = CNI / "romana-cni"
    if program.exists():
        return program.read_bytes()
    _, _, body = (CNI / "plugin.py").read_bytes().partition(b"\n")
    return f"#!{interpreter()} -IS\n".encode() + body


def interpreter() -> str:
    """The one behind a virtual environment: it starts sooner, and outlives it."""
    system = Path("/usr/bin/python3")
    return str(system if system.exists() else Path(sys.executable).resolve())
