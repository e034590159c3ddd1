"""The API's values in words: enums without their prefixes, times, shares, labels."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from romana.agent.v1 import endpoint_pb2
from romana.ipam.v1 import allocation_pb2, ipam_service_pb2, utilization_pb2
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


def placement(value: network_pb2.PlacementStrategy.ValueType) -> str:
    """Such as "sequential"; what is not said is the default."""
    return _word(
        network_pb2.PlacementStrategy.DESCRIPTOR,
        value or network_pb2.PLACEMENT_STRATEGY_AGGREGATE,
        "PLACEMENT_STRATEGY_",
    )


def endpoint_state(value: endpoint_pb2.EndpointState.ValueType) -> str:
    """Such as "attached"."""
    return _word(endpoint_pb2.EndpointState.DESCRIPTOR, value, "ENDPOINT_STATE_")


def change_kind(value: topology_pb2.ChangeKind.ValueType) -> str:
    """Such as "moved"."""
    return _word(topology_pb2.ChangeKind.DESCRIPTOR, value, "CHANGE_KIND_")


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
    """Tenant and segment as one word."""
    return f"{tenant}/{segment}" if segment else tenant


def moment(value: Timestamp) -> str:
    """UTC, whole seconds; empty if there is none."""
    return value.ToDatetime().strftime("%Y-%m-%dT%H:%M:%SZ") if value.ByteSize() else ""


def seconds(value: Duration) -> str:
    """Such as "30 s"."""
    return f"{value.seconds + value.nanos / 1e9:g} s"


def count(number: int, noun: str) -> str:
    """A number with its noun."""
    plural = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{plural}"


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
