"""Policies for people: in words, and in the form of their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from romana.policy.v1 import endpoint_pb2, policy_pb2, selector_pb2

from services.common.rpc import rule_text
from services.common.terminal.table import Column
from services.ctl.views import enum_text
from services.ctl.views.output import Json

_OPERATORS: Final = {
    selector_pb2.LABEL_OPERATOR_IN: "in",
    selector_pb2.LABEL_OPERATOR_NOT_IN: "not in",
}
_OUTPUT_ONLY: Final = {"origin", "etag", "create_time", "update_time"}
_PREFIXES: Final = (
    "POLICY_TIER_",
    "POLICY_MODE_",
    "POLICY_DIRECTION_",
    "RULE_ACTION_",
    "PROTOCOL_",
)
_PREFIXES_OF_OPERATORS: Final = {
    "LABEL_OPERATOR_IN": "In",
    "LABEL_OPERATOR_NOT_IN": "NotIn",
    "LABEL_OPERATOR_EXISTS": "Exists",
    "LABEL_OPERATOR_DOES_NOT_EXIST": "DoesNotExist",
}


@dataclass(frozen=True, slots=True)
class RuleRow:
    place: str
    action: str
    peers: str
    ports: str


RULES: tuple[Column[RuleRow], ...] = (
    Column("RULE", lambda item: item.place, solid=True),
    Column("ACTION", lambda item: item.action),
    Column("PEERS", lambda item: item.peers),
    Column("PORTS", lambda item: item.ports),
)


def rule_rows(policy: policy_pb2.Policy) -> list[RuleRow]:
    """The rules of both directions; a direction without rules is a row, too."""
    rows: list[RuleRow] = []
    for name, direction, rules in (
        ("ingress", policy_pb2.POLICY_DIRECTION_INGRESS, policy.ingress),
        ("egress", policy_pb2.POLICY_DIRECTION_EGRESS, policy.egress),
    ):
        rows += [
            RuleRow(
                f"{name}[{number}]",
                _does(rule),
                "; ".join(map(_peer, rule.peers)) or "any",
                ", ".join(map(rule_text.port, rule.ports)) or "any",
            )
            for number, rule in enumerate(rules)
        ]
        if not rules and direction in governs(policy):
            rows.append(RuleRow(name, "no rules", "", ""))
    return rows


def governs(policy: policy_pb2.Policy) -> Sequence[policy_pb2.PolicyDirection.ValueType]:
    """The directions that a policy is about."""
    if policy.directions:
        return list(policy.directions)
    if policy.egress:
        return [policy_pb2.POLICY_DIRECTION_INGRESS, policy_pb2.POLICY_DIRECTION_EGRESS]
    return [policy_pb2.POLICY_DIRECTION_INGRESS]


def rule_counts(policy: policy_pb2.Policy) -> str:
    """Such as "ingress 2, egress 0"."""
    counts = {
        policy_pb2.POLICY_DIRECTION_INGRESS: f"ingress {len(policy.ingress)}",
        policy_pb2.POLICY_DIRECTION_EGRESS: f"egress {len(policy.egress)}",
    }
    return ", ".join(counts[direction] for direction in governs(policy))


def targets(policy: policy_pb2.Policy) -> str:
    """Such as "endpoints of shop with app=web"."""
    return "; ".join(
        _endpoints(target.endpoints)
        if target.WhichOneof("target") == "endpoints"
        else _nodes(target.nodes)
        for target in policy.targets
    )


def document(policy: policy_pb2.Policy) -> dict[str, Json]:
    """A policy as its file would have it: short words, and nothing that says nothing."""
    made = _short(_as_dict(policy))
    assert isinstance(made, dict)
    return {key: value for key, value in made.items() if key not in _OUTPUT_ONLY}


def tenant_document(tenant: endpoint_pb2.Tenant) -> dict[str, Json]:
    """A tenant as its file would have it."""
    made: dict[str, Json] = {"name": tenant.name}
    if tenant.labels:
        made["labels"] = dict(sorted(tenant.labels.items()))
    if tenant.isolation:
        word = endpoint_pb2.Isolation.Name(tenant.isolation)
        made["isolation"] = word.removeprefix("ISOLATION_").lower()
    return made


def _as_dict(message: Message) -> Json:
    made: Json = MessageToDict(message, preserving_proto_field_name=True)
    return made


def _short(value: Json) -> Json:
    if isinstance(value, dict):
        return {
            key: item if key in {"labels", "match_labels"} and _is_plain(item) else _short(item)
            for key, item in value.items()
        }
    if isinstance(value, str):
        return _word(value)
    if isinstance(value, Sequence):
        return [_short(item) for item in value]
    return value


def _is_plain(value: Json) -> bool:
    """Says whether it maps texts to texts: these are people's own."""
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _word(text: str) -> str:
    if text in _PREFIXES_OF_OPERATORS:
        return _PREFIXES_OF_OPERATORS[text]
    for prefix in _PREFIXES:
        if text.startswith(prefix):
            return text.removeprefix(prefix).lower()
    return text


def _peer(peer: policy_pb2.Peer) -> str:
    match peer.WhichOneof("peer"):
        case "endpoints":
            return _endpoints(peer.endpoints)
        case "nodes":
            return _nodes(peer.nodes)
        case "network":
            return f"network {peer.network}"
        case "cidr":
            return rule_text.cidr(peer.cidr)
        case _:
            return "any"


def _endpoints(selector: selector_pb2.EndpointSelector) -> str:
    parts = ["endpoints"]
    if selector.tenants:
        parts.append(f"of {', '.join(selector.tenants)}")
    if selector.segments:
        parts.append(f"in {', '.join(selector.segments)}")
    if selector.networks:
        parts.append(f"on {', '.join(selector.networks)}")
    if labels := _labels(selector.labels):
        parts.append(f"with {labels}")
    if labels := _labels(selector.tenant_labels):
        parts.append(f"of tenants with {labels}")
    return " ".join(parts) if parts[1:] else "all endpoints"


def _nodes(selector: selector_pb2.NodeSelector) -> str:
    parts = [", ".join(selector.names), _labels(selector.labels)]
    return " ".join(("nodes", *filter(None, parts))) if any(parts) else "all nodes"


def _labels(selector: selector_pb2.LabelSelector) -> str:
    return ", ".join(
        (
            *([enum_text.pairs(selector.match_labels)] if selector.match_labels else []),
            *_expressions(selector.match_expressions),
        )
    )


def _expressions(items: Iterable[selector_pb2.LabelRequirement]) -> Iterable[str]:
    for item in items:
        if item.operator in _OPERATORS:
            yield f"{item.key} {_OPERATORS[item.operator]} ({', '.join(item.values)})"
        elif item.operator == selector_pb2.LABEL_OPERATOR_EXISTS:
            yield item.key
        else:
            yield f"no {item.key}"


def _does(rule: policy_pb2.Rule) -> str:
    """Such as "allow via firewalls, mirror taps"."""
    via = f" via {rule.via}" if rule.via else ""
    mirror = f", mirror {rule.mirror}" if rule.mirror else ""
    return f"{enum_text.rule_action(rule.action)}{via}{mirror}"
