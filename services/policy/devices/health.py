"""Says which devices are up, by what nodes see: one word for all nodes. Pure.

An arm of a device is down when as many nodes say so as the quorum, of those that have said anything
lately; a device of which one arm is down takes no traffic by the other. It goes down at once. It
comes back at once, too, unless it has gone down often within the last minutes: then it is held
down, the longer the more often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.common.model.devices import (
    Arm,
    DeviceGroupName,
    DeviceName,
    DeviceRules,
    Leg,
    LegArm,
)
from services.common.model.names import NetworkName, NodeName
from services.policy.model import Device, DeviceAddress, DeviceGroup

REPORT_SECONDS: Final = 20.0
"""A node that sees no change says so again after this time at the latest."""
STALE_SECONDS: Final = 60.0
"""What a node said longer ago does not count."""
FLAPPING_SECONDS: Final = 600.0
"""For how long it is remembered that a leg went down."""
FREE_FALLS: Final = 3
"""As many times within that it comes back at once."""
HOLD_SECONDS: Final = 10.0
"""For how long it is held down the next time; then twice as long, and so on."""
HOLD_MOST: Final = 300.0

LegKey = tuple[DeviceName, NetworkName, Arm]
"""An arm of a device, for the endpoints of a network."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a node sees of a leg."""

    is_up: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What a node sees."""

    at: float
    """When it said so: Unix time in seconds."""
    legs: Mapping[tuple[DeviceGroupName, DeviceName, NetworkName, Arm], Seen]


@dataclass(frozen=True, slots=True)
class LegState:
    """What holds of a leg."""

    is_up: bool = True
    since: float = 0.0
    """Unix time in seconds; 0: nobody has said anything yet."""
    falls: tuple[float, ...] = ()
    """When it went down lately."""
    held_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Votes:
    """What nodes say of a leg."""

    up: int = 0
    down: int = 0
    reason: str = ""


def votes(
    group: DeviceGroupName, key: LegKey, observed: Mapping[NodeName, Observed], now: float
) -> Votes:
    """What has been said lately."""
    up = down = 0
    reason = ""
    for node in sorted(observed):
        said = observed[node]
        seen = said.legs.get((group, *key))
        if seen is None or now - said.at > STALE_SECONDS:
            continue
        if seen.is_up:
            up += 1
        else:
            down += 1
            where = f"{key[2]}, " if key[2] is Arm.OUTSIDE else ""
            reason = reason or f"{node}: {where}{seen.reason}"
    return Votes(up, down, reason)


def decide(
    group: DeviceGroup,
    observed: Mapping[NodeName, Observed],
    before: Mapping[LegKey, LegState],
    now: float,
) -> Mapping[LegKey, LegState]:
    """What holds now of each leg."""
    return {
        key: _next(
            before.get(key, LegState()),
            votes(group.name, key, observed, now),
            group.probe.quorum,
            now,
        )
        for key in legs_of(group)
    }


def legs_of(group: DeviceGroup) -> Iterable[LegKey]:
    """All arms of all legs, in order."""
    for device in group.devices:
        for one in device.addresses:
            for arm in one.arms:
                yield device.name, one.network, arm.arm


def due(states: Mapping[LegKey, LegState], now: float) -> float | None:
    """When to decide again though nobody says anything; None: never."""
    return min(
        (one.held_until for one in states.values() if not one.is_up and one.held_until > now),
        default=None,
    )


def _next(before: LegState, said: Votes, quorum: int, now: float) -> LegState:
    known = said.up + said.down
    if not known:
        return before
    needed = min(quorum, known) if quorum else known // 2 + 1
    is_up = said.down < needed
    if before.since == 0.0 and is_up:
        return replace(before, since=now)
    if is_up == before.is_up:
        return before
    if is_up:
        return before if now < before.held_until else replace(before, is_up=True, since=now)
    falls = (*(fall for fall in before.falls if now - fall < FLAPPING_SECONDS), now)
    held = 0.0
    if len(falls) > FREE_FALLS:
        held = now + min(HOLD_MOST, HOLD_SECONDS * 2 ** (len(falls) - FREE_FALLS - 1))
    return LegState(is_up=False, since=now, falls=falls, held_until=held)


def rules_of(
    group: DeviceGroup,
    numbers: Mapping[LegKey, int],
    states: Mapping[LegKey, LegState],
) -> DeviceRules:
    """A group as nodes use it."""
    legs = tuple(
        _leg(device, one, numbers, states)
        for device in group.devices
        for one in device.addresses
        if all((device.name, one.network, arm.arm) in numbers for arm in one.arms)
    )
    return DeviceRules(
        group.name,
        legs,
        group.probe,
        is_down(group, legs),
        group.when_down,
        group.next,
        group.on_loss,
    )


def _leg(
    device: Device,
    one: DeviceAddress,
    numbers: Mapping[LegKey, int],
    states: Mapping[LegKey, LegState],
) -> Leg:
    inside, *others = (
        LegArm(
            arm.arm,
            numbers[device.name, one.network, arm.arm],
            arm.network,
            arm.address,
            arm.macs,
        )
        for arm in one.arms
    )
    return Leg(
        inside.number,
        device.name,
        inside.network,
        inside.address,
        inside.macs,
        device.weight,
        is_up=all(
            states.get((device.name, one.network, arm.arm), LegState()).is_up for arm in one.arms
        ),
        is_draining=device.is_draining,
        outside=others[0] if others else None,
    )


def is_down(group: DeviceGroup, legs: Sequence[Leg]) -> bool:
    """Whether too little of its weight is up; on a device that is down anywhere nothing counts."""
    lost = {leg.device for leg in legs if not leg.is_up}
    whole = sum(device.weight for device in group.devices)
    up = sum(device.weight for device in group.devices if device.name not in lost)
    return up == 0 or up * 100 < whole * group.threshold_percent
