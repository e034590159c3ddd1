"""What every service does for its part of the audit, for the life of a process."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from romana.audit.v1 import audit_service_pb2_grpc

from services.common.audit.in_force import Ask, InForceNotes
from services.common.audit.lines import AuditLines
from services.common.audit.service import AuditService
from services.common.audit.trail import AuditTrail
from services.common.audit.writer import AuditWriter
from services.common.errors import RomanaError
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.process.lifecycle import Lifecycle
from services.common.rpc.calling import who
from services.common.rpc.server import RpcServer


@dataclass(frozen=True, slots=True)
class Noting:
    """Which changes a service notes to be in force."""

    services: Collection[str]
    """That made them."""
    ask: Ask


class Auditing:
    """The audit of one replica."""

    def __init__(
        self, client: EtcdClient, keys: Keys, writer: AuditWriter, file: Path | None
    ) -> None:
        """Nothing happens before `serve`; `file`: for JSON lines."""
        service = writer.service
        self._lines = AuditLines(file, service, writer.replica) if file is not None else None
        on_change = self._lines.changed if self._lines is not None else _nothing
        self.trail = AuditTrail(client, keys, service, on_change)
        self._service = service

    def register(self, server: RpcServer) -> None:
        """Serves the API, and hears of refused changes, before the server starts."""
        add = audit_service_pb2_grpc.add_AuditServiceServicer_to_server
        server.register(add, AuditService(self.trail))
        if self._lines is not None:
            server.on_refused(self._refused)

    def start(self, life: Lifecycle, noting: Noting | None = None) -> None:
        """Runs until the process stops."""
        life.start("audit", self.trail.run())
        if self._lines is not None:
            life.start("audit lines", self._lines.run())
        if noting is not None:
            on_note = self._lines.in_force if self._lines is not None else _nothing
            notes = InForceNotes(self.trail, noting.services, noting.ask, on_note)
            life.start("in force", notes.run())

    def _refused(self, method: str, error: RomanaError) -> None:
        if self._lines is not None:
            self._lines.refused(method, error, who(self._service))


def _nothing(*_: object) -> None:
    """Nobody wants to know."""
