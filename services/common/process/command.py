"""The command line of a service process: settings, logs, and a run to the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from services.common.errors import RomanaError
from services.common.process.lifecycle import Lifecycle, run
from services.common.process.logs import configure_logs
from services.common.process.settings import ServiceSettings, load_settings
from services.common.process.version import version
from services.common.tracing import spans, starting

log = structlog.get_logger(__name__)

_Settings = TypeVar("_Settings", bound=ServiceSettings)


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of one service that overrides a setting."""

    name: str
    """Such as `--initial-topology`; the setting is called the same."""
    metavar: str
    help: str

    @property
    def setting(self) -> str:
        return self.name.removeprefix("--").replace("-", "_")


def run_service(
    service: str,
    kind: type[_Settings],
    serve: Callable[[Lifecycle, _Settings], Awaitable[None]],
    arguments: Sequence[str],
    flags: Sequence[Flag] = (),
    *,
    uvloop: bool = True,
) -> int:
    """Reads the settings and runs the service; returns the exit status, 2 for wrong settings.

    Flags for listening and for etcd are there if the service has such settings.
    """
    parser = argparse.ArgumentParser(
        prog=f"romana serve {service}", description=f"Runs one replica of the {service} service."
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings as YAML")
    fields = kind.model_fields
    if "listen" in fields:
        parser.add_argument("--listen", metavar="ADDRESS", help="host:port or unix:/path")
        parser.add_argument("--insecure", action="store_const", const=True, help="without TLS")
    if "etcd" in fields:
        parser.add_argument("--etcd", metavar="ENDPOINTS", help="host:port, separated by commas")
    parser.add_argument("--version", action="version", version=version())
    for flag in flags:
        parser.add_argument(flag.name, metavar=flag.metavar, help=flag.help)
    options = parser.parse_args(list(arguments))
    overrides: dict[str, object] = {flag.setting: getattr(options, flag.setting) for flag in flags}
    if "listen" in fields:
        overrides["listen"] = {"address": options.listen, "insecure": options.insecure}
    if "etcd" in fields:
        overrides["etcd"] = {"endpoints": options.etcd}
    try:
        settings = load_settings(kind, file=options.config, overrides=overrides)
    except RomanaError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    configure_logs(service, level=settings.log.level, format=settings.log.format)
    log.info("settings", **settings.redacted())
    traces = settings.traces
    try:
        starting.start(service, traces.collector(), share=traces.share)
    except RomanaError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    try:
        return run(lambda life: serve(life, settings), uvloop=uvloop)
    finally:
        spans.stop()
