"""The changes of groups of devices, and what nodes say of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from services.common.audit.record import Changed, ObjectKind
from services.common.errors import Exhausted, InvalidInput, NotFound, WrongState
from services.common.model.devices import MAX_LEG, NOT_LEGS, DeviceGroupName, DeviceName
from services.common.model.names import NodeName
from services.common.model.rules import PolicyName
from services.common.process.mutation_metrics import Result
from services.policy.checks.devices import check_device_references, groups_of
from services.policy.devices.health import REPORT_SECONDS, LegKey, Observed, legs_of
from services.policy.metrics import Operation, PolicyMetrics
from services.policy.model import DeviceGroup
from services.policy.store import codec_devices
from services.policy.store.apply import ChangeOptions, check_etag
from services.policy.store.codec_devices import StoredGroup
from services.policy.store.entry import Entry
from services.policy.store.store import Decision, PolicyStore

log = structlog.get_logger(__name__)


class DeviceChanges:
    """Changes what is stored of devices."""

    def __init__(
        self,
        store: PolicyStore,
        metrics: PolicyMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._feed = store.feed.devices
        self._metrics = metrics
        self._clock = clock

    async def put(self, group: DeviceGroup, how: ChangeOptions) -> Entry[StoredGroup]:
        """Adds or replaces a group; raises InvalidInput, Conflict and Exhausted."""

        def decide() -> Decision[StoredGroup]:
            before = self._feed.groups.get(group.name)
            check_etag(how.etag, before, "group of devices", group.name)
            known = {name: entry.value.group for name, entry in self._feed.groups.items()}
            problems = list(check_device_references(group, self._store.engine.networks, known))
            if problems:
                raise InvalidInput.of([replace(one, path=f"group.{one.path}") for one in problems])
            numbers, last = self._numbers(group)
            stored = StoredGroup(group, numbers)
            if (before is not None and before.value == stored) or how.validate_only:
                return Decision(stored)
            keys = self._store.keys
            documents = {keys.device_group(group.name): codec_devices.encode_group(stored)}
            if last != self._feed.last_number:
                documents[keys.device_numbers] = codec_devices.encode_number(last)
            changed = [_changed(group.name, before, stored)]
            return Decision(stored, documents, changed)

        with self._metrics.refusals(Operation.DEVICES):
            stored = await self._store.change(decide)
        self._count(how)
        log.info("device_group_put", group=group.name, only_checked=how.validate_only)
        entry = self._feed.groups.get(group.name)
        return Entry(stored, 0) if entry is None or how.validate_only else entry

    async def drain(
        self, name: DeviceGroupName, device: DeviceName, *, drain: bool
    ) -> Entry[StoredGroup]:
        """Has a device take no new connections, or take them again; raises NotFound."""

        def decide() -> Decision[None]:
            entry = self._feed.groups.get(name)
            if entry is None:
                raise group_not_found(name)
            group = entry.value.group
            if device not in {one.name for one in group.devices}:
                raise NotFound(
                    f"there is no device {device[:80]!r} in group {name!r}",
                    reason="DEVICE_NOT_FOUND",
                    metadata={"group": name, "device": device[:80]},
                )
            devices = tuple(
                replace(one, is_draining=drain) if one.name == device else one
                for one in group.devices
            )
            changed = replace(entry.value, group=replace(group, devices=devices))
            if changed == entry.value:
                return Decision(None)
            document = {self._store.keys.device_group(name): codec_devices.encode_group(changed)}
            return Decision(None, document, [_changed(name, entry, changed)])

        with self._metrics.refusals(Operation.DEVICES):
            await self._store.change(decide)
        self._count(ChangeOptions())
        log.info("device_drained", group=name, device=device, drain=drain)
        return self._feed.groups[name]

    async def delete(self, name: DeviceGroupName, how: ChangeOptions) -> None:
        """Removes a group; raises NotFound, Conflict and WrongState."""

        def decide() -> Decision[None]:
            before = self._feed.groups.get(name)
            if before is None:
                raise group_not_found(name)
            check_etag(how.etag, before, "group of devices", name)
            self._check_unused(name)
            keys = self._store.keys
            gone = {keys.device_group(name): b"", keys.device_state(name): b""}
            return Decision(None, gone, [_changed(name, before, None)])

        with self._metrics.refusals(Operation.DEVICES):
            await self._store.change(decide)
        self._count(how)
        log.info("device_group_deleted", group=name)

    async def report(self, node: NodeName, observed: Observed) -> None:
        """Takes what a node sees; raises Unavailable."""
        self._store.check_in_sync()
        with self._metrics.refusals(Operation.REPORT):
            before = self._feed.observed.get(node)
            fresh = before is not None and observed.at - before.at < REPORT_SECONDS / 2
            if not (fresh and before is not None and before.legs == observed.legs):
                key = self._store.keys.observed_by(node)
                document = codec_devices.encode_observed(observed) if observed.legs else b""
                await self._store.write({key: document})

    def now(self) -> float:
        """Unix time in seconds."""
        return self._clock()

    def policies_through(self, name: DeviceGroupName) -> list[PolicyName]:
        """Policies with rules that name a group."""
        return sorted(
            policy
            for policy, entry in self._store.feed.policies.items()
            if any(group == name for _, group, _ in groups_of(entry.value.policy))
        )

    def _check_unused(self, name: DeviceGroupName) -> None:
        users = [f"policy {one}" for one in self.policies_through(name)]
        users += [
            f"group {other}"
            for other, entry in sorted(self._feed.groups.items())
            if entry.value.group.next == name
        ]
        if users:
            raise WrongState(
                f"group of devices {name!r} is in use by {', '.join(users[:10])}",
                reason="DEVICE_GROUP_IN_USE",
                metadata={"group": name},
            )

    def _numbers(self, group: DeviceGroup) -> tuple[Mapping[LegKey, int], int]:
        """Those that its arms have, and new ones: the next after the last that was given, so that
        one that was freed rests before connections that had it could meet another device. And the
        last that was given then."""
        before = self._feed.groups.get(group.name)
        had: Mapping[LegKey, int] = {} if before is None else before.value.numbers
        taken = {
            number
            for entry in self._feed.groups.values()
            for number in entry.value.numbers.values()
        } | NOT_LEGS
        found: dict[LegKey, int] = {}
        last = self._feed.last_number
        for key in legs_of(group):
            number = had.get(key)
            if number is None:
                number = last = _free(taken, last)
                taken.add(number)
            found[key] = number
        return found, last

    def _count(self, how: ChangeOptions) -> None:
        result = Result.VALIDATED if how.validate_only else Result.CHANGED
        self._metrics.count(Operation.DEVICES, result)


def group_not_found(name: str) -> NotFound:
    """The error for a group that is not there."""
    return NotFound(
        f"there is no group of devices {name[:80]!r}",
        reason="DEVICE_GROUP_NOT_FOUND",
        metadata={"group": name[:80]},
    )


def _free(taken: set[int], last: int) -> int:
    for step in range(1, MAX_LEG + 1):
        number = (last + step - 1) % MAX_LEG + 1
        if number not in taken:
            return number
    raise Exhausted(
        f"there are {MAX_LEG - len(NOT_LEGS)} addresses of devices already, of all groups",
        reason="TOO_MANY_DEVICES",
    )


def _changed(
    name: DeviceGroupName, before: Entry[StoredGroup] | None, after: StoredGroup | None
) -> Changed:
    return Changed(ObjectKind.DEVICE_GROUP, name, before and before.value, after)
