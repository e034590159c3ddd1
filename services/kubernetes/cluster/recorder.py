"""Events on objects: what people read in `kubectl describe`.

The same event again counts up. They are written one after the other, beside the work; when there
are too many, or the API server is away for long, the oldest are dropped: an event is a courtesy.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from lightkube.models.core_v1 import EventSource, ObjectReference
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Event

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import Conflict, NotFound, RomanaError, Unavailable
from services.kubernetes.cluster.api_server import ApiServer

log = structlog.get_logger(__name__)

COMPONENT: Final = "romana"
MESSAGE_MOST: Final = 1000
"""Characters; the API server takes 1,024."""
WAITING_MOST: Final = 1000
DEFAULT_NAMESPACE: Final = "default"
"""Where events of what has no namespace are."""
RETRY: Final = BackoffPolicy(initial=0.2, maximum=10.0)


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is about."""

    kind: str
    api_version: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Note:
    """An event."""

    subject: Subject
    reason: str
    """For programs: one word, as "AddressesExhausted"."""
    message: str
    is_warning: bool = True


class Recorder:
    """Writes events."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._waiting: deque[Note] = deque(maxlen=WAITING_MOST)
        self._kick = asyncio.Event()

    def note(self, note: Note) -> None:
        """Returns at once; one that waits already is not written twice."""
        if note not in self._waiting:
            self._waiting.append(note)
            self._kick.set()

    async def run(self) -> None:
        """Writes for ever."""
        backoff = Backoff(RETRY, random.random)
        while True:
            await self._kick.wait()
            self._kick.clear()
            while self._waiting:
                note = self._waiting[0]
                try:
                    await self._write(note)
                except Unavailable:
                    await asyncio.sleep(backoff.failed())
                    continue
                except RomanaError as error:
                    # as in a namespace that is being deleted
                    log.info("event_not_written", subject=note.subject.name, message=error.message)
                backoff.succeeded()
                if self._waiting and self._waiting[0] is note:
                    self._waiting.popleft()

    async def _write(self, note: Note) -> None:
        subject = note.subject
        namespace = subject.namespace or DEFAULT_NAMESPACE
        content = "\0".join((subject.uid, note.reason, note.message)).encode()
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        name = f"{subject.name[:200].rstrip('-.')}.{digest}"
        now = datetime.now(UTC)
        fresh = Event(
            metadata=ObjectMeta(name=name, namespace=namespace),
            involvedObject=ObjectReference(
                apiVersion=subject.api_version,
                kind=subject.kind,
                namespace=subject.namespace or None,
                name=subject.name,
                uid=subject.uid,
            ),
            reason=note.reason,
            message=note.message[:MESSAGE_MOST],
            type="Warning" if note.is_warning else "Normal",
            source=EventSource(component=COMPONENT),
            reportingComponent=COMPONENT,
            firstTimestamp=now,
            lastTimestamp=now,
            count=1,
        )
        try:
            await self._server.call(lambda client: client.create(fresh))
        except Conflict:
            await self._count_up(name, namespace, now)

    async def _count_up(self, name: str, namespace: str, now: datetime) -> None:
        try:
            known = await self._server.call(
                lambda client: client.get(Event, name, namespace=namespace)
            )
            patch = {"count": (known.count or 1) + 1, "lastTimestamp": now}
            await self._server.call(
                lambda client: client.patch(Event, name, patch, namespace=namespace)
            )
        except (NotFound, Conflict):
            pass  # it has just ended, or somebody else counts
