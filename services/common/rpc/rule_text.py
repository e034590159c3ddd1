"""Rules of policies as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from romana.policy.v1 import policy_pb2, sync_rules_pb2

from services.common.terminal.plural import count


@dataclass(frozen=True, slots=True)
class EnforcedRule:
    """One rule for connections of one endpoint, or of the node, in words."""

    subject: str
    """Name of the endpoint; or "the node"."""
    direction: str
    tier: str
    policy: str
    """Empty: there is no policy of this direction."""
    rule: str
    """Its number in the policy."""
    action: str
    peers: str
    ports: str


def enforced(resources: Iterable[sync_rules_pb2.RuleResource]) -> Iterator[EnforcedRule]:
    """What a node is told to enforce, in the order in which it is asked."""
    subjects: list[tuple[str, sync_rules_pb2.EndpointRules | sync_rules_pb2.NodeRules]] = []
    rule_sets: dict[str, sync_rules_pb2.RuleSet] = {}
    for resource in resources:
        match resource.WhichOneof("resource"):
            case "node":
                subjects.insert(0, ("the node", resource.node))
            case "endpoint":
                subjects.append((resource.endpoint.name, resource.endpoint))
            case "rules":
                rule_sets[resource.rules.id] = resource.rules
    for name, subject in subjects:
        for direction, profile in (("ingress", subject.ingress), ("egress", subject.egress)):
            found = [rule_sets[each] for each in profile.rule_sets if each in rule_sets]
            if not found:
                yield EnforcedRule(name, direction, "", "", "", "", "", "")
            for rule_set in found:
                yield from _rules(name, direction, rule_set)


def cidr(block: policy_pb2.CidrBlock) -> str:
    """A prefix and what is excepted from it."""
    without = ", ".join(getattr(block, "except"))
    return block.cidr + (f" without {without}" if without else "")


def port(match: policy_pb2.PortMatch) -> str:
    """Such as "TCP 80-90"."""
    name = policy_pb2.Protocol.Name(match.protocol).removeprefix("PROTOCOL_")
    if not match.protocol:
        return "any"
    if match.port_name:
        return f"{name} {match.port_name}"
    if match.port:
        last = f"-{match.end_port}" if match.end_port not in {0, match.port} else ""
        return f"{name} {match.port}{last}"
    if match.HasField("icmp_type"):
        return f"{name} type {match.icmp_type}" + (
            f" code {match.icmp_code}" if match.HasField("icmp_code") else ""
        )
    return name


def _rules(name: str, direction: str, rule_set: sync_rules_pb2.RuleSet) -> Iterator[EnforcedRule]:
    tier = policy_pb2.PolicyTier.Name(rule_set.tier).removeprefix("POLICY_TIER_").lower()
    audited = " (audit)" if rule_set.mode == policy_pb2.POLICY_MODE_AUDIT else ""
    if not rule_set.rules:
        yield EnforcedRule(name, direction, tier, rule_set.policy, "", f"no rules{audited}", "", "")
    for rule in rule_set.rules:
        action = policy_pb2.RuleAction.Name(rule.action).removeprefix("RULE_ACTION_").lower()
        way = f" via {rule.via}" if rule.via else ""
        copies = f", copies to {rule.mirror}" if rule.mirror else ""
        yield EnforcedRule(
            name,
            direction,
            tier,
            rule_set.policy,
            str(rule.number),
            f"{action}{way}{copies}{audited}",
            _peers(rule),
            ", ".join(map(port, rule.ports)) or "any",
        )


def _peers(rule: sync_rules_pb2.CompiledRule) -> str:
    if rule.any_peer:
        return "any"
    parts = [cidr(block) for block in rule.blocks]
    if rule.groups:
        parts.append(count(len(rule.groups), "address group"))
    if rule.owned:
        parts.append(count(len(rule.owned), "block group"))
    return "; ".join(parts) or "nobody"
