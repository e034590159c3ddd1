"""`romana doctor`: what this node lacks, before anything is installed on it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from services.agent.doctor.judging import Finding, Verdict, fits, judge
from services.agent.doctor.looking import Places, look
from services.common.terminal.table import Column, Screen
from services.ctl.calls.verb import FormatOption, finish, single
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.views.output import Format, Output

app = single()

COLUMNS: tuple[Column[Finding], ...] = (
    Column("VERDICT", lambda item: item.verdict.value),
    Column("CHECK", lambda item: item.check),
    Column("FOUND", lambda item: item.found),
    Column("ADVICE", lambda item: item.advice),
)


@app.command("doctor")
def doctor(
    root: Annotated[
        Path,
        typer.Option(metavar="DIR", exists=True, file_okay=False, help="The node's file system."),
    ] = Path("/"),
    conf_file: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Where to write Romana's CNI configuration."),
    ] = Path("/etc/cni/net.d/10-romana.conflist"),
    bin_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="The runtime's plug-in folder.")
    ] = Path("/opt/cni/bin"),
    state_dir: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to keep the agent's state.")
    ] = Path("/var/lib/romana"),
    output: FormatOption = Format.TABLE,
) -> None:
    """Shows what this node lacks for Romana. Exit code 1: something without which it cannot work.

    Needs no service and no agent. Run it as root, in the node's own network namespace: what the
    kernel can do is tried in one of its own. Nothing is changed but modules loaded.

    \b
    Examples:
      romana doctor
      romana doctor -o json
      romana doctor --root /host
    """

    async def main() -> ExitCode:
        places = Places(
            root,
            str(conf_file.parent).lstrip("/"),
            str(bin_dir).lstrip("/"),
            str(state_dir).lstrip("/"),
        )
        findings = judge(look(places), own_configuration=conf_file.name)
        out = Output(output, Screen())
        shown = [each for each in findings if out.wide or each.verdict is not Verdict.OK]
        if out.for_programs:
            out.value({"fits": fits(findings), "findings": [{**asdict(each)} for each in findings]})
        elif out.form is Format.NAME:
            for each in shown:
                out.line(each.check)
        else:
            out.screen.table(findings, COLUMNS, wide=True)
        return ExitCode.OK if fits(findings) else ExitCode.NEGATIVE

    finish(main, form=output)
