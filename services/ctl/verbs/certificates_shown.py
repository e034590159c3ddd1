"""What the verbs of `romana certificates` share: options, and how certificates are shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from services.common.process import environment
from services.common.rpc.identity import URI
from services.common.terminal.plural import count
from services.common.terminal.table import Column, Screen
from services.ctl.calls import service_addresses
from services.ctl.calls.verb import finish
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.local.authorities import NEXT, OLD, SIGNS
from services.ctl.local.certificate_folder import ZERO, CertificateFolder, Issued
from services.ctl.views.output import Format, Json, Output

AUTHORITIES = {SIGNS: "authority", NEXT: "next authority", OLD: "former authority"}

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        envvar=environment.CERTIFICATES_VARIABLE,
        help="The authority's folder: keep it where nobody else reads.  [default: that of a "
        "running `romana up --tls`, else romana-certificates]",
    ),
]
DaysOption = Annotated[int, typer.Option("--days", min=1, max=36500, help="How long it is valid.")]
DEFAULT_FOLDER = Path("romana-certificates")


def chosen(folder: Path | None) -> Path:
    """The folder that was named; else that of the cluster on this machine, if it has one."""
    if folder is not None:
        return folder
    cluster = service_addresses.chosen(os.environ)
    return Path(cluster.certificates) if cluster and cluster.certificates else DEFAULT_FOLDER


def columns(now: datetime) -> tuple[Column[Issued], ...]:
    return (
        Column("NAME", lambda item: item.name),
        Column("ROLE", role),
        Column("HOSTS", lambda item: ", ".join(item.facts.hosts)),
        Column("EXPIRES", lambda item: f"{item.facts.not_after:%Y-%m-%d}"),
        Column("LEFT", lambda item: left(item, now), right=True),
        Column("FILE", lambda item: str(item.path), wide=True),
    )


def document(item: Issued) -> dict[str, Json]:
    """A certificate for programs."""
    return {
        "name": item.name,
        "roles": list(item.facts.uris),
        "hosts": list(item.facts.hosts),
        "serial": f"{item.facts.serial:x}",
        "notBefore": item.facts.not_before.isoformat(),
        "notAfter": item.facts.not_after.isoformat(),
        "certificate": str(item.path),
        "revoked": item.revoked,
    }


def role(item: Issued) -> str:
    """In words."""
    if item.is_authority:
        return AUTHORITIES[item.name]
    return ", ".join(uri.removeprefix(URI) for uri in item.facts.uris)


def left(item: Issued, now: datetime) -> str:
    """In days."""
    if item.revoked:
        return "revoked"
    time = item.left(now)
    return "expired" if time < ZERO else count(time.days, "day")


def show(
    folder: Path | None,
    made: Callable[[CertificateFolder, datetime], list[Issued]],
    form: Format,
    *,
    empty: str = "",
    after: str = "",
) -> None:
    """Runs a verb on the folder that was named, and shows what came of it.

    `after`: what is to be done next, for people.
    """

    async def main() -> ExitCode | None:
        now = datetime.now(UTC)
        screen = Screen()
        issued = made(CertificateFolder(chosen(folder)), now)
        Output(form, screen).listing(
            issued, columns(now), document=document, name=lambda item: item.name, empty=empty
        )
        if after and issued:
            screen.note(after)
        return None

    finish(main, form=form)
