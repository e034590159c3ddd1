"""`romana certificates kubernetes` and `request`: certificates of an installation in Kubernetes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from services.common.certificates.authority import CERTIFICATE_DAYS
from services.common.terminal.table import Column, Screen
from services.ctl.calls.verb import FormatOption, finish
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.local import node_certificate
from services.ctl.local.cluster_certificates import ClusterCertificates, Done, Term
from services.ctl.views.output import Format, Json, Output
from services.kubernetes.cluster.api_server import ApiServer, load_config

T = TypeVar("T")

KubeconfigOption = Annotated[
    Path | None,
    typer.Option(
        "--kubeconfig",
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Where the API server is.  [default: by this pod's ServiceAccount]",
    ),
]
COLUMNS: tuple[Column[Done], ...] = (
    Column("SECRET", lambda item: item.secret),
    Column("OUTCOME", lambda item: item.outcome),
    Column("EXPIRES", lambda item: f"{item.facts.not_after:%Y-%m-%d}"),
)


def kubernetes(
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Namespace of the installation.")],
    host: Annotated[
        list[str],
        typer.Option(
            "--host",
            metavar="NAME|ADDRESS",
            help="Host name by which services are called; repeat for several.",
        ),
    ],
    days: Annotated[
        int, typer.Option("--days", min=1, max=36500, help="How long they are valid.")
    ] = CERTIFICATE_DAYS,
    within: Annotated[
        int,
        typer.Option(
            "--within", metavar="DAYS", min=0, help="Renew what expires within this time."
        ),
    ] = 30,
    etcd: Annotated[
        bool,
        typer.Option(
            "--etcd/--no-etcd",
            help="Also those of etcd; not, if it was there before and has an authority of its own.",
        ),
    ] = True,
    kubeconfig: KubeconfigOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Makes authorities and certificates as Secrets, and renews those that end soon.

    Services take up what was renewed while they run. Agents are restarted, some at a time, before
    the certificates of their nodes end.

    \b
    Examples:
      romana certificates kubernetes --namespace romana-system --host romana --host 10.96.0.20
    """

    async def main() -> ExitCode | None:
        now = datetime.now(UTC)
        done = await _at(
            kubeconfig,
            lambda server: ClusterCertificates(server, namespace).ensure(
                host, now, Term(days, within), etcd=etcd
            ),
        )
        Output(output, Screen()).listing(
            done, COLUMNS, document=_document, name=lambda item: item.secret, empty=""
        )
        return None

    finish(main, form=output)


def request(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Name of this node in Kubernetes.")],
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Folder for ca.crt, tls.crt and tls.key.")
    ],
    kubeconfig: KubeconfigOption = None,
) -> None:
    """Asks the controller, in an agent's pod, for a certificate of its node.

    \b
    Examples:
      romana certificates request node-1 --dir /var/lib/romana/tls
    """

    async def main() -> ExitCode | None:
        await _at(kubeconfig, lambda server: node_certificate.request(server, node, folder))
        return None

    finish(main, form=Format.TABLE)


async def _at(kubeconfig: Path | None, act: Callable[[ApiServer], Awaitable[T]]) -> T:
    server = ApiServer(load_config(kubeconfig))
    try:
        return await act(server)
    finally:
        await server.close()


def _document(item: Done) -> dict[str, Json]:
    return {
        "secret": item.secret,
        "outcome": item.outcome,
        "notAfter": item.facts.not_after.isoformat(),
    }
