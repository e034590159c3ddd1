"""The API's values in words: enums without their prefixes, times, shares, labels."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from romana.agent.v1 import endpoint_pb2
from romana.ipam.v1 import allocation_pb2, ipam_service_pb2, utilization_pb2
from romana.policy.v1 import device_pb2, explain_pb2, policy_pb2, policy_service_pb2
from romana.policy.v1 import endpoint_pb2 as endpoint_policy_pb2
from romana.topology.v1 import network_pb2, topology_pb2

PERCENT = 100


def refusal(value: utilization_pb2.Refusal.ValueType) -> str:
    """Such as "group full"."""
    return _word(utilization_pb2.Refusal.DESCRIPTOR, value, "REFUSAL_")


def severity(value: ipam_service_pb2.Severity.ValueType) -> str:
    """Such as "error"."""
    return _word(ipam_service_pb2.Severity.DESCRIPTOR, value, "SEVERITY_")


def attachment_mode(value: network_pb2.AttachmentMode.ValueType) -> str:
    """Such as "onlink"; what is not said is the default."""
    return _word(
        network_pb2.AttachmentMode.DESCRIPTOR,
        value or network_pb2.ATTACHMENT_MODE_ROUTED,
        "ATTACHMENT_MODE_",
    )


def network_isolation(value: network_pb2.NetworkIsolation.ValueType) -> str:
    """Such as "tenant"; what is not said is the default."""
    return _word(
        network_pb2.NetworkIsolation.DESCRIPTOR,
        value or network_pb2.NETWORK_ISOLATION_NONE,
        "NETWORK_ISOLATION_",
    )


def placement(value: network_pb2.PlacementStrategy.ValueType) -> str:
    """Such as "sequential"; what is not said is the default."""
    return _word(
        network_pb2.PlacementStrategy.DESCRIPTOR,
        value or network_pb2.PLACEMENT_STRATEGY_AGGREGATE,
        "PLACEMENT_STRATEGY_",
    )


def move_state(value: ipam_service_pb2.MoveState.ValueType) -> str:
    return _word(ipam_service_pb2.MoveState.DESCRIPTOR, value, "MOVE_STATE_")


def endpoint_state(value: endpoint_pb2.EndpointState.ValueType) -> str:
    """Such as "attached"."""
    return _word(endpoint_pb2.EndpointState.DESCRIPTOR, value, "ENDPOINT_STATE_")


def change_kind(value: topology_pb2.ChangeKind.ValueType) -> str:
    """Such as "moved"."""
    return _word(topology_pb2.ChangeKind.DESCRIPTOR, value, "CHANGE_KIND_")


def policy_tier(value: policy_pb2.PolicyTier.ValueType) -> str:
    """Such as "admin"; what is not said is the default."""
    return _word(
        policy_pb2.PolicyTier.DESCRIPTOR, value or policy_pb2.POLICY_TIER_TENANT, "POLICY_TIER_"
    )


def policy_mode(value: policy_pb2.PolicyMode.ValueType) -> str:
    """Such as "audit"; what is not said is the default."""
    return _word(
        policy_pb2.PolicyMode.DESCRIPTOR, value or policy_pb2.POLICY_MODE_ENFORCE, "POLICY_MODE_"
    )


def rule_action(value: policy_pb2.RuleAction.ValueType) -> str:
    """Such as "deny"; what is not said is the default."""
    return _word(
        policy_pb2.RuleAction.DESCRIPTOR, value or policy_pb2.RULE_ACTION_ALLOW, "RULE_ACTION_"
    )


def tenant_isolation(value: endpoint_policy_pb2.Isolation.ValueType) -> str:
    """Such as "tenant"; "-" if it is not said."""
    return _word(endpoint_policy_pb2.Isolation.DESCRIPTOR, value, "ISOLATION_") if value else "-"


def path_kind(value: explain_pb2.PathKind.ValueType) -> str:
    """Such as "same node"."""
    return _word(explain_pb2.PathKind.DESCRIPTOR, value, "PATH_KIND_")


def policy_direction(value: policy_pb2.PolicyDirection.ValueType) -> str:
    """Such as "ingress"."""
    return _word(policy_pb2.PolicyDirection.DESCRIPTOR, value, "POLICY_DIRECTION_")


def device_state(value: device_pb2.DeviceState.ValueType) -> str:
    """Such as "up"."""
    return _word(device_pb2.DeviceState.DESCRIPTOR, value, "DEVICE_STATE_")


def when_down(value: device_pb2.DeviceWhenDown.ValueType) -> str:
    """Such as "closed"; what is not said is the default."""
    return _word(
        device_pb2.DeviceWhenDown.DESCRIPTOR,
        value or device_pb2.DEVICE_WHEN_DOWN_CLOSED,
        "DEVICE_WHEN_DOWN_",
    )


def on_loss(value: device_pb2.DeviceOnLoss.ValueType) -> str:
    """Such as "move"; what is not said is the default."""
    return _word(
        device_pb2.DeviceOnLoss.DESCRIPTOR,
        value or device_pb2.DEVICE_ON_LOSS_MOVE,
        "DEVICE_ON_LOSS_",
    )


def probe_kind(value: device_pb2.DeviceProbeKind.ValueType) -> str:
    """Such as "icmp"; what is not said is the default."""
    return _word(
        device_pb2.DeviceProbeKind.DESCRIPTOR,
        value or device_pb2.DEVICE_PROBE_KIND_NEIGHBOUR,
        "DEVICE_PROBE_KIND_",
    )


def policy_change(value: policy_service_pb2.ChangeKind.ValueType) -> str:
    """Such as "created"."""
    return _word(policy_service_pb2.ChangeKind.DESCRIPTOR, value, "CHANGE_KIND_")


def set_fields(message: Message, *, but: Container[str] = ()) -> list[tuple[str, str]]:
    """The fields that are set, by titles: such as "Block length", "29"."""
    return [
        (field.name.replace("_", " ").capitalize(), _said(value))
        for field, value in message.ListFields()
        if field.name not in but
    ]


def _said(value: object) -> str:
    if isinstance(value, Message):
        return "; ".join(f"{title.lower()} {text}" for title, text in set_fields(value))
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(_said, value))
    return str(value)


def family(text: str) -> allocation_pb2.Family.ValueType:
    """Reads "4", "ipv4", "6", "ipv6" or nothing; raises ValueError for anything else."""
    try:
        return {
            "": allocation_pb2.FAMILY_UNSPECIFIED,
            "4": allocation_pb2.FAMILY_IPV4,
            "ipv4": allocation_pb2.FAMILY_IPV4,
            "6": allocation_pb2.FAMILY_IPV6,
            "ipv6": allocation_pb2.FAMILY_IPV6,
        }[text.lower()]
    except KeyError:
        raise ValueError(f"{text!r} is no address family: 4 or 6") from None


def pairs(items: Mapping[str, str]) -> str:
    """Labels and the like, as "a=1, b=2"."""
    return ", ".join(f"{key}={items[key]}" for key in sorted(items))


def owner(tenant: str, segment: str) -> str:
    return f"{tenant}/{segment}" if segment else tenant


def moment(value: Timestamp) -> str:
    """UTC, whole seconds; empty if there is none."""
    return value.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ") if value.ByteSize() else ""


def seconds(value: Duration) -> str:
    """Such as "30 s"."""
    return f"{value.seconds + value.nanos / 1e9:g} s"


def large(number: int) -> str:
    """A number of addresses: exact up to a million millions, above that as a power of two."""
    if number < 10**12:
        return str(number)
    power = number.bit_length() - 1
    exact = number == 1 << power or number == (1 << power + 1) - 1
    return f"2^{power + (number != 1 << power)}" if exact else f"~2^{power}"


def share(used: int, size: int) -> str:
    """How full something is; never "0%" when it is used, never "100%" when there is room."""
    if not size or not used:
        return "0%"
    if used >= size:
        return "100%"
    percent = used * PERCENT / size
    if percent < 0.1:
        return "<0.1%"
    return f"{min(percent, 99.9):.1f}%"


def _word(enum: EnumDescriptor, value: int, prefix: str) -> str:
    """The value's name; its number, if the service is newer than this command."""
    known = enum.values_by_number.get(value)
    return known.name.removeprefix(prefix).replace("_", " ").lower() if known else str(value)
