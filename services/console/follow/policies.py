"""What policies and tenants there are, and which of them changed.

Policy says at which revision any of them changed last; they are listed when that is another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog
from romana.policy.v1 import policy_pb2, policy_service_pb2_grpc
from romana.policy.v1 import policy_service_pb2 as api

from services.common.errors import RomanaError
from services.common.rpc.replicas import Replicas
from services.common.terminal.plural import count
from services.console.follow.live import Live
from services.console.picture.changes import ChangeLog, Kind

log = structlog.get_logger(__name__)

PAUSE_SECONDS: Final = 0.3
PAGE: Final = 1000


class PoliciesFollower:
    """Asks policy."""

    def __init__(
        self,
        policy: Replicas[policy_service_pb2_grpc.PolicyServiceAsyncStub],
        changes: ChangeLog,
        live: Live,
        clock: Callable[[], float],
    ) -> None:
        self._policy = policy
        self._changes = changes
        self._live = live
        self._clock = clock
        self.policies: Mapping[str, policy_pb2.Policy] = {}
        self.tenants: Mapping[str, str] = {}
        """Etags by name."""
        self._edition = -1

    async def run(self) -> None:
        """Asks for ever."""
        while True:
            try:
                await self._look()
            except RomanaError as error:
                log.debug("policies_not_asked", message=error.message)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _look(self) -> None:
        status = await self._policy.call(lambda stub: stub.GetStatus, api.GetStatusRequest())
        if not status.in_sync or status.edition <= self._edition:
            return
        policies = await self._list_policies()
        tenants = await self._list_tenants()
        if self._edition >= 0:
            self._note("policy", _etags(self.policies), _etags(policies), status.edition)
            self._note("tenant", self.tenants, tenants, status.edition)
        self.policies, self.tenants = policies, tenants
        self._edition = status.edition
        self._live.tell("policies")

    async def _list_policies(self) -> dict[str, policy_pb2.Policy]:
        found: dict[str, policy_pb2.Policy] = {}
        request = api.ListPoliciesRequest(page_size=PAGE)
        while True:
            answer = await self._policy.call(lambda stub: stub.ListPolicies, request)
            for each in answer.policies:
                each.ClearField("origin")  # as long as all the rest, and not shown
                found[each.name] = each
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    async def _list_tenants(self) -> dict[str, str]:
        found: dict[str, str] = {}
        request = api.ListTenantsRequest(page_size=PAGE)
        while True:
            answer = await self._policy.call(lambda stub: stub.ListTenants, request)
            found |= {each.name: each.etag for each in answer.tenants}
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    def _note(
        self, kind: Kind, before: Mapping[str, str], after: Mapping[str, str], revision: int
    ) -> None:
        lines = [f"{kind} {name} created" for name in after if name not in before]
        lines += [
            f"{kind} {name} changed"
            for name in after
            if name in before and before[name] != after[name]
        ]
        lines += [f"{kind} {name} removed" for name in before if name not in after]
        if not lines:
            return
        what = lines[0] if len(lines) == 1 else f"{count(len(lines), kind)} changed"
        details = lines if len(lines) > 1 else ()
        self._changes.add(kind, what, revision, self._clock(), details, after=self._edition)
        self._live.tell("changes")


def _etags(policies: Mapping[str, policy_pb2.Policy]) -> dict[str, str]:
    return {name: each.etag for name, each in policies.items()}
