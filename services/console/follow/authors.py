"""Who made the changes that are shown: asked of the record of changes when one was noticed.

A change's record is written with the change, so that whoever has seen the one finds the other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from romana.audit.v1 import audit_service_pb2 as api

from services.common.errors import RomanaError
from services.common.rpc.replicas import Replicas
from services.console.follow.live import Live
from services.console.picture.changes import Author, ChangeLog

if TYPE_CHECKING:
    from romana.audit.v1.audit_service_pb2_grpc import AuditServiceAsyncStub

log = structlog.get_logger(__name__)

AGAIN_SECONDS: Final = 2.0
"""After which it is asked again when there was no answer."""
MOST: Final = 200
"""Records that are read at once, the newest."""


class AuthorsFollower:
    """Asks topology, which answers for all services."""

    def __init__(
        self,
        audit: Replicas[AuditServiceAsyncStub],
        changes: ChangeLog,
        live: Live,
        woken: asyncio.Event,
    ) -> None:
        """`woken` is set when a change has been noted."""
        self._audit = audit
        self._changes = changes
        self._live = live
        self._woken = woken
        self._known = 0
        """The revision of the newest record that was read."""

    async def run(self) -> None:
        """Asks for ever."""
        while True:
            self._woken.clear()
            try:
                await self._look()
            except RomanaError as error:
                log.debug("authors_not_asked", message=error.message)
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            await self._woken.wait()

    async def _look(self) -> None:
        answer = await self._audit.call(
            lambda stub: stub.ListChanges,
            api.ListChangesRequest(page_size=MOST, after_revision=self._known),
        )
        if not answer.changes:
            return
        self._known = answer.changes[0].revision
        authors = [
            Author(item.revision, item.service, item.identity, item.client)
            for item in answer.changes
        ]
        if self._changes.made_by(authors):
            self._live.tell("changes")
