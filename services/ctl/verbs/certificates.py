"""`romana certificates`: an authority of one's own, for mutual TLS."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from services.common.certificates.authority import AUTHORITY_DAYS, CERTIFICATE_DAYS, Subject
from services.common.model.names import subject_name
from services.common.rpc.identity import NODE_URI, TENANT_URI, URI, Role
from services.common.terminal.plural import count
from services.common.terminal.table import Screen
from services.ctl.calls.verb import FormatOption, YesOption, group
from services.ctl.failures.failure import usage
from services.ctl.local import input_file
from services.ctl.local.certificate_folder import CertificateFolder, Issued
from services.ctl.verbs import certificates_authority
from services.ctl.verbs import certificates_kubernetes as cluster
from services.ctl.verbs.certificates_shown import DaysOption, FolderOption, chosen, show
from services.ctl.views.output import Format

app = group("Certificates for mutual TLS: an authority, services, nodes and people.")

app.add_typer(certificates_authority.app, name="authority")
app.command("kubernetes")(cluster.kubernetes)
app.command("request")(cluster.request)


@app.command("init")
def init(
    folder: FolderOption = None,
    name: Annotated[
        str, typer.Option("--name", metavar="TEXT", help="Name of the authority.")
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

    def made(there: CertificateFolder, now: datetime) -> list[Issued]:
        return [there.init(name, now, days)]

    show(folder, made, output)


@app.command("issue")
def issue(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of a node, a service or a person.")
    ],
    role_name: Annotated[Role, typer.Option("--role", help="What its owner may do.")],
    folder: FolderOption = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(
            "--tenant",
            metavar="NAME",
            help="Limit an operator to this tenant; repeat for several.",
        ),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME|ADDRESS",
            help="Host name or address of the service; repeat for several.",
        ),
    ] = None,
    request: Annotated[
        Path | None,
        typer.Option(
            "--csr",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Sign this key instead of making one.",
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
      romana certificates issue bob --role operator --tenant qa
      romana certificates issue qa-1 --role node --csr qa-1.csr
    """
    subject = Subject(name, _uris(name, role_name, tenant or ()), tuple(host or ()))

    def made(there: CertificateFolder, now: datetime) -> list[Issued]:
        if role_name is Role.SERVICE and not subject.hosts:
            raise usage(
                "a service's certificate needs --host: the names or addresses it is called by"
            )
        if request is not None:
            return [there.sign(input_file.content(request), subject, now, days)]
        return [there.issue(subject, now, days)]

    show(folder, made, output)


def _uris(name: str, role: Role, tenants: Sequence[str]) -> tuple[str, ...]:
    if tenants and role not in {Role.OPERATOR, Role.TENANT}:
        raise usage(f"--tenant limits an operator: --role {role} knows no tenants")
    if role is Role.NODE:
        return (NODE_URI + name,)
    if role is Role.TENANT and not tenants:
        raise usage("--role tenant needs --tenant: the tenants that its owner runs")
    for tenant in tenants:
        for problem in subject_name(tenant, "--tenant"):
            raise usage(f"{problem.path}: {problem.message}")
    # no role of an operator beside them: that would be of all tenants
    return tuple(sorted({TENANT_URI + tenant for tenant in tenants})) or (URI + role,)


@app.command("renew")
def renew(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Certificates to renew; none: all with less than a fifth of their life left.",
        ),
    ] = None,
    folder: FolderOption = None,
    within: Annotated[
        int | None,
        typer.Option(
            "--within", metavar="DAYS", min=0, help="All that expire within this many days."
        ),
    ] = None,
    days: DaysOption = CERTIFICATE_DAYS,
    output: FormatOption = Format.TABLE,
) -> None:
    """Issues certificates anew, with new keys, for the same roles and hosts.

    Processes take the files without a restart, wherever they are copied to. What was there before
    goes on being good until it ends.

    \b
    Examples:
      romana certificates renew                all of whose life a fifth is left
      romana certificates renew qa-1 ipam-1
    """

    def made(there: CertificateFolder, now: datetime) -> list[Issued]:
        soon = there.due(now) if within is None else there.ending(now + timedelta(days=within))
        return [there.renew(name, now, days) for name in names or soon]

    show(
        folder,
        made,
        output,
        empty="nothing ends soon"
        if within is None
        else f"nothing ends within {count(within, 'day')}",
    )


@app.command("revoke")
def revoke(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of a node, a service or a person.")
    ],
    folder: FolderOption = None,
    yes: YesOption = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Takes back what a name has and had before: services refuse it.

    They know it from ca.pem, which has a list of what was revoked from now on: copy it to all
    machines with services, they take it without a restart. Calls are refused and streams ended as
    soon as it is there. NAME can be issued again.

    \b
    Examples:
      romana certificates revoke qa-1
    """

    def made(there: CertificateFolder, now: datetime) -> list[Issued]:
        there.issued(name)
        if not yes and Screen().interactive:
            typer.confirm(f"Revoke {name}? That cannot be undone", abort=True, err=True)
        return there.revoke(name, now)

    show(folder, made, output, after="Copy ca.pem to all machines with services")


@app.command("list")
def list_certificates(folder: FolderOption = None, output: FormatOption = Format.TABLE) -> None:
    """Lists what was issued, and when it ends.

    \b
    Examples:
      romana certificates list
      romana certificates list -o json
    """

    show(
        folder,
        lambda there, now: [*there.all(), *there.revoked(now)],
        output,
        empty=f"nothing in {chosen(folder)}: `romana certificates init` makes an authority",
    )
