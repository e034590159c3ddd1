"""`romana certificates authority`: one authority replaces another, and no connection fails."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from services.common.certificates.authority import AUTHORITY_DAYS, CERTIFICATE_DAYS
from services.ctl.calls.verb import FormatOption, group
from services.ctl.local.certificate_folder import CertificateFolder, Issued
from services.ctl.verbs.certificates_shown import DaysOption, FolderOption, show
from services.ctl.views.output import Format

app = group("Replace the authority: prepare, switch, finish. No connection fails on the way.")


@app.command("prepare")
def prepare(
    folder: FolderOption = None,
    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="TEXT",
            help="Name of the new authority; default: the old name with the next number.",
        ),
    ] = "",
    days: DaysOption = AUTHORITY_DAYS,
    output: FormatOption = Format.TABLE,
) -> None:
    """Makes the next authority. It signs nothing yet, since nobody trusts it yet.

    \b
    Examples:
      romana certificates authority prepare
    """

    def made(there: CertificateFolder, now: datetime) -> list[Issued]:
        there.authorities.prepare(name, now, days)
        return there.all()

    show(
        folder,
        made,
        output,
        after="Copy ca.pem to all machines, then: romana certificates authority switch",
    )


@app.command("switch")
def switch(
    folder: FolderOption = None,
    days: DaysOption = CERTIFICATE_DAYS,
    output: FormatOption = Format.TABLE,
) -> None:
    """Has the next authority sign, and issues all certificates anew whose keys are here.

    \b
    Examples:
      romana certificates authority switch
    """

    def made(there: CertificateFolder, now: datetime) -> list[Issued]:
        there.switch_authority(now, days)
        return there.all()

    show(
        folder,
        made,
        output,
        after="Copy each machine its certificate and key, then: romana certificates authority "
        "finish",
    )


@app.command("finish")
def finish(folder: FolderOption = None, output: FormatOption = Format.TABLE) -> None:
    """Trusts the former authority no more.

    \b
    Examples:
      romana certificates authority finish
    """

    def made(there: CertificateFolder, now: datetime) -> list[Issued]:
        there.finish_authority(now)
        return there.all()

    show(folder, made, output, after="Copy ca.pem to all machines")
