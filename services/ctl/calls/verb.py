"""What all verbs share: common options, one session, one place where failures end.

A verb is an async function whose first parameter is the `Session`; the rest are its options, as
typer declares them. It returns nothing, or the exit code when that is not plain success.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Concatenate, ParamSpec

import typer

from services.common.errors import RomanaError
from services.common.process import environment
from services.common.tls import TlsFiles
from services.common.tracing import spans, starting
from services.common.tracing.collector import Collector, CollectorFiles, collector
from services.ctl.calls import service_addresses
from services.ctl.calls.session import CommonOptions, Session
from services.ctl.failures import failure
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import Failure, about
from services.ctl.failures.failure_view import show
from services.ctl.views.output import Format

P = ParamSpec("P")
Verb = Callable[Concatenate[Session, P], Awaitable[ExitCode | None]]

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

FormatOption = Annotated[
    Format, typer.Option("-o", "--output", help="table, wide, name, json or yaml.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
RequestIdOption = Annotated[
    str,
    typer.Option(
        metavar="TEXT", help="Id that appears in the services' logs; generated if not given."
    ),
]
TimeoutOption = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.01, max=1e9, help="How long a call may take.")
]
TopologyOption = Annotated[
    str,
    typer.Option(
        "--topology-address",
        metavar="HOST:PORT,...",
        help=f"Topology service [{environment.TOPOLOGY_VARIABLE}; else a running "
        f"`romana up`, else 127.0.0.1:{service_addresses.TOPOLOGY_PORT}].",
    ),
]
IpamOption = Annotated[
    str,
    typer.Option(
        "--ipam-address",
        metavar="HOST:PORT,...",
        help=f"Ipam service [{environment.IPAM_VARIABLE}; else a running `romana up`, else "
        f"127.0.0.1:{service_addresses.IPAM_PORT}].",
    ),
]
PolicyOption = Annotated[
    str,
    typer.Option(
        "--policy-address",
        metavar="HOST:PORT,...",
        help=f"Policy service [{environment.POLICY_VARIABLE}; else a running "
        f"`romana up`, else 127.0.0.1:{service_addresses.POLICY_PORT}].",
    ),
]
CaOption = Annotated[
    str,
    typer.Option(
        "--tls-ca",
        metavar="FILE",
        envvar="ROMANA_TLS_CA",
        help="Authority that the services' certificates come from. TLS is always mutual: give all "
        "three files.",
    ),
]
CertificateOption = Annotated[
    str,
    typer.Option(
        "--tls-cert", metavar="FILE", envvar="ROMANA_TLS_CERT", help="Certificate to show."
    ),
]
KeyOption = Annotated[
    str, typer.Option("--tls-key", metavar="FILE", envvar="ROMANA_TLS_KEY", help="Its key.")
]
InsecureOption = Annotated[
    bool,
    typer.Option("--insecure", envvar="ROMANA_INSECURE", help="Reach other machines without TLS."),
]

Argument = str | int | float | bool | Path | list[str] | None


def group(help_text: str) -> typer.Typer:
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings=SETTINGS,
        add_completion=False,
    )


def single() -> typer.Typer:
    """A verb without a noun."""
    return typer.Typer(rich_markup_mode=None, context_settings=SETTINGS, add_completion=False)


def verb(
    noun: typer.Typer, name: str, *, examples: str, mutates: bool = False, old_name: str = ""
) -> Callable[[Verb[P]], Verb[P]]:
    """Makes an async function a verb of a noun; by its old name, too, of which nothing tells."""

    def register(function: Verb[P]) -> Verb[P]:
        own = inspect.signature(function, eval_str=True)
        parameters = [*own.parameters.values()][1:]
        common = _common(mutates=mutates)
        taken = {parameter.name for parameter in parameters}
        extra = [parameter for parameter in common if parameter.name not in taken]

        def command(**values: Argument) -> None:
            given = {parameter.name: values.pop(parameter.name) for parameter in extra}
            run(function, values, given, name=name)

        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # PEP 362
            [
                parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
                for parameter in (*parameters, *extra)
            ]
        )
        command.__annotations__ = {}
        text = inspect.cleandoc(function.__doc__ or "")
        shown = "\n".join(f"  {line}".rstrip() for line in inspect.cleandoc(examples).splitlines())
        help_text = f"{text}\n\n\b\nExamples:\n{shown}"
        noun.command(name, help=help_text)(command)
        if old_name:
            noun.command(old_name, help=help_text, hidden=True)(command)
        return function

    return register


def run(
    function: Callable[..., Awaitable[ExitCode | None]],
    values: dict[str, Argument],
    given: dict[str, Argument],
    *,
    name: str,
) -> None:
    common = common_options(given)
    starting.start("ctl", _collector(insecure=common.insecure))

    async def session() -> ExitCode | None:
        words = dict.fromkeys((*sys.argv[1:2], name))  # a verb without a noun is there once
        with spans.span(" ".join(("romana", *words))):
            async with Session(common) as made:
                return await function(made, **values)

    try:
        finish(session, form=common.form)
    finally:
        spans.stop()


def finish(main: Callable[[], Coroutine[object, object, ExitCode | None]], *, form: Format) -> None:
    """Runs a coroutine, shows what failed and leaves with the exit code."""
    try:
        code = asyncio.run(main()) or ExitCode.OK
        sys.stdout.flush()
    except (Failure, RomanaError) as error:
        failed = error if isinstance(error, Failure) else failure.of_error(error)
        show(failed, form=form)
        code = failed.exit_code
    if code:
        raise typer.Exit(code)


def common_options(given: dict[str, Argument]) -> CommonOptions:
    addresses = service_addresses.find(
        str(given.get("topology_address") or ""),
        str(given.get("ipam_address") or ""),
        os.environ,
        policy=str(given.get("policy_address") or ""),
    )
    return CommonOptions(
        addresses=addresses,
        tls=tls_files(given) or addresses.tls,
        insecure=bool(given.get("insecure", False)),
        timeout=float(str(given.get("timeout", 10.0))),
        form=Format(str(given.get("output", Format.TABLE))),
        yes=bool(given.get("yes", False)),
        request_id=str(given.get("request_id") or ""),
    )


def _collector(*, insecure: bool) -> Collector | None:
    """Where this run is traced to, if it shall be."""
    if not (endpoint := os.environ.get(environment.TRACES_VARIABLE, "")):
        return None
    ca, certificate, key = (
        Path(named) if (named := os.environ.get(variable)) else None
        for variable in (
            environment.TRACES_CA_VARIABLE,
            environment.TRACES_CERTIFICATE_VARIABLE,
            environment.TRACES_KEY_VARIABLE,
        )
    )
    with about(environment.TRACES_VARIABLE):
        return collector(endpoint, CollectorFiles(ca, certificate, key), insecure=insecure)


def tls_files(given: Mapping[str, Argument]) -> TlsFiles | None:
    """The files of mutual TLS, if they were named."""
    named = [str(given.get(name) or "") for name in ("tls_ca", "tls_cert", "tls_key")]
    if not any(named):
        return None
    if not all(named):
        raise typer.BadParameter("--tls-ca, --tls-cert and --tls-key go together")
    ca, certificate, key = map(Path, named)
    return TlsFiles(ca, certificate, key)


def _common(*, mutates: bool) -> list[inspect.Parameter]:
    """The options that are added to a verb's own."""
    mutating: list[tuple[str, object, object]] = [
        ("yes", YesOption, False),
        ("request_id", RequestIdOption, ""),
    ]
    every: list[tuple[str, object, object]] = [
        ("output", FormatOption, Format.TABLE),
        ("timeout", TimeoutOption, 10.0),
        ("topology_address", TopologyOption, ""),
        ("ipam_address", IpamOption, ""),
        ("policy_address", PolicyOption, ""),
        ("tls_ca", CaOption, ""),
        ("tls_cert", CertificateOption, ""),
        ("tls_key", KeyOption, ""),
        ("insecure", InsecureOption, False),
    ]
    return [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
        )
        for name, annotation, default in ((mutating if mutates else []) + every)
    ]
