from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from services.common.etcd.keys import Keys
from services.common.etcd.types import KeyValue
from services.common.model.devices import Arm, DeviceGroupName, DeviceName, Probe
from services.common.model.names import NetworkName, NodeName
from services.policy.devices.health import (
    FREE_FALLS,
    HOLD_SECONDS,
    STALE_SECONDS,
    LegKey,
    LegState,
    Observed,
    Seen,
    decide,
    due,
    rules_of,
)
from services.policy.engine.engine import Engine
from services.policy.model import Device, DeviceAddress, DeviceArm, DeviceGroup
from services.policy.store.codec_devices import encode_observed
from services.policy.store.device_feed import DeviceFeed

NET = NetworkName("net")
ONE, TWO = ((DeviceName(name), NET, Arm.INSIDE) for name in ("one", "two"))
GROUP = DeviceGroup(
    DeviceGroupName("g"),
    (NET,),
    tuple(
        Device(name, (DeviceAddress(NET, ip_address(f"10.0.0.{number}")),))
        for number, (name, *_) in enumerate((ONE, TWO), 1)
    ),
)
NUMBERS = {ONE: 1, TWO: 2}
NOW = 1000.0


def observed(at: float = NOW, **nodes: bool) -> dict[NodeName, Observed]:
    """Whether nodes see the first device."""
    return {
        NodeName(name): Observed(at, {(GROUP.name, *ONE): Seen(is_up, "silent")})
        for name, is_up in nodes.items()
    }


def test_of_whom_nothing_is_said_counts_as_up() -> None:
    assert decide(GROUP, {}, {}, NOW)[ONE] == LegState()


@pytest.mark.parametrize(
    ("nodes", "quorum", "is_up"),
    [
        ({"a": False}, 0, False),
        ({"a": False, "b": True}, 0, True),
        ({"a": False, "b": False, "c": True}, 0, False),
        ({"a": False, "b": True, "c": True}, 1, False),
        ({"a": False, "b": False, "c": True}, 3, True),
        ({"a": False, "b": False}, 3, False),
    ],
)
def test_a_quorum_decides(nodes: dict[str, bool], quorum: int, *, is_up: bool) -> None:
    group = replace(GROUP, probe=Probe(quorum=quorum))
    found = decide(group, observed(**nodes), {}, NOW)
    assert found[ONE].is_up is is_up
    assert found[TWO].is_up


def test_what_was_said_long_ago_does_not_count() -> None:
    said = observed(NOW - STALE_SECONDS - 1, a=False, b=False) | observed(c=True)
    assert decide(GROUP, said, {}, NOW)[ONE].is_up


def test_a_state_stays_while_nobody_says_anything() -> None:
    down = decide(GROUP, observed(a=False), {}, NOW)
    assert decide(GROUP, {}, down, NOW + 1) == down


def test_one_that_flaps_is_held_down_longer_and_longer() -> None:
    states, now = decide(GROUP, observed(a=True), {}, NOW), NOW
    held = []
    for _ in range(FREE_FALLS + 2):
        now += 1
        states = decide(GROUP, observed(now, a=False), states, now)
        assert not states[ONE].is_up
        until = states[ONE].held_until
        held.append(max(until - now, 0.0))
        if until:
            assert due(states, now) == until
            assert not decide(GROUP, observed(now, a=True), states, now)[ONE].is_up
            now = until
        states = decide(GROUP, observed(now, a=True), states, now)
        assert states[ONE].is_up
    assert held == [0.0] * FREE_FALLS + [HOLD_SECONDS, 2 * HOLD_SECONDS]


@pytest.mark.parametrize(
    ("down", "percent", "is_down"),
    [
        ((), 0, False),
        ((ONE,), 0, False),
        ((ONE, TWO), 0, True),
        ((ONE,), 50, False),
        ((ONE,), 51, True),
    ],
)
def test_a_group_is_down_below_its_threshold(
    down: tuple[LegKey, ...], percent: int, *, is_down: bool
) -> None:
    group = replace(GROUP, threshold_percent=percent)
    rules = rules_of(group, NUMBERS, {key: LegState(is_up=False) for key in down})
    assert rules.is_down is is_down
    assert [leg.is_up for leg in rules.legs] == [key not in down for key in (ONE, TWO)]


def test_a_device_of_which_one_arm_is_down_takes_no_traffic() -> None:
    device = GROUP.devices[0]
    outside = DeviceArm(ip_address("10.1.0.1"), NetworkName("other"))
    (one,) = device.addresses
    two = replace(device, addresses=(replace(one, outside=outside),))
    group = replace(GROUP, devices=(two,))
    far = (device.name, NET, Arm.OUTSIDE)
    said = {
        NodeName("a"): Observed(
            NOW, {(group.name, *ONE): Seen(is_up=True), (group.name, *far): Seen(is_up=False)}
        )
    }
    states = decide(group, said, {}, NOW)
    assert (states[ONE].is_up, states[far].is_up) == (True, False)
    numbers = {ONE: 1, far: 2}
    assert rules_of(group, numbers, states).is_down
    (leg,) = rules_of(group, numbers, {}).legs
    assert leg.is_up
    assert [(arm.arm, arm.number, arm.network) for arm in leg.arms] == [
        (Arm.INSIDE, 1, NET),
        (Arm.OUTSIDE, 2, "other"),
    ]


def test_there_is_something_to_decide_when_a_node_says_something_else_than_before() -> None:
    feed = DeviceFeed(Keys("/r"), Engine())

    def tell(said: Observed | None) -> bool:
        """Whether there is something to decide by it."""
        before = feed.moves
        key = "/r/policy/observed/n1"
        item = None if said is None else KeyValue(key, encode_observed(said), 1, 1)
        feed.takers["/r/policy/observed/"]("n1", item)
        return feed.moves != before

    up, down = observed(n1=True)[NodeName("n1")], observed(n1=False)[NodeName("n1")]
    assert tell(up)
    assert not tell(replace(up, at=NOW + 20))
    assert feed.observed[NodeName("n1")].at == NOW + 20
    assert tell(down)
    assert not tell(replace(down, at=NOW + 20))
    assert tell(None)
    assert not tell(None)
