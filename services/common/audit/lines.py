"""Changes as JSON lines in a file, for whoever keeps them for longer than the store does.

The replica that makes a change writes its line; one that was refused leaves a line, too, and
nothing else. The file is opened anew for every line, so that it may be renamed at any time.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import structlog

from services.common.audit.record import InForceRecord, Who
from services.common.audit.trail import Change
from services.common.errors import RomanaError, Unavailable
from services.common.etcd.types import Revision

log = structlog.get_logger(__name__)

QUEUE_MOST: Final = 10_000
"""Lines that wait for a slow disk; more are dropped, which the log says."""
MODE: Final = 0o600

Line: TypeAlias = Mapping[str, object]


class AuditLines:
    """The lines of one replica."""

    def __init__(
        self, path: Path, service: str, replica: str, clock: Callable[[], float] = time.time
    ) -> None:
        """Writes nothing before `run`."""
        self._path = path
        self._service = service
        self._replica = replica
        self._clock = clock
        self._queue: asyncio.Queue[Line] = asyncio.Queue(QUEUE_MOST)

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            lines = [await self._queue.get()]
            while not self._queue.empty():
                lines.append(self._queue.get_nowait())
            try:
                await asyncio.to_thread(self._append, lines)
            except OSError as error:
                log.error(  # noqa: TRY400 - the reason says it all
                    "audit_lines_not_written",
                    file=str(self._path),
                    lines=len(lines),
                    why=error.strerror,
                )

    def changed(self, change: Change) -> None:
        """Writes a change, if this replica made it."""
        record = change.record
        if record.replica != self._replica or change.service != self._service:
            return
        documents = record.documents()
        objects: list[dict[str, object]] = []
        for number, one in enumerate(record.objects):
            line: dict[str, object] = {"kind": one.kind, "name": one.name, "action": one.action}
            if number < len(documents):
                line["before"] = _value(documents[number].before)
                line["after"] = _value(documents[number].after)
            objects.append(line)
        self._add(
            {
                "time": _time(record.at / 1000),
                "event": "changed",
                "revision": change.revision,
                **_who(record.who),
                "object_count": record.count,
                "objects": objects,
            }
        )

    def in_force(self, revision: Revision, record: InForceRecord) -> None:
        """Writes that all nodes have applied a change."""
        self._add(
            {
                "time": _time(record.at / 1000),
                "event": "in_force",
                "revision": revision,
                "nodes": record.nodes,
            }
        )

    def refused(self, method: str, error: RomanaError, who: Who) -> None:
        """Writes that a change was refused; of what failed for another reason nothing is said."""
        if isinstance(error, Unavailable):
            return
        self._add(
            {
                "time": _time(self._clock()),
                "event": "refused",
                "method": method,
                **_who(who),
                "reason": error.reason,
                "message": error.message,
            }
        )

    def _add(self, line: Line) -> None:
        try:
            self._queue.put_nowait({"service": self._service, **line})
        except asyncio.QueueFull:
            log.error(  # noqa: TRY400 - there is nothing more to say
                "audit_line_dropped", file=str(self._path), waiting=QUEUE_MOST
            )

    def _append(self, lines: list[Line]) -> None:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        with open(self._path, "a", encoding="utf-8", opener=_private) as file:
            file.write(text)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, MODE)


def _value(document: str) -> object:
    return json.loads(document) if document else None


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _who(who: Who) -> Line:
    found: Line = msgspec.to_builtins(who)
    return found
