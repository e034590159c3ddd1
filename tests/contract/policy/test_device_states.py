"""What holds of devices, as a replica decides it from what nodes have said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from services.common.audit.writer import AuditWriter
from services.common.etcd.types import Put
from services.common.model.devices import Arm, DeviceGroupName, DeviceName
from services.common.model.names import NetworkName, NodeName
from services.policy.api.audited import TEXTS
from services.policy.devices.health import LegKey, Observed, Seen
from services.policy.engine.engine import Engine
from services.policy.model import Device, DeviceAddress, DeviceGroup
from services.policy.store.codec_devices import StoredGroup, encode_group, encode_observed
from services.policy.store.device_health import DeviceHealth
from services.policy.store.store import PolicyStore
from tests.conftest import Store
from tests.support.ipam_process import poll, seed
from tests.support.topologies import layout, network

NET = NetworkName("net")
DEVICE = DeviceName("d")
NOW = 1000.0


def group(name: str, number: int) -> StoredGroup:
    address = DeviceAddress(NET, ip_address(f"192.0.2.{number}"))
    devices = (Device(DEVICE, (address,)),)
    key: LegKey = (DEVICE, NET, Arm.INSIDE)
    return StoredGroup(DeviceGroup(DeviceGroupName(name), (NET,), devices), {key: number})


@pytest.fixture
async def policy(store: Store) -> AsyncIterator[PolicyStore]:
    """A replica's view, with two groups, whose devices a node sees down."""
    client, keys = store.client, store.keys
    made = PolicyStore(client, keys, Engine(), AuditWriter(keys, "policy", TEXTS))
    await seed(client, keys, layout([network("net", "10.0.0.0/24")]))
    names = [DeviceGroupName(name) for name in ("first", "second")]
    legs = {
        (name, DEVICE, NET, Arm.INSIDE): Seen(is_up=False, reason="no answer") for name in names
    }
    await client.transact(
        (),
        [
            Put(keys.policy_generation, b"1"),
            Put(keys.commit, b"1"),
            *(
                Put(keys.device_group(name), encode_group(group(name, number)))
                for number, name in enumerate(names, 1)
            ),
            Put(keys.observed_by(NodeName("n1")), encode_observed(Observed(NOW, legs))),
        ],
    )
    running = asyncio.create_task(made.run())
    await poll(lambda: _is(made.in_sync), 30, what="the store to be read")
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _is(value: object) -> bool:
    return bool(value)


async def test_a_group_that_goes_while_others_are_decided_on_ends_nothing(
    policy: PolicyStore,
) -> None:
    feed = policy.feed.devices

    def clock() -> float:
        feed.groups.pop(DeviceGroupName("second"), None)  # heard meanwhile
        return NOW

    deciding = asyncio.create_task(DeviceHealth(policy, clock).run())
    try:
        first = DeviceGroupName("first")
        await poll(lambda: _is(feed.states_of(first)), 30, what="what holds of the first group")
        assert not any(one.is_up for one in feed.states_of(first).values())
        assert not deciding.done()
    finally:
        deciding.cancel()
        await asyncio.gather(deciding, return_exceptions=True)
