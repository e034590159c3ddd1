"""RomanaDeviceGroup: a group of security devices as an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from services.kubernetes.objects.conditions import Condition
from services.kubernetes.objects.metadata import PREFIX, Metadata

FINALIZER: Final = f"{PREFIX}device-group"
"""Keeps the object until the group is gone: who leads, and when, may change meanwhile."""


class DeviceUse(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is known of a device. What is empty is left out: API servers up to 1.20 make null of an
    empty text that is applied."""

    name: str
    state: str = ""
    nodes_up: int = 0
    nodes_down: int = 0
    reason: str = ""
    """Why it is not up, as a node says."""


class DeviceGroupStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is said of a group."""

    conditions: tuple[Condition, ...] | None = ()
    up: str = ""
    """Such as "2 of 3"."""
    devices: tuple[DeviceUse, ...] | None = ()
    policies: tuple[str, ...] | None = ()
    """With rules that name it."""
    observed_generation: int = 0


class DeviceGroupObject(msgspec.Struct, frozen=True):
    """As it is sent."""

    metadata: Metadata
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: DeviceGroupStatus = DeviceGroupStatus()


@dataclass(frozen=True, slots=True)
class DeviceGroupResource:
    """What is kept of it."""

    name: str
    uid: str
    generation: int
    spec: bytes
    """JSON of a file of a group, but for its name."""
    finalizers: tuple[str, ...]
    version: str
    is_ending: bool
    status: DeviceGroupStatus

    @property
    def key(self) -> str:
        """Its name."""
        return self.name


def device_group_of(item: DeviceGroupObject) -> DeviceGroupResource:
    """Takes what is needed."""
    metadata = item.metadata
    return DeviceGroupResource(
        metadata.name,
        metadata.uid,
        metadata.generation,
        bytes(item.spec),
        metadata.finalizers or (),
        metadata.resource_version,
        metadata.deletion_timestamp is not None,
        item.status,
    )
