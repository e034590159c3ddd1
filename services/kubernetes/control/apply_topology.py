"""Applies the topology that the API server has, and says what came of it.

It is applied when its spec changes, and again when this replica begins to lead: that changes
nothing if it is applied. What is refused changes nothing either, and its conditions say why, field
by field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from services.common.errors import InvalidInput, RomanaError, Unavailable
from services.kubernetes.calls.topology import Plan, TopologyCalls
from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.cluster.informer import Informer
from services.kubernetes.cluster.kinds import TOPOLOGIES
from services.kubernetes.control.object_teller import ObjectTeller
from services.kubernetes.objects.conditions import Finding, conditions
from services.kubernetes.objects.topologies import THE_ONE, TopologyResource, TopologyStatus

log = structlog.get_logger(__name__)

ACCEPTED: Final = "Accepted"
APPLIED: Final = "Applied"
NOT_THE_ONE: Final = f"there is one topology: the one that is called {THE_ONE!r}"


class TopologyApplier(ObjectTeller[TopologyResource]):
    """What has to be applied, and how."""

    def __init__(
        self,
        resources: Informer[TopologyResource],
        calls: TopologyCalls,
        server: ApiServer,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called when there is something to apply."""
        super().__init__(resources, changed)
        self._calls = calls
        self._server = server

    def _asked(self, resource: TopologyResource) -> tuple[str, bytes, bool]:
        return resource.uid, resource.spec, resource.allow_stranded

    async def _tell(self, resource: TopologyResource) -> None:
        if resource.name != THE_ONE:
            await self._refuse(resource, "NotTheOne", NOT_THE_ONE)
            return
        try:
            plan = await self._calls.apply(
                resource.spec, validate_only=False, allow_stranded=resource.allow_stranded
            )
        except Unavailable:
            raise
        except RomanaError as error:
            log.warning("topology_refused", message=error.message)
            if not isinstance(error, InvalidInput):
                self._postponed.add(resource.name)
            reason = "Invalid" if isinstance(error, InvalidInput) else "Refused"
            await self._refuse(resource, reason, said(error))
            return
        if plan.changed:
            log.info("topology_applied", plan=list(plan.lines))
        findings = [
            Finding(ACCEPTED, "Valid", "it can be applied"),
            Finding(APPLIED, "Applied", "networks and groups are as it says"),
        ]
        await self._say(resource, findings, plan)

    async def _refuse(self, resource: TopologyResource, reason: str, message: str) -> None:
        accepted = Finding(ACCEPTED, reason, message, holds=False)
        applied = Finding(APPLIED, "NotAccepted", "what was applied before holds", holds=False)
        await self._say(resource, [accepted, applied], None)

    async def _say(
        self, resource: TopologyResource, findings: Sequence[Finding], plan: Plan | None
    ) -> None:
        before = resource.status
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        found = conditions(findings, before.conditions, resource.generation, now)
        lines = before.plan if plan is None or not plan.changed else plan.lines
        networks = before.networks if plan is None else len(await self._calls.networks())
        status = TopologyStatus(tuple(found), lines, networks, resource.generation)
        if status == before:
            return
        await self._server.apply(
            f"{TOPOLOGIES.path}/{resource.name}/status",
            {
                "apiVersion": "romana.io/v1alpha1",
                "kind": "RomanaTopology",
                "metadata": {"name": resource.name},
                "status": {
                    "conditions": status.conditions,
                    "plan": status.plan,
                    "networks": status.networks,
                    "observedGeneration": status.observed_generation,
                },
            },
        )


def said(error: RomanaError) -> str:
    """What is wrong, with the fields below `spec`."""
    if isinstance(error, InvalidInput) and error.violations:
        return "; ".join(
            f"spec.{one.path}: {one.message}" if one.path else one.message
            for one in error.violations
        )
    return error.message
