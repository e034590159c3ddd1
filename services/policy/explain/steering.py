"""Says through which devices a connection goes, and which way both directions take."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from services.common.model.devices import Arm, DeviceGroupName, DeviceRules, Leg, WhenDown
from services.common.model.names import NetworkName, NodeName
from services.common.model.rules import Action, Direction, PolicyName
from services.policy.explain.path import End, network_of
from services.policy.explain.verdict import Verdict
from services.policy.model import PolicyNetwork


class Outcome(Enum):
    """What becomes of it."""

    STEERED = enum.auto()
    CLOSED = enum.auto()
    """Nothing passes."""
    OPEN = enum.auto()
    """It goes directly."""


@dataclass(frozen=True, slots=True)
class Steering:
    """What is said of a connection that a rule leads through devices."""

    policy: PolicyName
    direction: Direction
    rule: int
    group: DeviceGroupName
    """That takes it: the one that the rule names, or what comes next."""
    devices: tuple[Leg, ...]
    """Of which it gets one, or keeps the one that it has."""
    node: NodeName | None
    """That leads it there."""
    outcome: Outcome
    there: tuple[str, ...]
    back: tuple[str, ...]
    description: str


def steering(
    source: End,
    destination: End,
    egress: Verdict | None,
    ingress: Verdict | None,
    networks: Mapping[NetworkName, PolicyNetwork],
    groups: Mapping[DeviceGroupName, DeviceRules],
) -> Steering | None:
    """Of a connection that both directions allow; None: it goes directly.

    An egress rule goes before an ingress rule: nothing is led through devices twice.
    """
    for verdict, direction, own in (
        (egress, Direction.EGRESS, source),
        (ingress, Direction.INGRESS, destination),
    ):
        if verdict is None or verdict.via is None or verdict.policy is None or own.is_node:
            continue
        if verdict.action is not Action.ALLOW:
            return None
        return _led(verdict, direction, own, source, destination, networks, groups)
    return None


def _led(
    verdict: Verdict,
    direction: Direction,
    own: End,
    source: End,
    destination: End,
    networks: Mapping[NetworkName, PolicyNetwork],
    groups: Mapping[DeviceGroupName, DeviceRules],
) -> Steering:
    assert verdict.via is not None
    assert verdict.policy is not None
    network = network_of(own.address, networks)
    name, legs, outcome = taking(verdict.via, network, groups)
    there: tuple[str, ...]
    ends = _place(source), _place(destination)
    if outcome is Outcome.STEERED:
        mine, arms = _place(own), _arms(legs, direction)
        before = tuple(dict.fromkeys((ends[0], mine)))
        there = (*before, f"group {name}{arms.there}", ends[1])
        back = (ends[1], f"group {name}{arms.back}", *reversed(before))
    else:
        there = back = ()
        if outcome is Outcome.OPEN:
            there = tuple(dict.fromkeys(ends))
            back = tuple(reversed(there))
    return Steering(
        verdict.policy,
        direction,
        verdict.rule,
        name,
        legs,
        own.node,
        outcome,
        there,
        back,
        _describe(verdict.via, name, legs, outcome, network),
    )


def taking(
    name: DeviceGroupName,
    network: PolicyNetwork | None,
    groups: Mapping[DeviceGroupName, DeviceRules],
) -> tuple[DeviceGroupName, tuple[Leg, ...], Outcome]:
    """The group that takes it, its devices, and what becomes of it."""
    seen: set[DeviceGroupName] = set()
    following: DeviceGroupName | None = name
    while following is not None and following not in seen:
        seen.add(following)
        group = groups.get(following)
        if group is None:
            break
        legs = tuple(
            leg for leg in group.legs if network is not None and leg.network == network.name
        )
        if not group.is_down and any(leg.is_up and not leg.is_draining for leg in legs):
            return following, legs, Outcome.STEERED
        name = following
        if group.when_down is WhenDown.OPEN:
            return name, legs, Outcome.OPEN
        following = group.next
    last = groups.get(name)
    return name, () if last is None else last.legs, Outcome.CLOSED


@dataclass(frozen=True, slots=True)
class _Arms:
    """By which arms a group is passed, for people; nothing to say of those with one."""

    there: str = ""
    back: str = ""


def _arms(legs: Sequence[Leg], direction: Direction) -> _Arms:
    if not any(leg.outside for leg in legs):
        return _Arms()
    out, home = f", {Arm.INSIDE} to {Arm.OUTSIDE}", f", {Arm.OUTSIDE} to {Arm.INSIDE}"
    return _Arms(out, home) if direction is Direction.EGRESS else _Arms(home, out)


def _describe(
    asked: DeviceGroupName,
    name: DeviceGroupName,
    legs: tuple[Leg, ...],
    outcome: Outcome,
    network: PolicyNetwork | None,
) -> str:
    instead = f" instead of {asked}, which is down" if name != asked else ""
    if outcome is Outcome.STEERED:
        up = ", ".join(leg.device for leg in legs if leg.is_up and not leg.is_draining)
        return f"through one of {up} of group {name}{instead}, both directions"
    why = "too few devices are up" if legs else f"no device is on {_called(network)}"
    if outcome is Outcome.OPEN:
        return f"directly, since {why} and group {name} is open then{instead}"
    return f"nothing passes, since {why} and group {name} is closed then{instead}"


def _called(network: PolicyNetwork | None) -> str:
    return "no network that is known" if network is None else f"network {network.name}"


def _place(end: End) -> str:
    return str(end.address) if end.node is None else f"node {end.node}"
