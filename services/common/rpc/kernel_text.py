"""What nodes' kernels have beside what the nodes are told, as people read it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from romana.policy.v1 import policy_pb2, policy_service_pb2, sync_rules_pb2
from romana.sync.v1 import sync_pb2

from services.common.rpc.rule_text import EnforcedRule, enforced
from services.common.terminal.plural import count

_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class RuleInKernel:
    """A rule that a node is told, and what its kernel has of it."""

    rule: EnforcedRule
    kernel: str
    """yes, no, or how many parts of how many; empty: it has no rules that could be there."""
    packets: int
    """That it decided on."""


@dataclass(frozen=True, slots=True)
class Differing:
    """Something that is not as it shall be."""

    how: str
    """missing, strange or changed."""
    what: str


@dataclass(frozen=True, slots=True)
class KernelBesideTold:
    verdict: str
    """A sentence."""
    agrees: bool
    """The kernel has all that the node is told, and nothing else."""
    rules: tuple[RuleInKernel, ...]
    differences: tuple[Differing, ...]


def rules_beside_told(
    told: Iterable[sync_rules_pb2.RuleResource],
    answer: policy_service_pb2.GetKernelRulesResponse,
) -> KernelBesideTold:
    """Compares what policy tells a node now with what its kernel has."""
    has = {(one.policy, _direction(one.direction), one.rule): one for one in answer.kernel.rules}
    if answer.kernel.waiting:
        unknown = tuple(RuleInKernel(one, "", 0) for one in enforced(told))
        verdict = "Its agent knows no rules yet, and leaves its kernel as it is."
        return KernelBesideTold(verdict, agrees=False, rules=unknown, differences=())
    rules = tuple(_standing(one, has) for one in enforced(told))
    known = {_key(one.rule) for one in rules}
    policies = {key[:2] for key in known}
    differences = [
        Differing("missing", f"rule {' '.join(key)}, which its agent does not keep")
        for key in dict.fromkeys(_key(one.rule) for one in rules if one.kernel)
        if key not in has
    ]
    differences += (
        Differing("strange", f"rule {policy} {direction} {rule}, which its agent is not told")
        for policy, direction, rule in has.keys() - known
        if rule != _DEFAULT or (policy, direction) not in policies
    )
    differences += map(_differing, answer.kernel.differences)
    if answer.kernel.left_out:
        differences.append(Differing("", f"and {answer.kernel.left_out:,} more"))
    return KernelBesideTold(
        _verdict(answer, len(differences)),
        not differences and answer.holds_all,
        rules,
        tuple(differences),
    )


def _verdict(answer: policy_service_pb2.GetKernelRulesResponse, differences: int) -> str:
    if not answer.holds_all:
        return "Its agent does not hold all of this yet."
    if differences:
        return f"Its kernel is not as it was told: {count(differences, 'difference')}."
    return "Its kernel has all of this."


def _standing(
    rule: EnforcedRule, has: dict[tuple[str, str, str], sync_rules_pb2.KernelRule]
) -> RuleInKernel:
    if not rule.rule:
        return RuleInKernel(rule, "", 0)
    found = has.get(_key(rule))
    if found is None or (found.wanted and not found.there):
        return RuleInKernel(rule, "no", 0)
    is_whole = found.there == found.wanted
    kernel = "yes" if is_whole else f"{found.there} of {found.wanted}"
    return RuleInKernel(rule, kernel, found.packets)


def _key(rule: EnforcedRule) -> tuple[str, str, str]:
    """By which a rule is the same for all endpoints that have it."""
    return rule.policy, rule.direction, rule.rule


def _direction(direction: policy_pb2.PolicyDirection.ValueType) -> str:
    return policy_pb2.PolicyDirection.Name(direction).removeprefix("POLICY_DIRECTION_").lower()


def _differing(one: sync_pb2.KernelDifference) -> Differing:
    how = sync_pb2.DifferenceKind.Name(one.kind).removeprefix("DIFFERENCE_KIND_").lower()
    return Differing(how, one.object)
