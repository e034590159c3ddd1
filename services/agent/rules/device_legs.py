"""Which devices this node can send to, and how. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.common.model.devices import (
    DeviceGroupName,
    DeviceName,
    DeviceRules,
    OnLoss,
    WhenDown,
)
from services.common.model.names import NetworkName
from services.common.model.network import Address, Prefix


@dataclass(frozen=True, slots=True)
class Around:
    """What this node knows of networks' links."""

    interfaces: Mapping[NetworkName, str] = field(default_factory=dict)
    """To networks."""
    macs: Mapping[tuple[NetworkName, Address], str] = field(default_factory=dict)
    """With which devices have answered, whether they still do or not."""


@dataclass(frozen=True, slots=True)
class LegHere:
    """A device on a network of this node's."""

    number: int
    device: DeviceName
    address: Address
    macs: tuple[str, ...]
    weight: int
    is_up: bool
    is_draining: bool


@dataclass(frozen=True, slots=True)
class NetworkHere:
    """A group's devices on one network of this node's."""

    network: NetworkName
    cidr: Prefix
    interface: str
    legs: tuple[LegHere, ...]
    """Those whose MAC address is known: what comes back of others would not be recognised, and be
    sent there again."""


@dataclass(frozen=True, slots=True)
class GroupHere:
    """A group of devices, as this node sends to it."""

    name: DeviceGroupName
    is_down: bool
    when_down: WhenDown
    next: DeviceGroupName | None
    on_loss: OnLoss
    networks: tuple[NetworkHere, ...]


def groups_here(
    groups: Iterable[DeviceRules], cidrs: Mapping[NetworkName, Prefix], around: Around
) -> Mapping[DeviceGroupName, GroupHere]:
    """All groups; of their networks those that this node is on."""
    return {group.name: _here(group, cidrs, around) for group in groups}


def _here(group: DeviceRules, cidrs: Mapping[NetworkName, Prefix], around: Around) -> GroupHere:
    networks = []
    for name in sorted({leg.network for leg in group.legs}):
        cidr, interface = cidrs.get(name), around.interfaces.get(name)
        if cidr is None or interface is None:
            continue
        legs = tuple(
            LegHere(
                leg.number,
                leg.device,
                leg.address,
                tuple(dict.fromkeys((mac, *leg.macs))),
                leg.weight,
                leg.is_up,
                leg.is_draining,
            )
            for leg in group.legs
            if leg.network == name
            and leg.address.version == cidr.version
            and (mac := around.macs.get((name, leg.address))) is not None
        )
        networks.append(NetworkHere(name, cidr, interface, legs))
    return GroupHere(
        group.name, group.is_down, group.when_down, group.next, group.on_loss, tuple(networks)
    )
