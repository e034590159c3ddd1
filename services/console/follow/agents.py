"""What agents have applied: asked again and again, more often while a change is on its way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog
from romana.ipam.v1 import ipam_service_pb2_grpc, sync_routes_pb2
from romana.policy.v1 import policy_service_pb2 as policy_api
from romana.policy.v1 import policy_service_pb2_grpc
from romana.sync.v1 import sync_pb2

from services.common.errors import RomanaError
from services.common.rpc.replicas import Replicas
from services.console.follow.live import Live
from services.console.picture.changes import Change, ChangeLog

log = structlog.get_logger(__name__)

BUSY_SECONDS: Final = 0.2
"""Between two questions while a change is on its way."""
IDLE_SECONDS: Final = 2.0
GIVE_UP_SECONDS: Final = 600.0
"""After which a change is no reason any more to ask often."""
RULES: Final = frozenset({"policy", "tenant"})
"""Kinds of changes that agents get from policy; the others they get from ipam."""


@dataclass(slots=True)
class Applied:
    """The answers as they came last."""

    routes: dict[str, sync_routes_pb2.NodeSyncStatus] = field(default_factory=dict)
    routes_revision: int = 0
    """To compare with."""
    rules: dict[str, policy_api.NodeRealization] = field(default_factory=dict)


class AgentsFollower:
    """Asks ipam and policy."""

    def __init__(
        self,
        ipam: Replicas[ipam_service_pb2_grpc.IpamServiceAsyncStub],
        policy: Replicas[policy_service_pb2_grpc.PolicyServiceAsyncStub],
        changes: ChangeLog,
        live: Live,
        woken: asyncio.Event,
    ) -> None:
        """`woken` is set when a change has been noted."""
        self._ipam = ipam
        self._policy = policy
        self._changes = changes
        self._live = live
        self._woken = woken
        self.applied = Applied()

    async def run(self) -> None:
        """Asks for ever."""
        while True:
            try:
                await self._look()
            except RomanaError as error:
                log.debug("agents_not_asked", message=error.message)
            now = time.time()
            busy = any(now - each.noticed < GIVE_UP_SECONDS for each in self._changes.pending())
            if busy:
                await asyncio.sleep(BUSY_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._woken.wait()
            self._woken.clear()

    async def _look(self) -> None:
        routes, rules = await asyncio.gather(
            self._ipam.call(
                lambda stub: stub.GetSyncStatus, sync_routes_pb2.GetSyncStatusRequest()
            ),
            self._policy.call(
                lambda stub: stub.GetRealization,
                policy_api.GetRealizationRequest(nodes_only=True),
            ),
            return_exceptions=True,
        )
        before = _shape(self.applied)
        news = False
        if isinstance(routes, sync_routes_pb2.GetSyncStatusResponse):
            self.applied.routes = {item.node: item for item in routes.statuses}
            self.applied.routes_revision = routes.current.revision
            news |= self._progress_of_routes()
        if isinstance(rules, policy_api.GetRealizationResponse):
            self.applied.rules = {item.node: item for item in rules.nodes}
            for change in self._changes.pending():
                if change.kind in RULES:
                    news |= await self._progress_of_rules(change)
        if news:
            self._live.tell("changes")
        if before != _shape(self.applied):
            self._live.tell("nodes")
        for answer in (routes, rules):
            if isinstance(answer, BaseException):
                raise answer

    def _progress_of_routes(self) -> bool:
        news = False
        connected = [item for item in self.applied.routes.values() if item.connected]
        for change in self._changes.pending():
            if change.kind in RULES:
                continue
            lagging = {
                item.node: _why(item.failures)
                for item in connected
                if item.applied.revision < change.revision or item.failures
            }
            news |= self._changes.progress(change.number, lagging, len(connected), time.time())
        return news

    async def _progress_of_rules(self, change: Change) -> bool:
        answer = await self._policy.call(
            lambda stub: stub.GetRealization,
            policy_api.GetRealizationRequest(
                nodes_only=True,
                since=change.revision - 1,
                up_to=change.revision,
            ),
        )
        rules = self.applied.rules
        lagging = {
            node: _why(rules[node].failures) if node in rules else "" for node in answer.late
        }
        return self._changes.progress(change.number, lagging, answer.concerned, time.time())


def _why(failures: Iterable[sync_pb2.Failure]) -> str:
    return "; ".join(f"{item.resource}: {item.message or item.reason}" for item in failures)


def _shape(applied: Applied) -> dict[str, tuple[object, ...]]:
    """What of the answers is worth waking anybody."""
    made: dict[str, tuple[object, ...]] = {}
    for name in applied.routes.keys() | applied.rules.keys():
        routes, rules = applied.routes.get(name), applied.rules.get(name)
        made[name] = (
            routes is not None and (routes.connected, routes.agent_version, len(routes.failures)),
            rules is not None and (rules.connected, rules.current, len(rules.failures)),
        )
    return made
