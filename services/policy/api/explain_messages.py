"""Explanations as messages, and the questions as values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from romana.policy.v1 import explain_pb2, policy_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.common.document.values import parse_address
from services.common.errors import InvalidInput, Violation
from services.common.model.names import EndpointName, NodeName
from services.common.model.rules import MAX_PORT
from services.common.rpc import enums
from services.policy.agents.device_parts import leg
from services.policy.api import messages_in
from services.policy.explain.explain import Connection, Explanation, Party
from services.policy.explain.matrix import Reach
from services.policy.explain.mirroring import Mirroring
from services.policy.explain.path import PathKind
from services.policy.explain.steering import Outcome, Steering
from services.policy.explain.verdict import Verdict
from services.policy.model import Endpoint

_MAX_ICMP: Final = 255

_PATHS: Final = {
    PathKind.SAME_NODE: explain_pb2.PATH_KIND_SAME_NODE,
    PathKind.DIRECT: explain_pb2.PATH_KIND_DIRECT,
    PathKind.GATEWAY: explain_pb2.PATH_KIND_GATEWAY,
    PathKind.UNKNOWN: explain_pb2.PATH_KIND_UNKNOWN,
}

_REACHES: Final = {
    Reach.DENIED: policy_pb2.RULE_ACTION_DENY,
    Reach.DIRECT: policy_pb2.RULE_ACTION_ALLOW,
    Reach.STEERED: policy_pb2.RULE_ACTION_ALLOW,
}
_OUTCOMES: Final = {
    Outcome.STEERED: explain_pb2.STEERING_OUTCOME_STEERED,
    Outcome.CLOSED: explain_pb2.STEERING_OUTCOME_CLOSED,
    Outcome.OPEN: explain_pb2.STEERING_OUTCOME_OPEN,
}


def connection(message: explain_pb2.Connection) -> Connection:
    """What is asked about; raises InvalidInput."""
    problems: list[Violation] = []
    numbers = [("port", message.port, MAX_PORT)]
    if message.HasField("icmp_type"):
        numbers.append(("icmp_type", message.icmp_type, _MAX_ICMP))
    if message.HasField("icmp_code"):
        numbers.append(("icmp_code", message.icmp_code, _MAX_ICMP))
    for name, number, most in numbers:
        if number > most:
            problems.append(Violation(f"connection.{name}", f"{number} is more than {most}"))
    found = Connection(
        source=_party(message.source, "connection.source", problems),
        destination=_party(message.destination, "connection.destination", problems),
        protocol=messages_in.protocol(message.protocol, "connection.protocol", problems),
        port=message.port,
        icmp_type=message.icmp_type if message.HasField("icmp_type") else None,
        icmp_code=message.icmp_code if message.HasField("icmp_code") else None,
    )
    if found.protocol is not None and not found.protocol.has_ports and message.port:
        problems.append(Violation("connection.port", f"{found.protocol} has no ports"))
    if problems:
        raise InvalidInput.of(problems)
    return found


def explanation(value: Explanation, behind: Collection[NodeName]) -> explain_pb2.Explanation:
    """What a pair of addresses comes to; `behind`: nodes that have not applied all."""
    message = explain_pb2.Explanation(
        source_address=str(value.source),
        destination_address=str(value.destination),
        action=enums.ACTIONS[value.action],
        path=explain_pb2.Path(
            kind=_PATHS[value.path.kind],
            hops=value.path.hops,
            description=value.path.description,
        ),
        unrealized_nodes=sorted(value.nodes.intersection(behind)),
    )
    message.mirrors.extend(map(_mirroring, value.mirrors))
    if value.steering is not None:
        message.steering.CopyFrom(_steering(value.steering))
    if value.egress is not None:
        message.egress.CopyFrom(_verdict(value.egress))
    if value.ingress is not None:
        message.ingress.CopyFrom(_verdict(value.ingress))
    return message


def matrix(
    sources: Sequence[Endpoint],
    destinations: Sequence[Endpoint],
    rows: Sequence[Sequence[Reach | None]],
    behind: Collection[NodeName],
) -> api.GetMatrixResponse:
    return api.GetMatrixResponse(
        destinations=[one.name for one in destinations],
        rows=[
            api.MatrixRow(
                source=source.name,
                actions=[
                    policy_pb2.RULE_ACTION_UNSPECIFIED if one is None else _REACHES[one]
                    for one in row
                ],
                steered=[one is Reach.STEERED for one in row] if Reach.STEERED in row else [],
            )
            for source, row in zip(sources, rows, strict=True)
        ],
        unrealized_nodes=sorted(behind),
    )


def _party(message: explain_pb2.Party, at: str, problems: list[Violation]) -> Party:
    match message.WhichOneof("party"):
        case "endpoint":
            return Party(endpoint=EndpointName(message.endpoint))
        case "node":
            return Party(node=NodeName(message.node))
        case "address":
            return Party(address=parse_address(message.address, f"{at}.address", problems))
        case _:
            problems.append(Violation(at, "one of endpoint, address and node is needed"))
            return Party()


def _steering(value: Steering) -> explain_pb2.Steering:
    return explain_pb2.Steering(
        policy=value.policy,
        direction=enums.DIRECTIONS[value.direction],
        rule=value.rule,
        group=value.group,
        devices=map(leg, value.devices),
        node=value.node or "",
        outcome=_OUTCOMES[value.outcome],
        hops=value.there,
        hops_back=value.back,
        description=value.description,
    )


def _mirroring(value: Mirroring) -> explain_pb2.Mirroring:
    return explain_pb2.Mirroring(
        policy=value.policy,
        direction=enums.DIRECTIONS[value.direction],
        rule=value.rule,
        group=value.group,
        devices=map(leg, value.devices),
        node=value.node or "",
        description=value.description,
    )


def _verdict(value: Verdict) -> explain_pb2.Verdict:
    message = explain_pb2.Verdict(
        action=enums.ACTIONS[value.action],
        policy=value.policy or "",
        rule=value.rule,
        reason=value.reason,
        asked=value.asked,
        otherwise=value.otherwise,
        audited=value.audited,
    )
    if value.tier is not None:
        message.tier = enums.TIERS[value.tier]
    return message
