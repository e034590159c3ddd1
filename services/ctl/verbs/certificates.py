"""`romana certificates`: an authority of one's own, for mutual TLS."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from services.common.certificates.authority import AUTHORITY_DAYS, CERTIFICATE_DAYS, Subject
from services.common.rpc.identity import NODE_URI, URI, Role
from services.common.terminal.plural import count
from services.common.terminal.table import Column, Screen
from services.ctl.calls.verb import FormatOption, finish, group
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import usage
from services.ctl.local.certificate_folder import AUTHORITY, CertificateFolder, Issued
from services.ctl.verbs import certificates_kubernetes as cluster
from services.ctl.views.output import Format, Json, Output

app = group("Certificates for mutual TLS: an authority, services, nodes and people.")

app.command("kubernetes")(cluster.kubernetes)
app.command("request")(cluster.request)

SOON_DAYS = 30


FolderOption = Annotated[
    Path,
    typer.Option(
        "--dir",
        metavar="DIR",
        envvar="ROMANA_CERTIFICATES",
        help="The authority's folder: keep it where nobody else reads.",
    ),
]
DaysOption = Annotated[int, typer.Option("--days", min=1, max=36500, help="How long it is good.")]
DEFAULT_FOLDER = Path("romana-certificates")


def columns(now: datetime) -> tuple[Column[Issued], ...]:
    """What is shown of a certificate."""
    return (
        Column("NAME", lambda item: item.name),
        Column("ROLE", role),
        Column("HOSTS", lambda item: ", ".join(item.facts.hosts)),
        Column("EXPIRES", lambda item: f"{item.facts.not_after:%Y-%m-%d}"),
        Column("LEFT", lambda item: left(item.left(now)), right=True),
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
    }


def role(item: Issued) -> str:
    """In words."""
    if item.name == AUTHORITY:
        return "authority"
    return ", ".join(uri.removeprefix(URI) for uri in item.facts.uris)


def left(time: timedelta) -> str:
    """In days."""
    return "expired" if time < timedelta() else count(time.days, "day")


@app.command("init")
def init(
    folder: FolderOption = DEFAULT_FOLDER,
    name: Annotated[
        str, typer.Option("--name", metavar="TEXT", help="Of the authority.")
    ] = "romana",
    days: DaysOption = AUTHORITY_DAYS,
    output: FormatOption = Format.TABLE,
) -> None:
    """Makes an authority: all that trust its ca.pem trust what it issues.

    \b
    Examples:
      romana certificates init
      romana certificates init --dir /root/romana-certificates --days 1825
    """

    def made(now: datetime) -> list[Issued]:
        return [CertificateFolder(folder).init(name, now, days)]

    _show(made, output)


@app.command("issue")
def issue(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of a node, a service or a person.")],
    role_name: Annotated[Role, typer.Option("--role", help="What its owner may do.")],
    folder: FolderOption = DEFAULT_FOLDER,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME|ADDRESS",
            help="By which it is reached, for services; repeat it for several.",
        ),
    ] = None,
    request: Annotated[
        Path | None,
        typer.Option(
            "--csr",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Sign this key, do not make one.",
        ),
    ] = None,
    days: DaysOption = CERTIFICATE_DAYS,
    output: FormatOption = Format.TABLE,
) -> None:
    """Issues a certificate and its key. What each role may do: docs/roles.md.

    \b
    Examples:
      romana certificates issue ipam-1 --role service --host ipam-1.example --host 192.0.2.7
      romana certificates issue qa-1 --role node
      romana certificates issue alice --role operator --days 30
      romana certificates issue qa-1 --role node --csr qa-1.csr
    """
    uri = NODE_URI + name if role_name is Role.NODE else URI + role_name
    subject = Subject(name, (uri,), tuple(host or ()))

    def made(now: datetime) -> list[Issued]:
        if role_name is Role.SERVICE and not subject.hosts:
            raise usage(
                "a service's certificate needs --host: the names or addresses it is called by"
            )
        there = CertificateFolder(folder)
        if request is not None:
            return [there.sign(request.read_bytes(), subject, now, days)]
        return [there.issue(subject, now, days)]

    _show(made, output)


@app.command("renew")
def renew(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="None: all that end soon.")
    ] = None,
    folder: FolderOption = DEFAULT_FOLDER,
    within: Annotated[
        int, typer.Option("--within", metavar="DAYS", min=0, help="What `soon` means.")
    ] = SOON_DAYS,
    days: DaysOption = CERTIFICATE_DAYS,
    output: FormatOption = Format.TABLE,
) -> None:
    """Issues certificates anew, with new keys, for the same roles and hosts.

    \b
    Examples:
      romana certificates renew                all that end within 30 days
      romana certificates renew qa-1 ipam-1
    """

    def made(now: datetime) -> list[Issued]:
        there = CertificateFolder(folder)
        chosen = names or [
            item.name
            for item in there.all()
            if item.name != AUTHORITY
            and there.key(item.name).exists()
            and item.left(now) < timedelta(days=within)
        ]
        return [there.renew(name, now, days) for name in chosen]

    _show(made, output, empty=f"nothing ends within {count(within, 'day')}")


@app.command("list")
def list_certificates(
    folder: FolderOption = DEFAULT_FOLDER, output: FormatOption = Format.TABLE
) -> None:
    """Lists what was issued, and when it ends.

    \b
    Examples:
      romana certificates list
      romana certificates list -o json
    """

    def found(_: datetime) -> list[Issued]:
        return CertificateFolder(folder).all()

    _show(
        found, output, empty=f"nothing in {folder}: `romana certificates init` makes an authority"
    )


def _show(made: Callable[[datetime], list[Issued]], form: Format, *, empty: str = "") -> None:
    async def main() -> ExitCode | None:
        now = datetime.now(UTC)
        Output(form, Screen()).listing(
            made(now), columns(now), document=document, name=lambda item: item.name, empty=empty
        )
        return None

    finish(main, form=form)
