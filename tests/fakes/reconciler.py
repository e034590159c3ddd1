"""A reconciler that holds what it is told and writes nothing to the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType

from services.agent.model import LocalEndpoint, Remote
from services.common.model.names import EndpointName


class FakeReconciler:
    """Like `services.agent.routing.reconcile.Reconciler`, without a kernel."""

    def __init__(self, remote: Remote | None = None) -> None:
        self._remote = remote
        self._arrived = asyncio.Event()
        self._endpoints: dict[EndpointName, LocalEndpoint] = {}
        self.failures: dict[str, str] = {}
        self._others: list[Callable[[], tuple[str, ...]]] = []

    @property
    def remote(self) -> Remote:
        return self._remote or Remote()

    @property
    def endpoints(self) -> Mapping[EndpointName, LocalEndpoint]:
        return MappingProxyType(self._endpoints)

    @property
    def in_sync(self) -> bool:
        return self._remote is not None

    @property
    def ready(self) -> bool:
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        own = () if self.in_sync else ("no snapshot from ipam yet",)
        return (*own, *(reason for others in self._others for reason in others()))

    def require(self, reasons: Callable[[], tuple[str, ...]]) -> None:
        self._others.append(reasons)

    def set_remote(self, remote: Remote) -> None:
        self._remote = remote
        self._arrived.set()

    def put_endpoint(self, endpoint: LocalEndpoint) -> None:
        self._endpoints[endpoint.name] = endpoint

    def remove_endpoint(self, name: EndpointName) -> None:
        self._endpoints.pop(name, None)

    async def reached(self) -> Mapping[str, str]:
        if not self.in_sync:
            await self._arrived.wait()
        return self.failures
