"""What all methods share that have something decided by the active replica."""

from __future__ import annotations

from dataclasses import dataclass, field

from romana.ipam.v1 import ipam_service_pb2_grpc

from services.common.audit.record import Who
from services.common.errors import RomanaError
from services.ipam.api.allocation_log import AllocationLog
from services.ipam.api.forwarding import Forwarding
from services.ipam.deciding.commands import Command, Result
from services.ipam.store.replica import Replica


@dataclass(frozen=True, slots=True)
class Deciding:
    """This replica, the way to the active one, and the log's lines of what was decided."""

    replica: Replica
    forwarding: Forwarding
    log: AllocationLog = field(default_factory=AllocationLog)


class DecidingMethods(ipam_service_pb2_grpc.IpamServiceServicer):
    def __init__(self, deciding: Deciding) -> None:
        self._replica = deciding.replica
        self._forwarding = deciding.forwarding
        self._log = deciding.log

    async def _submit(self, command: Command, who: Who | None = None) -> Result:
        result = (await self._replica.submit((command,), who))[0]
        if isinstance(result, RomanaError):
            raise result
        return result
