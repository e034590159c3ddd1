"""The numbers of devices in marks: one that was freed rests."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from services.common.model.devices import Arm, DeviceGroupName, DeviceName
from services.common.model.names import NetworkName
from services.common.process.metrics import new_registry
from services.policy.metrics import PolicyMetrics
from services.policy.model import Device, DeviceAddress, DeviceGroup
from services.policy.store.apply import ChangeOptions
from services.policy.store.device_changes import DeviceChanges
from services.policy.store.store import PolicyStore

NET = NetworkName("net")
HOW = ChangeOptions()


@pytest.fixture
def changes(replica: PolicyStore) -> DeviceChanges:
    return DeviceChanges(replica, PolicyMetrics(new_registry("policy")))


async def put(changes: DeviceChanges, name: str, *devices: int) -> list[int]:
    """A group of these devices; returns their numbers."""
    made = tuple(
        Device(DeviceName(f"d{one}"), (DeviceAddress(NET, ip_address(f"192.0.2.{one}")),))
        for one in devices
    )
    stored = await changes.put(DeviceGroup(DeviceGroupName(name), (NET,), made), HOW)
    numbers = stored.value.numbers
    return [numbers[DeviceName(f"d{one}"), NET, Arm.INSIDE] for one in devices]


async def test_the_next_device_does_not_get_the_number_of_one_that_was_taken_out(
    changes: DeviceChanges,
) -> None:
    first, second = await put(changes, "g", 1, 2)
    assert await put(changes, "g", 1) == [first]
    kept, new = await put(changes, "g", 1, 3)
    assert kept == first
    assert new not in {first, second}


async def test_the_next_group_does_not_get_the_numbers_of_one_that_is_gone(
    changes: DeviceChanges,
) -> None:
    gone = await put(changes, "g", 1, 2)
    await changes.delete(DeviceGroupName("g"), HOW)
    assert not {*gone} & {*await put(changes, "other", 3, 4)}


async def test_numbers_come_again_when_all_were_given(changes: DeviceChanges) -> None:
    seen: set[int] = set()
    for _ in range(130):
        (number,) = await put(changes, "g", 1)
        seen.add(number)
        await changes.delete(DeviceGroupName("g"), HOW)
    assert seen == {*range(1, 128)} - {18}
