"""The API's enums as ours, and back: those that more than one service reads or writes.

Where the API gives UNSPECIFIED a meaning, it is read so.
"""

from __future__ import annotations

from typing import Final

from romana.ipam.v1 import allocation_pb2
from romana.policy.v1 import device_pb2, policy_pb2

from services.common.model.devices import OnLoss, ProbeKind, WhenDown
from services.common.model.rules import Action, Direction, Mode, Protocol, Tier

TIERS: Final = {
    Tier.ADMIN: policy_pb2.POLICY_TIER_ADMIN,
    Tier.TENANT: policy_pb2.POLICY_TIER_TENANT,
    Tier.BASELINE: policy_pb2.POLICY_TIER_BASELINE,
}
MODES: Final = {
    Mode.ENFORCE: policy_pb2.POLICY_MODE_ENFORCE,
    Mode.AUDIT: policy_pb2.POLICY_MODE_AUDIT,
}
DIRECTIONS: Final = {
    Direction.INGRESS: policy_pb2.POLICY_DIRECTION_INGRESS,
    Direction.EGRESS: policy_pb2.POLICY_DIRECTION_EGRESS,
}
ACTIONS: Final = {
    Action.ALLOW: policy_pb2.RULE_ACTION_ALLOW,
    Action.DENY: policy_pb2.RULE_ACTION_DENY,
    Action.PASS: policy_pb2.RULE_ACTION_PASS,
}
PROTOCOLS: Final = {
    Protocol.TCP: policy_pb2.PROTOCOL_TCP,
    Protocol.UDP: policy_pb2.PROTOCOL_UDP,
    Protocol.SCTP: policy_pb2.PROTOCOL_SCTP,
    Protocol.ICMP: policy_pb2.PROTOCOL_ICMP,
    Protocol.ICMPV6: policy_pb2.PROTOCOL_ICMPV6,
}

WHEN_DOWN: Final = {
    WhenDown.CLOSED: device_pb2.DEVICE_WHEN_DOWN_CLOSED,
    WhenDown.OPEN: device_pb2.DEVICE_WHEN_DOWN_OPEN,
    WhenDown.NEXT: device_pb2.DEVICE_WHEN_DOWN_NEXT,
}
ON_LOSS: Final = {
    OnLoss.MOVE: device_pb2.DEVICE_ON_LOSS_MOVE,
    OnLoss.CUT: device_pb2.DEVICE_ON_LOSS_CUT,
}
PROBE_KINDS: Final = {
    ProbeKind.NEIGHBOUR: device_pb2.DEVICE_PROBE_KIND_NEIGHBOUR,
    ProbeKind.ICMP: device_pb2.DEVICE_PROBE_KIND_ICMP,
    ProbeKind.TCP: device_pb2.DEVICE_PROBE_KIND_TCP,
    ProbeKind.HTTP: device_pb2.DEVICE_PROBE_KIND_HTTP,
}
FAMILIES: Final = {
    0: allocation_pb2.FAMILY_UNSPECIFIED,
    4: allocation_pb2.FAMILY_IPV4,
    6: allocation_pb2.FAMILY_IPV6,
}

TIER_OF: Final = {
    policy_pb2.POLICY_TIER_UNSPECIFIED: Tier.TENANT,
    **{number: tier for tier, number in TIERS.items()},
}
MODE_OF: Final = {
    policy_pb2.POLICY_MODE_UNSPECIFIED: Mode.ENFORCE,
    **{number: mode for mode, number in MODES.items()},
}
DIRECTION_OF: Final = {number: direction for direction, number in DIRECTIONS.items()}
ACTION_OF: Final = {
    policy_pb2.RULE_ACTION_UNSPECIFIED: Action.ALLOW,
    **{number: action for action, number in ACTIONS.items()},
}
PROTOCOL_OF: Final = {number: protocol for protocol, number in PROTOCOLS.items()}
WHEN_DOWN_OF: Final = {number: one for one, number in WHEN_DOWN.items()}
ON_LOSS_OF: Final = {number: one for one, number in ON_LOSS.items()}
PROBE_KIND_OF: Final = {number: one for one, number in PROBE_KINDS.items()}
FAMILY_OF: Final = {number: family for family, number in FAMILIES.items()}
