"""What the policy service says of devices, as values."""

from __future__ import annotations

from romana.policy.v1 import device_pb2 as pb

from services.agent.streams.parsing import address
from services.common.errors import InvalidInput
from services.common.model.devices import (
    MAX_LEG,
    NOT_LEGS,
    Arm,
    DeviceGroupName,
    DeviceName,
    DeviceRules,
    Leg,
    LegArm,
    Probe,
)
from services.common.model.names import NetworkName
from services.common.rpc import enums


def device_rules(message: pb.DeviceRules) -> DeviceRules:
    """A group as this node uses it; raises InvalidInput."""
    when_down = enums.WHEN_DOWN_OF.get(message.when_down)
    on_loss = enums.ON_LOSS_OF.get(message.on_loss)
    kind = enums.PROBE_KIND_OF.get(message.probe.kind)
    if when_down is None or on_loss is None or kind is None:
        raise InvalidInput.at("devices", "when_down, on_loss or the kind of probe is not known")
    probe = message.probe
    return DeviceRules(
        DeviceGroupName(message.name),
        tuple(_leg(one, f"devices.legs[{number}]") for number, one in enumerate(message.legs)),
        Probe(
            kind,
            probe.port,
            probe.path or "/",
            probe.interval.ToNanoseconds() / 1e9,
            probe.threshold,
            probe.quorum,
        ),
        message.down,
        when_down,
        DeviceGroupName(message.next) if message.next else None,
        on_loss,
    )


def _leg(message: pb.DeviceLeg, path: str) -> Leg:
    outside = None
    if message.HasField("outside"):
        one, at = message.outside, f"{path}.outside"
        outside = LegArm(
            Arm.OUTSIDE,
            _number(one.number, at),
            NetworkName(one.network),
            address(one.address, f"{at}.address"),
            tuple(one.macs),
        )
    return Leg(
        _number(message.number, path),
        DeviceName(message.device),
        NetworkName(message.network),
        address(message.address, f"{path}.address"),
        tuple(message.macs),
        message.weight,
        message.up,
        message.drain,
        outside,
    )


def _number(number: int, path: str) -> int:
    if not 1 <= number <= MAX_LEG or number in NOT_LEGS:
        raise InvalidInput.at(f"{path}.number", f"{number} is not a number of a leg")
    return number
