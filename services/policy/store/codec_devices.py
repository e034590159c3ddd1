"""Groups of devices, what nodes see of them, and what holds, as documents of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar

import msgspec

from services.common.model.devices import (
    MAX_LEG,
    Arm,
    DeviceGroupName,
    DeviceName,
    OnLoss,
    Probe,
    ProbeKind,
    WhenDown,
)
from services.common.model.names import NetworkName
from services.common.model.network import Address
from services.common.records.errors import RecordError
from services.policy.devices.health import LegKey, LegState, Observed, Seen
from services.policy.model import Device, DeviceAddress, DeviceArm, DeviceGroup

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A group, and the numbers of its devices' legs."""

    group: DeviceGroup
    numbers: Mapping[LegKey, int]


class ArmDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """The outside of a device with two arms."""

    address: str
    number: int
    network: str = ""
    macs: tuple[str, ...] = ()


class AddressDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device for the endpoints of a network."""

    network: str
    address: str
    number: int
    macs: tuple[str, ...] = ()
    outside: ArmDocument | None = None


class DeviceDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device."""

    name: str
    addresses: tuple[AddressDocument, ...]
    weight: int = 1
    draining: bool = False


class ProbeDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """How it is probed."""

    kind: ProbeKind = ProbeKind.NEIGHBOUR
    port: int = 0
    path: str = "/"
    interval: float = 1.0
    threshold: int = 3
    quorum: int = 0


class GroupDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A group."""

    networks: tuple[str, ...]
    devices: tuple[DeviceDocument, ...]
    probe: ProbeDocument = ProbeDocument()
    when_down: WhenDown = WhenDown.CLOSED
    next: str = ""
    threshold_percent: int = 0
    on_loss: OnLoss = OnLoss.MOVE
    description: str = ""


class StateDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """What holds of an arm."""

    device: str
    network: str
    up: bool = True
    since: float = 0.0
    falls: tuple[float, ...] = ()
    held_until: float = 0.0
    arm: Arm = Arm.INSIDE


class SeenDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node sees of an arm."""

    group: str
    device: str
    network: str
    up: bool
    reason: str = ""
    arm: Arm = Arm.INSIDE


class ObservedDocument(msgspec.Struct, frozen=True):
    """What a node sees."""

    at: float
    legs: tuple[SeenDocument, ...]


_encoder = msgspec.json.Encoder(order="sorted")
_groups = msgspec.json.Decoder(GroupDocument)
_states = msgspec.json.Decoder(tuple[StateDocument, ...])
_observed = msgspec.json.Decoder(ObservedDocument)
_number = msgspec.json.Decoder(int)


def encode_group(stored: StoredGroup) -> bytes:
    """The document to store, without the name, which is in the key."""
    group, probe = stored.group, stored.group.probe
    return _encoder.encode(
        GroupDocument(
            group.networks,
            tuple(
                DeviceDocument(
                    device.name,
                    tuple(_address_document(stored, device.name, one) for one in device.addresses),
                    device.weight,
                    device.is_draining,
                )
                for device in group.devices
            ),
            ProbeDocument(
                probe.kind, probe.port, probe.path, probe.interval, probe.threshold, probe.quorum
            ),
            group.when_down,
            group.next or "",
            group.threshold_percent,
            group.on_loss,
            group.description,
        )
    )


def _address_document(
    stored: StoredGroup, device: DeviceName, one: DeviceAddress
) -> AddressDocument:
    outside = None
    if one.outside is not None:
        outside = ArmDocument(
            str(one.outside.address),
            stored.numbers[device, one.network, Arm.OUTSIDE],
            one.outside.network or "",
            one.outside.macs,
        )
    return AddressDocument(
        one.network,
        str(one.address),
        stored.numbers[device, one.network, Arm.INSIDE],
        one.macs,
        outside,
    )


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError as error:
        raise RecordError(f"not a group of devices: {error}") from error


def decode_group(name: DeviceGroupName, document: bytes) -> StoredGroup:
    """Reads a group; raises RecordError."""
    record = _decode(_groups, document, "a group of devices")
    numbers: dict[LegKey, int] = {}
    devices = []
    for device in record.devices:
        addresses = []
        for one in device.addresses:
            name_, network = DeviceName(device.name), NetworkName(one.network)
            outside = None
            if one.outside is not None:
                outside = DeviceArm(
                    _address(one.outside.address),
                    NetworkName(one.outside.network) if one.outside.network else None,
                    one.outside.macs,
                )
                numbers[name_, network, Arm.OUTSIDE] = one.outside.number
            addresses.append(DeviceAddress(network, _address(one.address), one.macs, outside))
            numbers[name_, network, Arm.INSIDE] = one.number
        devices.append(
            Device(DeviceName(device.name), tuple(addresses), device.weight, device.draining)
        )
    probe = record.probe
    return StoredGroup(
        DeviceGroup(
            name,
            tuple(map(NetworkName, record.networks)),
            tuple(devices),
            Probe(
                probe.kind, probe.port, probe.path, probe.interval, probe.threshold, probe.quorum
            ),
            record.when_down,
            DeviceGroupName(record.next) if record.next else None,
            record.threshold_percent,
            record.on_loss,
            record.description,
        ),
        numbers,
    )


def encode_states(states: Mapping[LegKey, LegState]) -> bytes:
    """The document to store."""
    return _encoder.encode(
        tuple(
            StateDocument(device, network, one.is_up, one.since, one.falls, one.held_until, arm)
            for (device, network, arm), one in states.items()
        )
    )


def decode_states(document: bytes) -> Mapping[LegKey, LegState]:
    """Reads what holds of a group's legs; raises RecordError."""
    return {
        (DeviceName(one.device), NetworkName(one.network), one.arm): LegState(
            one.up, one.since, one.falls, one.held_until
        )
        for one in _decode(_states, document, "the state of devices")
    }


def encode_number(number: int) -> bytes:
    """The document to store."""
    return str(number).encode()


def decode_number(document: bytes) -> int:
    """Reads the last number that an arm was given; raises RecordError."""
    number = _decode(_number, document, "the number of an arm")
    if not 1 <= number <= MAX_LEG:
        raise RecordError(f"not the number of an arm: {number}")
    return number


def encode_observed(observed: Observed) -> bytes:
    """The document to store, without the node, which is in the key."""
    return _encoder.encode(
        ObservedDocument(
            observed.at,
            tuple(
                SeenDocument(group, device, network, seen.is_up, seen.reason, arm)
                for (group, device, network, arm), seen in sorted(observed.legs.items())
            ),
        )
    )


def decode_observed(document: bytes) -> Observed:
    """Reads what a node sees; raises RecordError."""
    record = _decode(_observed, document, "what a node sees of devices")
    return Observed(
        record.at,
        {
            (
                DeviceGroupName(one.group),
                DeviceName(one.device),
                NetworkName(one.network),
                one.arm,
            ): Seen(one.up, one.reason)
            for one in record.legs
        },
    )


def _decode(decoder: msgspec.json.Decoder[T], document: bytes, what: str) -> T:
    try:
        return decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"not {what}: {error}") from error
