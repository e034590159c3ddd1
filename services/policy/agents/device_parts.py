"""Devices as messages, for agents and for the API."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from romana.policy.v1 import device_pb2 as pb

from services.common.model.devices import DeviceRules, Leg, Probe
from services.common.rpc import enums


def device_rules(value: DeviceRules) -> pb.DeviceRules:
    """A group as nodes use it."""
    return pb.DeviceRules(
        name=value.name,
        legs=map(leg, value.legs),
        probe=probe(value.probe),
        down=value.is_down,
        when_down=enums.WHEN_DOWN[value.when_down],
        next=value.next or "",
        on_loss=enums.ON_LOSS[value.on_loss],
    )


def probe(value: Probe) -> pb.DeviceProbe:
    """How devices are probed."""
    interval = Duration()
    interval.FromMilliseconds(round(value.interval * 1000))
    return pb.DeviceProbe(
        kind=enums.PROBE_KINDS[value.kind],
        port=value.port,
        path="" if value.path == "/" else value.path,
        interval=interval,
        threshold=value.threshold,
        quorum=value.quorum,
    )


def leg(value: Leg) -> pb.DeviceLeg:
    """A device on a network."""
    message = pb.DeviceLeg(
        number=value.number,
        device=value.device,
        network=value.network,
        address=str(value.address),
        macs=value.macs,
        weight=value.weight,
        up=value.is_up,
        drain=value.is_draining,
    )
    outside = value.outside
    if outside is not None:
        message.outside.CopyFrom(
            pb.DeviceLegArm(
                number=outside.number,
                network=outside.network,
                address=str(outside.address),
                macs=outside.macs,
            )
        )
    return message
