"""gRPC health checking, `grpc.health.v1`: NOT_SERVING until told otherwise.

Own, because grpcio-health-checking's servicer writes to watchers while it holds the lock that a
change of state needs: one watcher that does not read would keep the server from saying that it is
about to stop. And because its watchers outlive a drain.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.errors import NotFound
from services.common.rpc.draining import Draining

OVERALL = ""
"""The service name that stands for the server as a whole."""

_Context = grpc.aio.ServicerContext[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]


class Health(health_pb2_grpc.HealthServicer):
    """One state for all services of a server: they come and go together."""

    def __init__(self, draining: Draining) -> None:
        self._draining = draining
        self._services = {OVERALL}
        self._serving = False
        self._changed = asyncio.Event()

    @property
    def serving(self) -> bool:
        return self._serving

    def add(self, service: str) -> None:
        self._services.add(service)

    def set_serving(self, *, serving: bool) -> None:
        """Changes what is said and wakes the watchers; never SERVING again once draining."""
        self._serving = serving and not self._draining.begun
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(  # noqa: N802 - the method's name in the API
        self, request: health_pb2.HealthCheckRequest, _context: _Context
    ) -> health_pb2.HealthCheckResponse:
        """The state now; NOT_FOUND for a service that is not here."""
        if request.service not in self._services:
            raise NotFound(f"no service {request.service!r} here", "NO_SUCH_SERVICE")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(  # noqa: N802 - the method's name in the API
        self, request: health_pb2.HealthCheckRequest, _context: _Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The state now and whenever it changes, until the server stops."""
        last = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
                last = status
            elif self._draining.begun:
                return
            else:
                await changed.wait()

    def _status(self, service: str) -> int:
        if service not in self._services:
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        if self._serving:
            return health_pb2.HealthCheckResponse.SERVING
        return health_pb2.HealthCheckResponse.NOT_SERVING
