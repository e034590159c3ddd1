"""Keeps groups of devices equal to the objects that the API server has, and says what is known of
them.

A group that is refused changes nothing, and its conditions say why, field by field. An object bears
a finalizer, so that it only goes when its group has: as long as a policy names it or
another group comes after it, it stays, and says so.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import Conflict, InvalidInput, NotFound, RomanaError, Unavailable
from services.kubernetes.calls.devices import DeviceCalls, GroupState
from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.cluster.fresh import FreshReads
from services.kubernetes.cluster.informer import Informer
from services.kubernetes.cluster.kinds import DEVICE_GROUPS
from services.kubernetes.control.apply_topology import ACCEPTED, said
from services.kubernetes.control.object_teller import ObjectTeller
from services.kubernetes.objects.conditions import Finding, conditions
from services.kubernetes.objects.device_groups import (
    FINALIZER,
    DeviceGroupResource,
    DeviceGroupStatus,
)

log = structlog.get_logger(__name__)

UP: Final = "Up"
REMOVED: Final = "Removed"
LOOK_SECONDS: Final = 2.0
RETRY: Final = BackoffPolicy(initial=1.0, maximum=30.0)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of an object as it was."""

    uid: str
    generation: int
    finding: Finding


class DeviceGroups(ObjectTeller[DeviceGroupResource]):
    """What has to be put or removed, and how."""

    def __init__(
        self,
        resources: Informer[DeviceGroupResource],
        calls: DeviceCalls,
        server: ApiServer,
        changed: Callable[[], None],
        put: Callable[[], None],
    ) -> None:
        """`changed` is called when there is something to tell, `put` when a group was put."""
        super().__init__(resources, changed)
        self._calls = calls
        self._server = server
        self._fresh = FreshReads(server)
        self._put = put
        self._outcomes: dict[str, _Outcome] = {}
        self._look = asyncio.Event()

    # Telling.

    def _asked(self, resource: DeviceGroupResource) -> tuple[str, bytes, bool]:
        return resource.uid, resource.spec, resource.is_ending

    def _forget(self, name: str) -> None:
        self._outcomes.pop(name, None)

    def stand_by(self) -> None:
        super().stand_by()
        self._outcomes.clear()

    async def _tell(self, resource: DeviceGroupResource) -> None:
        try:
            if resource.is_ending:
                await self._remove(resource)
                return
            await self._finalize(resource, has=True)
            await self._calls.put(resource.name, resource.spec)
        except NotFound:
            return  # the object is gone
        except Conflict:
            self._postponed.add(resource.name)
        except Unavailable:
            raise
        except RomanaError as error:
            log.warning("device_group_refused", group=resource.name, message=error.message)
            self._postponed.add(resource.name)
            self._note(resource, _refusal(resource, error))
        else:
            self._note(resource, Finding(ACCEPTED, "Valid", "policies may name it"))
            self._put()

    async def _remove(self, resource: DeviceGroupResource) -> None:
        if FINALIZER in resource.finalizers:
            await self._calls.delete(resource.name)
            await self._finalize(resource, has=False)

    async def _finalize(self, resource: DeviceGroupResource, *, has: bool) -> None:
        if (FINALIZER in resource.finalizers) == has:
            return
        now = await self._fresh.get(DEVICE_GROUPS, resource.name)
        if now is None or now.uid != resource.uid:
            raise NotFound(f"{resource.name} is gone")
        others = [one for one in now.finalizers if one != FINALIZER]
        wanted = [*others, FINALIZER] if has else others
        await self._server.merge(
            f"{DEVICE_GROUPS.path}/{resource.name}",
            {"metadata": {"finalizers": wanted, "resourceVersion": now.version}},
        )

    def _note(self, resource: DeviceGroupResource, finding: Finding) -> None:
        self._outcomes[resource.name] = _Outcome(resource.uid, resource.generation, finding)
        self._look.set()

    # Showing.

    async def run(self) -> None:
        """Shows for ever, where the cluster knows such objects."""
        await self._resources.in_sync()
        backoff = Backoff(RETRY, random.random)
        while True:
            self._look.clear()
            try:
                await self.show()
            except RomanaError as error:
                log.info("device_groups_not_shown", message=error.message)
                await asyncio.sleep(backoff.failed())
                continue
            backoff.succeeded()
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look.wait()
            except TimeoutError:
                continue

    async def show(self) -> None:
        """Says of each object what is known; raises RomanaErrors."""
        if not self._resources.items:
            return
        states = await self._calls.states()
        for name, resource in list(self._resources.items.items()):
            outcome = self._outcomes.get(name)
            if outcome is None or outcome.uid != resource.uid:
                continue
            status = _status(resource, outcome, states)
            if status == resource.status:
                continue
            try:
                await self._server.apply(
                    f"{DEVICE_GROUPS.path}/{name}/status",
                    {
                        "apiVersion": "romana.io/v1alpha1",
                        "kind": "RomanaDeviceGroup",
                        "metadata": {"name": name},
                        "status": status,
                    },
                )
            except NotFound:
                continue


def _status(
    resource: DeviceGroupResource, outcome: _Outcome, states: Mapping[str, GroupState]
) -> DeviceGroupStatus:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = resource.status.conditions or ()
    findings = [outcome.finding]
    state = states.get(resource.name)
    if state is not None:
        findings.append(_up(state))
    return DeviceGroupStatus(
        tuple(conditions(findings, before, outcome.generation, now)),
        "" if state is None else f"{state.up} of {len(state.devices)}",
        () if state is None else state.devices,
        () if state is None else state.policies,
        outcome.generation,
    )


def _refusal(resource: DeviceGroupResource, error: RomanaError) -> Finding:
    if resource.is_ending:
        return Finding(REMOVED, "InUse", error.message, holds=False)
    reason = "Invalid" if isinstance(error, InvalidInput) else "Refused"
    return Finding(ACCEPTED, reason, said(error), holds=False)


def _up(state: GroupState) -> Finding:
    if not state.is_down:
        return Finding(UP, "Enough", "enough devices are up")
    down = [f"{one.name}: {one.reason or one.state}" for one in state.devices if one.nodes_down]
    message = "; ".join(down) or "too few devices are up"
    return Finding(UP, "TooFew", message, holds=False)
