"""Groups of devices that policies send traffic through: what policy says, and nodes use.

A device is a firewall, or whatever else looks at packets and hands them back. It has a *leg* for
each network of its group: the address on that network's link that nodes send to. With two *arms*
it hands on what comes in by one to the other: the inside is the side of the endpoint whose rule
says so, the outside that of its peers.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

from services.common.model.names import NetworkName
from services.common.model.network import Address

DeviceGroupName = NewType("DeviceGroupName", str)
DeviceName = NewType("DeviceName", str)
"""Unique in its group."""

MAX_LEG: Final = 127
"""Legs of all groups have numbers from 1 to this: they are in seven bits of packets' marks."""

NOT_LEGS: Final = frozenset({18})
"""But these: operators' packets bear it in that place (`services.agent.kernel.marks`)."""


class WhenDown(StrEnum):
    """What becomes of traffic for a group of which too few devices are up."""

    CLOSED = "closed"
    OPEN = "open"
    NEXT = "next"


class OnLoss(StrEnum):
    """What becomes of a connection whose device goes down."""

    MOVE = "move"
    CUT = "cut"


class Arm(StrEnum):
    """One side of a device; one with a single arm has an inside only."""

    INSIDE = "inside"
    OUTSIDE = "outside"


class ProbeKind(StrEnum):
    """How a node asks a device whether it is there; each includes NEIGHBOUR."""

    NEIGHBOUR = "neighbour"
    ICMP = "icmp"
    TCP = "tcp"
    HTTP = "http"


@dataclass(frozen=True, slots=True)
class Probe:
    """How devices of a group are probed."""

    kind: ProbeKind = ProbeKind.NEIGHBOUR
    port: int = 0
    """Of TCP and HTTP."""
    path: str = "/"
    """Of HTTP."""
    interval: float = 1.0
    """Seconds between two probes."""
    threshold: int = 3
    """Probes in a row that say otherwise before a node says otherwise."""
    quorum: int = 0
    """How many nodes have to say that a device is down; 0: more than half of those that probe."""


PROBE: Final = Probe()
"""If nothing is said."""


@dataclass(frozen=True, slots=True)
class LegArm:
    """One side of a leg."""

    arm: Arm
    number: int
    """Stands for it in packets' marks: 1 to MAX_LEG, unique among all groups."""
    network: NetworkName
    """On whose link it is."""
    address: Address
    macs: tuple[str, ...] = ()
    """That it sends with, beside the one that it answers with."""


@dataclass(frozen=True, slots=True)
class Leg:
    """A device for the endpoints of one network, as nodes send to it."""

    number: int
    """Stands for it in packets' marks: 1 to MAX_LEG, unique among all groups."""
    device: DeviceName
    network: NetworkName
    address: Address
    macs: tuple[str, ...] = ()
    """That it sends with, beside the one that it answers with."""
    weight: int = 1
    is_up: bool = True
    is_draining: bool = False
    """It takes no new connections."""
    outside: LegArm | None = None
    """None: it has one arm."""

    @property
    def arms(self) -> tuple[LegArm, ...]:
        """One or two, the inside first."""
        inside = LegArm(Arm.INSIDE, self.number, self.network, self.address, self.macs)
        return (inside,) if self.outside is None else (inside, self.outside)


@dataclass(frozen=True, slots=True)
class DeviceRules:
    """A group as nodes use it."""

    name: DeviceGroupName
    legs: tuple[Leg, ...]
    probe: Probe = PROBE
    is_down: bool = False
    """Too few are up: no new connections go through it."""
    when_down: WhenDown = WhenDown.CLOSED
    next: DeviceGroupName | None = None
    """Of NEXT."""
    on_loss: OnLoss = OnLoss.MOVE
