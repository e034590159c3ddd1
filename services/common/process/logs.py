"""Logs: structlog, one JSON object a line, or coloured text on a terminal.

Events are constant lower-case words (`log.info("block_taken", network=...)`), details are fields,
and there are no secrets. What libraries log through the standard library (grpc, asyncio) takes the
same way. The request a line belongs to is kept in a context variable of its own and looked up only
when something is logged, because a call that logs nothing should pay nothing.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from services.common.lasting_stream import LastingStream
from services.common.process.version import version

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

current_request: ContextVar[str] = ContextVar("current_request")
"""Id of the call that is being served; set by `services.common.rpc.interceptors`."""


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A line at the level info that is written often: encoding it so costs a twentieth."""

    event: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class _Lines:
    out: TextIO
    constants: str
    """What every line ends with, as members of its object."""


_encode = msgspec.json.Encoder().encode
_lines: list[_Lines] = []
"""At most one: of this process, if entries are written as JSON and not dropped."""


def write_entries(entries: Sequence[LogEntry]) -> None:
    """Writes entries at once, as `log.info` would one by one."""
    if not _lines:
        log = structlog.get_logger(__name__)
        for entry in entries:
            log.info(**msgspec.structs.asdict(entry))
        return
    lines = _lines[0]
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    end = f',"level":"info","timestamp":"{now}",{lines.constants}}}\n'
    lines.out.write("".join(_encode(entry)[:-1].decode() + end for entry in entries))
    lines.out.flush()


_QUIET_LIBRARIES = {
    "grpc._cython.cygrpc": logging.INFO,
    "asyncio": logging.INFO,
    "httpx2": logging.WARNING,
    "httpcore2": logging.WARNING,
}
"""Below that their lines are about every call and every event loop: not even wanted at DEBUG."""


def configure_logs(
    service: str,
    *,
    level: LogLevel = "info",
    format: LogFormat = "auto",  # noqa: A002 - what the setting is called
    stream: TextIO | None = None,
) -> None:
    """Sets up structlog and the standard library's logging of this process.

    Args:
        service: Bound to every line, as is the version.
        level: The least severe level that is written.
        format: `auto` is `console` on a terminal and `json` elsewhere.
        stream: Standard error unless given.
    """
    given = sys.stderr if stream is None else stream
    console = format == "console" or (format == "auto" and given.isatty())
    # a full disk or a log reader that restarts must not end what writes a line about itself
    out = cast("TextIO", LastingStream(given))
    threshold = logging.getLevelNamesMapping()[level.upper()]
    constants = json.dumps({"service": service, "version": version()})[1:-1]
    _lines[:] = [] if console or threshold > logging.INFO else [_Lines(out, constants)]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _constants(service, version()),
    ]
    renderer: list[Processor] = (
        [structlog.dev.ConsoleRenderer(colors=given.isatty())]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    )
    structlog.configure(
        processors=[*shared, structlog.processors.StackInfoRenderer(), *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, _library_event],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    for name, least in _QUIET_LIBRARIES.items():
        logging.getLogger(name).setLevel(max(threshold, least))
    logging.captureWarnings(capture=True)


def _add_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    request = current_request.get("")
    if request:
        event.setdefault("request_id", request)
    return event


def _constants(service: str, version: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        event["version"] = version
        return event

    return add


def _library_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Libraries log sentences; ours are constant events with the sentence as a field."""
    event["message"] = event["event"]
    event["event"] = "library_log"
    return event
