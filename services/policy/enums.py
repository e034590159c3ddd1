"""The API's enums as ours, and back."""

from __future__ import annotations

from typing import Final

from romana.policy.v1 import endpoint_pb2, policy_pb2, selector_pb2

from services.common.model.network import Isolation
from services.common.model.rules import Action, Direction, Mode, Protocol, Tier
from services.policy.model import Operator

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
OPERATORS: Final = {
    Operator.IN: selector_pb2.LABEL_OPERATOR_IN,
    Operator.NOT_IN: selector_pb2.LABEL_OPERATOR_NOT_IN,
    Operator.EXISTS: selector_pb2.LABEL_OPERATOR_EXISTS,
    Operator.DOES_NOT_EXIST: selector_pb2.LABEL_OPERATOR_DOES_NOT_EXIST,
}
ISOLATIONS: Final = {
    None: endpoint_pb2.ISOLATION_UNSPECIFIED,
    Isolation.NONE: endpoint_pb2.ISOLATION_NONE,
    Isolation.TENANT: endpoint_pb2.ISOLATION_TENANT,
    Isolation.SEGMENT: endpoint_pb2.ISOLATION_SEGMENT,
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
OPERATOR_OF: Final = {number: operator for operator, number in OPERATORS.items()}
ISOLATION_OF: Final = {number: isolation for isolation, number in ISOLATIONS.items()}
