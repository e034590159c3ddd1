"""What nodes' kernels have beside what the nodes are told, as people read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from romana.ipam.v1 import ipam_service_pb2, sync_routes_pb2, utilization_pb2
from romana.policy.v1 import policy_pb2, policy_service_pb2, sync_rules_pb2
from romana.sync.v1 import sync_pb2

from services.common.rpc.rule_text import EnforcedRule, enforced
from services.common.terminal.plural import count

_DEFAULT = "default"
_BY_GATEWAY = "by the gateway"
_UNKNOWN = "?"
"""Of what the answer had no room for."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class RuleInKernel:
    """A rule that a node is told, and what its kernel has of it."""

    rule: EnforcedRule
    kernel: str
    """yes, no, or how many parts of how many; empty: it has no rules that could be there."""
    packets: int
    """That it decided on."""


@dataclass(frozen=True, slots=True)
class RouteInKernel:
    """A route that a node is told, and what its kernel has of it."""

    route: utilization_pb2.Route
    kernel: str
    """yes, no, by which other next hop, or "by the gateway": it needs none of its own."""
    interface: str
    """By which it leaves; empty: none."""


@dataclass(frozen=True, slots=True)
class Differing:
    """Something that is not as it shall be."""

    how: str
    """missing, strange or changed."""
    what: str


@dataclass(frozen=True, slots=True)
class KernelBesideTold(Generic[Item]):
    verdict: str
    """A sentence."""
    agrees: bool
    """The kernel has all that the node is told, and nothing else."""
    items: tuple[Item, ...]
    """What it is told."""
    differences: tuple[Differing, ...]


def rules_beside_told(
    told: Iterable[sync_rules_pb2.RuleResource],
    answer: policy_service_pb2.GetKernelRulesResponse,
) -> KernelBesideTold[RuleInKernel]:
    """Compares what policy tells a node now with what its kernel has."""
    kernel = answer.kernel
    if kernel.waiting:
        return _waiting("rules", [RuleInKernel(one, "", 0) for one in enforced(told)])
    has = {(one.policy, _direction(one.direction), one.rule): one for one in kernel.rules}
    otherwise = _UNKNOWN if kernel.left_out else "no"
    rules = [_standing(one, has, otherwise) for one in enforced(told)]
    known = {_key(one.rule) for one in rules}
    policies = {key[:2] for key in known}
    differences = [
        Differing("missing", f"rule {' '.join(key)}, which its agent does not keep")
        for key in dict.fromkeys(_key(one.rule) for one in rules if one.kernel == "no")
        if key not in has
    ]
    differences += (
        Differing("strange", f"rule {policy} {direction} {rule}, which its agent is not told")
        for policy, direction, rule in sorted(has.keys() - known)
        if rule != _DEFAULT or (policy, direction) not in policies
    )
    differences += _differing(kernel.differences, kernel.more_differences)
    return _compared(rules, differences, holds_all=answer.holds_all)


def routes_beside_told(
    told: ipam_service_pb2.GetNodeRoutesResponse,
    answer: ipam_service_pb2.GetKernelRoutesResponse,
) -> KernelBesideTold[RouteInKernel]:
    """Compares what ipam tells a node now with what its kernel has."""
    kernel = answer.kernel
    if kernel.waiting:
        return _waiting("routes", [RouteInKernel(one, "", "") for one in told.remote])
    has = {(one.network, one.prefix): one for one in kernel.routes}
    otherwise = _UNKNOWN if kernel.left_out else "no"
    pairs = [(one, has.get((one.network, one.prefix))) for one in told.remote]
    routes = [_way(one, found, otherwise) for one, found in pairs]
    known = {(one.network, one.prefix) for one in (*told.remote, *told.own)}
    differences = [
        Differing("missing", f"{_route(*key)}, which its agent does not hold")
        for key in sorted(known - has.keys())
        if not kernel.left_out
    ]
    differences += (
        Differing("strange", f"{_route(*key)}, which its agent is not told")
        for key in sorted(has.keys() - known)
    )
    differences += (
        Differing(
            "changed",
            f"{_route(one.network, one.prefix)}: {_by(found)} and not by {one.next_hop}",
        )
        for one, found in pairs
        if found is not None and _is_elsewhere(one, found)
    )
    differences += _differing(kernel.differences, kernel.more_differences)
    return _compared(routes, differences, holds_all=answer.holds_all)


def _waiting(what: str, items: Iterable[Item]) -> KernelBesideTold[Item]:
    verdict = f"Its agent knows no {what} yet, and leaves its kernel as it is."
    return KernelBesideTold(verdict, agrees=False, items=tuple(items), differences=())


def _compared(
    items: Iterable[Item], differences: Sequence[Differing], *, holds_all: bool
) -> KernelBesideTold[Item]:
    verdict = "Its kernel has all of this."
    if not holds_all:
        verdict = "Its agent does not hold all of this yet."
    elif differences:
        verdict = f"Its kernel is not as it was told: {count(len(differences), 'difference')}."
    return KernelBesideTold(
        verdict, holds_all and not differences, tuple(items), tuple(differences)
    )


def _way(
    route: utilization_pb2.Route, found: sync_routes_pb2.KernelRoute | None, otherwise: str
) -> RouteInKernel:
    if found is None:
        return RouteInKernel(route, otherwise, "")
    if not found.kept:
        return RouteInKernel(route, _BY_GATEWAY, "")
    if not found.there:
        return RouteInKernel(route, "no", "")
    kernel = _by(found) if _is_elsewhere(route, found) else "yes"
    return RouteInKernel(route, kernel, found.interface)


def _is_elsewhere(route: utilization_pb2.Route, found: sync_routes_pb2.KernelRoute) -> bool:
    """Whether the kernel has it, by another next hop."""
    return found.kept and found.there and found.next_hop != route.next_hop


def _by(found: sync_routes_pb2.KernelRoute) -> str:
    return f"by {found.next_hop or 'no next hop'}"


def _route(network: str, prefix: str) -> str:
    return f"route {prefix} of network {network}"


def _standing(
    rule: EnforcedRule,
    has: Mapping[tuple[str, str, str], sync_rules_pb2.KernelRule],
    otherwise: str,
) -> RuleInKernel:
    if not rule.rule:
        return RuleInKernel(rule, "", 0)
    found = has.get(_key(rule))
    if found is None:
        return RuleInKernel(rule, otherwise, 0)
    if found.wanted and not found.there:
        return RuleInKernel(rule, "no", 0)
    is_whole = found.there == found.wanted
    kernel = "yes" if is_whole else f"{found.there} of {found.wanted}"
    return RuleInKernel(rule, kernel, found.packets)


def _key(rule: EnforcedRule) -> tuple[str, str, str]:
    """By which a rule is the same for all endpoints that have it."""
    return rule.policy, rule.direction, rule.rule


def _direction(direction: policy_pb2.PolicyDirection.ValueType) -> str:
    return policy_pb2.PolicyDirection.Name(direction).removeprefix("POLICY_DIRECTION_").lower()


def _differing(said: Iterable[sync_pb2.KernelDifference], more: int) -> Iterator[Differing]:
    for one in said:
        how = sync_pb2.DifferenceKind.Name(one.kind).removeprefix("DIFFERENCE_KIND_").lower()
        yield Differing(how, one.object)
    if more:
        yield Differing("", f"and {more:,} more")
