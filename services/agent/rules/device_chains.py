"""What chains and maps of devices are made of. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from services.agent.kernel import marks
from services.agent.kernel.nftables.table import Chain, Elements, Is, Key, Shape
from services.common.model.devices import DeviceGroupName
from services.common.model.rules import Direction, PolicyName

ORIGINAL: Final = Is(Key.CONNECTION_DIRECTION, b"\x00")
REPLY: Final = Is(Key.CONNECTION_DIRECTION, b"\x01")
PINNED: Final = marks.LEG | marks.LEARNED | marks.INGRESS
"""Of connections' marks: how they are led."""
BY: Final = {Direction.EGRESS: 0, Direction.INGRESS: marks.INGRESS}
NOT_LED: Final = Is(Key.CONNECTION_MARK, marks.native(0), marks.native(marks.LEG))
LED: Final = Is(Key.CONNECTION_MARK, marks.native(0), marks.native(marks.LEG), inverted=True)
HAS_ARM: Final = (
    Is(Key.MARK, marks.native(0), marks.native(marks.LEG), inverted=True),
    Is(
        Key.MARK,
        marks.native(marks.OPERATORS & marks.LEG),
        marks.native(marks.LEG),
        inverted=True,
    ),
)
"""Bears the number of a device's arm: what the node itself sends so are copies for devices."""


@dataclass(frozen=True, slots=True)
class LegCounted:
    """What a counter of a device counts."""

    group: DeviceGroupName
    device: str
    network: str


@dataclass(frozen=True, slots=True)
class RuleLed:
    """What a counter of a rule that leads through devices counts."""

    policy: PolicyName
    direction: Direction
    rule: str
    group: DeviceGroupName


@dataclass(frozen=True, slots=True)
class RuleCopied:
    """What a counter of a rule that has copies made counts."""

    policy: PolicyName
    direction: Direction
    rule: str
    group: DeviceGroupName


@dataclass(slots=True)
class Devices:
    """What is made: a part of the table's structure."""

    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Shape] = field(default_factory=dict)
    elements: dict[str, Elements] = field(default_factory=dict)
    counters: dict[str, LegCounted | RuleLed | RuleCopied] = field(default_factory=dict)
