"""Groups of devices and what is known of them, as messages; and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from romana.policy.v1 import device_pb2 as pb
from romana.policy.v1 import policy_service_pb2 as api

from services.common.document.fields import Findings
from services.common.errors import InvalidInput, Violation
from services.common.model.devices import Arm, DeviceGroupName, DeviceName, DeviceRules
from services.common.model.names import NetworkName, NodeName
from services.common.model.rules import PolicyName
from services.common.rpc import enums
from services.common.rpc.models import to_tree
from services.policy.agents.device_parts import probe
from services.policy.api.messages_out import etag
from services.policy.checks.devices import check_device_group
from services.policy.devices.health import LegKey, LegState, Observed, Seen, Votes, votes
from services.policy.forms.devices import read_device_document, read_device_group
from services.policy.model import Device, DeviceAddress, DeviceGroup
from services.policy.store.codec_devices import StoredGroup
from services.policy.store.entry import Entry

MAX_OBSERVATIONS = 1024
MAX_REASON = 256


def group_in(request: api.PutDeviceGroupRequest) -> tuple[DeviceGroup, str]:
    """The group of a request, and the etag that it names; raises InvalidInput."""
    if request.document:
        if request.HasField("group"):
            raise InvalidInput.at("document", "is there beside group: one of the two is enough")
        return read_device_document(request.document, request.source)
    findings = Findings()
    found = read_device_group(to_tree(request.group), "group", findings).value
    problems = findings.problems or [
        Violation(f"group.{one.path}", one.message) for one in check_device_group(found)
    ]
    if problems:
        raise InvalidInput.of(problems)
    return found, request.group.etag


def observed(request: api.ReportDevicesRequest, now: float) -> Observed:
    """What an agent says; raises InvalidInput."""
    if len(request.observations) > MAX_OBSERVATIONS:
        raise InvalidInput.at("observations", f"has more than {MAX_OBSERVATIONS} items")
    return Observed(
        now,
        {
            (
                DeviceGroupName(one.group),
                DeviceName(one.device),
                NetworkName(one.network),
                Arm.OUTSIDE if one.outside else Arm.INSIDE,
            ): Seen(one.up, one.reason[:MAX_REASON])
            for one in request.observations
        },
    )


def group(entry: Entry[StoredGroup]) -> pb.DeviceGroup:
    """As it was put."""
    value = entry.value.group
    return pb.DeviceGroup(
        name=value.name,
        description=value.description,
        networks=value.networks,
        devices=map(_device, value.devices),
        probe=probe(value.probe),
        when_down=enums.WHEN_DOWN[value.when_down],
        next=value.next or "",
        threshold_percent=value.threshold_percent,
        on_loss=enums.ON_LOSS[value.on_loss],
        etag=etag(entry.revision),
    )


def status(
    entry: Entry[StoredGroup],
    states: Mapping[LegKey, LegState],
    seen: Mapping[NodeName, Observed],
    rules: DeviceRules | None,
    policies: Iterable[PolicyName],
    now: float,
) -> pb.DeviceGroupStatus:
    """A group, and what is known of it."""
    value = entry.value.group
    return pb.DeviceGroupStatus(
        group=group(entry),
        devices=[_status(value, device, states, seen, now) for device in value.devices],
        down=rules is not None and rules.is_down,
        policies=policies,
    )


def _device(value: Device) -> pb.Device:
    return pb.Device(
        name=value.name,
        addresses=map(_address, value.addresses),
        weight=value.weight,
        drain=value.is_draining,
    )


def _address(value: DeviceAddress) -> pb.DeviceAddress:
    message = pb.DeviceAddress(network=value.network, address=str(value.address), macs=value.macs)
    outside = value.outside
    if outside is not None:
        message.outside.CopyFrom(
            pb.DeviceArm(
                address=str(outside.address), network=outside.network or "", macs=outside.macs
            )
        )
    return message


def _status(
    value: DeviceGroup,
    device: Device,
    states: Mapping[LegKey, LegState],
    seen: Mapping[NodeName, Observed],
    now: float,
) -> pb.DeviceStatus:
    """Of all its arms the worst."""
    legs = [(device.name, one.network, arm.arm) for one in device.addresses for arm in one.arms]
    said = [votes(value.name, leg, seen, now) for leg in legs]
    held = [states.get(leg, LegState()) for leg in legs]
    worst = min(range(len(legs)), key=lambda number: (held[number].is_up, -said[number].down))
    state, vote = held[worst], said[worst]
    message = pb.DeviceStatus(
        name=device.name,
        state=_state(device, state, vote),
        nodes_up=vote.up,
        nodes_down=vote.down,
        reason=vote.reason,
    )
    if state.since:
        message.since.CopyFrom(_timestamp(state.since))
    if not state.is_up and state.held_until > now:
        message.held_until.CopyFrom(_timestamp(state.held_until))
    return message


def _state(device: Device, state: LegState, vote: Votes) -> pb.DeviceState.ValueType:
    if not state.is_up:
        return pb.DEVICE_STATE_DOWN
    if device.is_draining:
        return pb.DEVICE_STATE_DRAINING
    return pb.DEVICE_STATE_UP if vote.up or vote.down else pb.DEVICE_STATE_UNKNOWN


def _timestamp(seconds: float) -> Timestamp:
    made = Timestamp()
    made.FromMilliseconds(round(seconds * 1000))
    return made
