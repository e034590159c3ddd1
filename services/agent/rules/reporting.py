"""Tells the policy service what is attached here, so that it sends the rules for it.

Changes are told as they come, everything at the start, after a failure, and now and then, should a
replica have lost some. Nobody waits for it; while the service is away it is tried again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio
import structlog
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub

from services.agent.model import LocalEndpoint
from services.agent.rules import messages
from services.common.backoff import Backoff, BackoffPolicy
from services.common.model.names import EndpointName, NodeName

if TYPE_CHECKING:
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub

log = structlog.get_logger(__name__)

RETRY: Final = BackoffPolicy(initial=0.1, maximum=10.0)
ALL_SECONDS: Final = 300.0
"""Between two reports of everything without a reason."""
CALL_SECONDS: Final = 5.0


class Reporting:
    """The reports of one node."""

    def __init__(self, node: NodeName, channels: Sequence[grpc.aio.Channel]) -> None:
        """Nothing happens before `run`; `channels` lead to replicas, of which any will do."""
        self._node = node
        self._stubs: list[PolicyServiceAsyncStub] = [
            PolicyServiceStub(channel) for channel in channels
        ]
        self._endpoints: dict[EndpointName, LocalEndpoint] = {}
        self._changed: dict[EndpointName, None] = {}
        self._all = True
        self._kick = asyncio.Event()

    def put(self, name: EndpointName, endpoint: LocalEndpoint | None) -> None:
        """An endpoint is here, or None: not any more. Returns at once."""
        if endpoint is None:
            if self._endpoints.pop(name, None) is None:
                return
        elif self._endpoints.get(name) == endpoint:
            return
        else:
            self._endpoints[name] = endpoint
        self._changed[name] = None
        self._kick.set()

    @property
    def endpoints(self) -> Mapping[EndpointName, LocalEndpoint]:
        return self._endpoints

    def report_all(self) -> None:
        """Tells everything anew, as after a connect. Returns at once."""
        self._all = True
        self._kick.set()

    async def run(self) -> None:
        """Reports for ever."""
        loop = asyncio.get_running_loop()
        backoff = Backoff(RETRY, random.random)
        due = loop.time() + ALL_SECONDS
        turn = 0
        while True:
            if loop.time() >= due:
                self._all = True
            if self._all or self._changed:
                if not await self._report(self._stubs[turn % len(self._stubs)]):
                    turn += 1
                    await asyncio.sleep(backoff.failed())
                    continue
                backoff.succeeded()
                due = loop.time() + ALL_SECONDS
            try:
                async with asyncio.timeout_at(due):
                    await self._kick.wait()
            except TimeoutError:
                continue
            self._kick.clear()

    async def _report(self, stub: PolicyServiceAsyncStub) -> bool:
        """Whether it worked; what was not told is told the next time, as part of everything."""
        complete, self._all = self._all, False
        names, self._changed = self._changed, {}
        found = self._endpoints if complete else names
        request = messages.report(
            self._node,
            [self._endpoints[name] for name in found if name in self._endpoints],
            [] if complete else [name for name in names if name not in self._endpoints],
            complete=complete,
        )
        try:
            await stub.ReportEndpoints(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            self._all = True
            log.info("endpoints_not_reported", message=error.details() or error.code().name)
            return False
        return True
