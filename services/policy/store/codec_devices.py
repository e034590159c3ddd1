"""Groups of devices, what nodes see of them, and what holds, as documents of the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar

import msgspec

from services.common.model.devices import (
    DeviceGroupName,
    DeviceName,
    OnLoss,
    Probe,
    ProbeKind,
    WhenDown,
)
from services.common.model.names import NetworkName
from services.common.records.errors import RecordError
from services.policy.devices.health import LegKey, LegState, Observed, Seen
from services.policy.model import Device, DeviceAddress, DeviceGroup

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A group, and the numbers of its devices' legs."""

    group: DeviceGroup
    numbers: Mapping[LegKey, int]


class AddressDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device on a network."""

    network: str
    address: str
    number: int
    macs: tuple[str, ...] = ()


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
    """What holds of a leg."""

    device: str
    network: str
    up: bool = True
    since: float = 0.0
    falls: tuple[float, ...] = ()
    held_until: float = 0.0


class SeenDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node sees of a leg."""

    group: str
    device: str
    network: str
    up: bool
    reason: str = ""


class ObservedDocument(msgspec.Struct, frozen=True):
    """What a node sees."""

    at: float
    legs: tuple[SeenDocument, ...]


_encoder = msgspec.json.Encoder(order="sorted")
_groups = msgspec.json.Decoder(GroupDocument)
_states = msgspec.json.Decoder(tuple[StateDocument, ...])
_observed = msgspec.json.Decoder(ObservedDocument)


def encode_group(stored: StoredGroup) -> bytes:
    """The document to store, without the name, which is in the key."""
    group, probe = stored.group, stored.group.probe
    return _encoder.encode(
        GroupDocument(
            group.networks,
            tuple(
                DeviceDocument(
                    device.name,
                    tuple(
                        AddressDocument(
                            one.network,
                            str(one.address),
                            stored.numbers[device.name, one.network],
                            one.macs,
                        )
                        for one in device.addresses
                    ),
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


def decode_group(name: DeviceGroupName, document: bytes) -> StoredGroup:
    """Reads a group; raises RecordError."""
    record = _decode(_groups, document, "a group of devices")
    numbers: dict[LegKey, int] = {}
    devices = []
    for device in record.devices:
        addresses = []
        for one in device.addresses:
            try:
                address = ip_address(one.address)
            except ValueError as error:
                raise RecordError(f"not a group of devices: {error}") from error
            addresses.append(DeviceAddress(NetworkName(one.network), address, one.macs))
            numbers[DeviceName(device.name), NetworkName(one.network)] = one.number
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
            StateDocument(device, network, one.is_up, one.since, one.falls, one.held_until)
            for (device, network), one in states.items()
        )
    )


def decode_states(document: bytes) -> Mapping[LegKey, LegState]:
    """Reads what holds of a group's legs; raises RecordError."""
    return {
        (DeviceName(one.device), NetworkName(one.network)): LegState(
            one.up, one.since, one.falls, one.held_until
        )
        for one in _decode(_states, document, "the state of devices")
    }


def encode_observed(observed: Observed) -> bytes:
    """The document to store, without the node, which is in the key."""
    return _encoder.encode(
        ObservedDocument(
            observed.at,
            tuple(
                SeenDocument(*key, seen.is_up, seen.reason)
                for key, seen in sorted(observed.legs.items())
            ),
        )
    )


def decode_observed(document: bytes) -> Observed:
    """Reads what a node sees; raises RecordError."""
    record = _decode(_observed, document, "what a node sees of devices")
    return Observed(
        record.at,
        {
            (DeviceGroupName(one.group), DeviceName(one.device), NetworkName(one.network)): Seen(
                one.up, one.reason
            )
            for one in record.legs
        },
    )


def _decode(decoder: msgspec.json.Decoder[T], document: bytes, what: str) -> T:
    try:
        return decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"not {what}: {error}") from error
