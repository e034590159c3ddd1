"""What holds of devices, as a replica decides it from what nodes have said."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from services.common.etcd.types import Put
from services.common.model.devices import Arm, DeviceGroupName, DeviceName
from services.common.model.names import NetworkName, NodeName
from services.policy.devices.health import LegKey, Observed, Seen
from services.policy.model import Device, DeviceAddress, DeviceGroup
from services.policy.store.codec_devices import StoredGroup, encode_group, encode_observed
from services.policy.store.device_health import DeviceHealth
from services.policy.store.store import PolicyStore
from tests.conftest import Store
from tests.support.ipam_process import poll

NET = NetworkName("net")
DEVICE = DeviceName("d")
NOW = 1000.0


def group(name: str, number: int) -> StoredGroup:
    address = DeviceAddress(NET, ip_address(f"192.0.2.{number}"))
    devices = (Device(DEVICE, (address,)),)
    key: LegKey = (DEVICE, NET, Arm.INSIDE)
    return StoredGroup(DeviceGroup(DeviceGroupName(name), (NET,), devices), {key: number})


async def two_groups(store: Store) -> None:
    """A node sees the devices of both down."""
    keys = store.keys
    names = [DeviceGroupName(name) for name in ("first", "second")]
    legs = {
        (name, DEVICE, NET, Arm.INSIDE): Seen(is_up=False, reason="no answer") for name in names
    }
    await store.client.transact(
        (),
        [
            Put(keys.policy_generation, b"1"),
            *(
                Put(keys.device_group(name), encode_group(group(name, number)))
                for number, name in enumerate(names, 1)
            ),
            Put(keys.observed_by(NodeName("h1")), encode_observed(Observed(NOW, legs))),
        ],
    )


async def _is(value: object) -> bool:
    return bool(value)


async def test_a_group_that_goes_while_others_are_decided_on_ends_nothing(
    store: Store, replica: PolicyStore
) -> None:
    feed = replica.feed.devices
    await two_groups(store)
    await replica.confirm()

    def clock() -> float:
        feed.groups.pop(DeviceGroupName("second"), None)  # heard meanwhile
        return NOW

    deciding = asyncio.create_task(DeviceHealth(replica, clock).run())
    try:
        first = DeviceGroupName("first")
        await poll(lambda: _is(feed.states_of(first)), 30, what="what holds of the first group")
        assert not any(one.is_up for one in feed.states_of(first).values())
        assert not deciding.done()
    finally:
        deciding.cancel()
        await asyncio.gather(deciding, return_exceptions=True)
