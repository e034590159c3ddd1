"""Which devices this node can send to, and how. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from services.common.model.devices import (
    DeviceGroupName,
    DeviceName,
    DeviceRules,
    Leg,
    LegArm,
    OnLoss,
    WhenDown,
)
from services.common.model.names import NetworkName
from services.common.model.network import Address, Prefix
from services.common.model.rules import Direction


@dataclass(frozen=True, slots=True)
class Around:
    """What this node knows of networks' links."""

    interfaces: Mapping[NetworkName, str] = field(default_factory=dict)
    """To networks."""
    macs: Mapping[tuple[NetworkName, Address], str] = field(default_factory=dict)
    """With which devices have answered, whether they still do or not."""


@dataclass(frozen=True, slots=True)
class ArmHere:
    """A side of a device on a link of this node's. Only such whose MAC address is known: what
    comes back of others would not be recognised, and be sent there again."""

    number: int
    leg: int
    """Number of the inside, which stands for the device."""
    device: DeviceName
    network: NetworkName
    """For whose endpoints it is, wherever it is itself."""
    address: Address
    interface: str
    macs: tuple[str, ...]
    is_up: bool
    """The device."""
    is_elsewhere: bool
    """Its link is not that of the network for whose endpoints it is."""


@dataclass(frozen=True, slots=True)
class LegHere:
    """A device for a network of this node's."""

    device: DeviceName
    inside: ArmHere
    outside: ArmHere
    """The same, if it has one arm."""
    weight: int
    is_up: bool
    is_draining: bool

    def first(self, direction: Direction) -> ArmHere:
        """Where packets enter it as a connection began that a rule of this direction leads: its
        inside is the side of the endpoint whose rule it is."""
        return self.inside if direction is Direction.EGRESS else self.outside

    def last(self, direction: Direction) -> ArmHere:
        """Where the answers enter it."""
        return self.outside if direction is Direction.EGRESS else self.inside


@dataclass(frozen=True, slots=True)
class NetworkHere:
    """A group's devices for one network of this node's."""

    network: NetworkName
    cidr: Prefix
    legs: tuple[LegHere, ...]
    """Those of which this node can send to every arm."""


@dataclass(frozen=True, slots=True)
class GroupHere:
    """A group of devices, as this node sends to it."""

    name: DeviceGroupName
    is_down: bool
    when_down: WhenDown
    next: DeviceGroupName | None
    on_loss: OnLoss
    networks: tuple[NetworkHere, ...]
    arms: tuple[ArmHere, ...]
    """All that are on links of this node's: other nodes lead through them, too."""


def groups_here(
    groups: Iterable[DeviceRules], cidrs: Mapping[NetworkName, Prefix], around: Around
) -> Mapping[DeviceGroupName, GroupHere]:
    """All groups; of their networks those that this node is on."""
    return {group.name: _here(group, cidrs, around) for group in groups}


def _here(group: DeviceRules, cidrs: Mapping[NetworkName, Prefix], around: Around) -> GroupHere:
    networks = []
    arms: dict[int, ArmHere] = {}
    for leg in group.legs:
        arms |= {one.number: one for one in _arms(leg, around)}
    for name in sorted({leg.network for leg in group.legs}):
        cidr = cidrs.get(name)
        if cidr is None or name not in around.interfaces:
            continue
        legs = tuple(
            LegHere(
                leg.device,
                arms[leg.arms[0].number],
                arms[leg.arms[-1].number],
                leg.weight,
                leg.is_up,
                leg.is_draining,
            )
            for leg in group.legs
            if leg.network == name
            and leg.address.version == cidr.version
            and all(one.number in arms for one in leg.arms)
        )
        networks.append(NetworkHere(name, cidr, legs))
    return GroupHere(
        group.name,
        group.is_down,
        group.when_down,
        group.next,
        group.on_loss,
        tuple(networks),
        tuple(arms.values()),
    )


def _arms(leg: Leg, around: Around) -> Iterator[ArmHere]:
    home = around.interfaces.get(leg.network)
    for one in leg.arms:
        interface, mac = around.interfaces.get(one.network), _mac(one, around)
        if interface is not None and mac is not None:
            yield ArmHere(
                one.number,
                leg.number,
                leg.device,
                leg.network,
                one.address,
                interface,
                tuple(dict.fromkeys((mac, *one.macs))),
                leg.is_up,
                interface != home,
            )


def _mac(one: LegArm, around: Around) -> str | None:
    return around.macs.get((one.network, one.address))
