"""Says what is wrong with a policy, a tenant or an endpoint.

What a value cannot hold, such as an unknown operator or a CIDR with host bits, is refused by who
reads it; what it can hold is checked here, wherever it comes from. Field paths are those of the
API, except that a condition on a label is named by the label: `targets[0].endpoints.labels['app']`.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Final

from services.common.errors import Violation
from services.common.model.names import (
    NetworkName,
    endpoint_name,
    labels,
    resource_name,
    subject_name,
)
from services.common.model.rules import MAX_PORT, MAX_PRIORITY, Action, Direction, Tier
from services.policy.checks.devices import check_via_use
from services.policy.checks.parts import (
    check_peer,
    check_port,
    check_target,
    networks_of,
    port_name,
)
from services.policy.model import (
    Endpoint,
    EndpointSelector,
    NodeSelector,
    Policy,
    Rule,
    TenantRecord,
    WantedAttachment,
)

MAX_DESCRIPTION: Final = 1024
"""Characters."""
MAX_LABELS: Final = 64
MAX_TARGETS: Final = 256
MAX_RULES: Final = 1024
"""In one direction."""
MAX_PARTS: Final = 4096
"""Peers of one rule, and ports of one rule."""
MAX_SIZE: Final = 400_000
"""Characters of all texts of a policy and 16 for each part; etcd takes 1.5 MiB in one request."""
MAX_NAMED_PORTS: Final = 256
MAX_ADDRESSES: Final = 256
MAX_WANTED: Final = 16
"""Addresses of one endpoint, as in ipam."""
MAX_REFUSAL: Final = 1024

_PART: Final = 16


def check(policy: Policy) -> Iterator[Violation]:
    """Everything that is wrong with a policy on its own; references: `check_references`."""
    if size(policy) > MAX_SIZE:
        yield Violation("", f"the policy is too large: {size(policy)} of {MAX_SIZE} characters")
        return
    yield from policy_name(policy.name, "name")
    if len(policy.description) > MAX_DESCRIPTION:
        yield Violation("description", f"has more than {MAX_DESCRIPTION} characters")
    yield from _labels(policy.labels, "labels")
    yield from _priority(policy)
    yield from _targets(policy)
    if not policy.rules:
        yield Violation("directions", "neither ingress nor egress: it governs nothing")
    nodes_only = all(isinstance(target, NodeSelector) for target in policy.targets)
    for direction, rules in policy.rules.items():
        if len(rules) > MAX_RULES:
            yield Violation(direction, f"has more than {MAX_RULES} rules")
            continue
        for number, rule in enumerate(rules):
            at = f"{direction}[{number}]"
            yield from check_rule(rule, policy.tier, at)
            if nodes_only and policy.targets and direction is Direction.INGRESS:
                for place, port in enumerate(rule.ports):
                    if port.name:
                        yield Violation(f"{at}.ports[{place}].port_name", "nodes have no names")
    yield from check_via_use(policy)


def check_references(
    policy: Policy, networks: Container[NetworkName], at: str = ""
) -> Iterator[Violation]:
    """Networks that the policy names and that do not exist."""
    for path, network in networks_of(policy):
        if network not in networks:
            yield Violation(f"{at}{path}", f"there is no network {network[:80]!r}")


def check_tenant(tenant: TenantRecord) -> Iterator[Violation]:
    yield from subject_name(tenant.name, "name")
    yield from _labels(tenant.labels, "labels")


def check_endpoint(endpoint: Endpoint) -> Iterator[Violation]:
    yield from endpoint_name(endpoint.name, "name")
    yield from subject_name(endpoint.tenant, "tenant")
    yield from subject_name(endpoint.segment, "segment", optional=True)
    yield from _labels(endpoint.labels, "labels")
    if endpoint.node is not None:
        yield from subject_name(endpoint.node, "node")
    if len(endpoint.addresses) > MAX_ADDRESSES:
        yield Violation("addresses", f"has more than {MAX_ADDRESSES} addresses")
    if len(endpoint.ports) > MAX_NAMED_PORTS:
        yield Violation("ports", f"has more than {MAX_NAMED_PORTS} ports")
    seen = set()
    for number, port in enumerate(endpoint.ports):
        at = f"ports[{number}]"
        yield from port_name(port.name, f"{at}.name")
        if not port.protocol.has_ports:
            yield Violation(f"{at}.protocol", f"{port.protocol} has no ports")
        if not 1 <= port.port <= MAX_PORT:
            yield Violation(f"{at}.port", f"{port.port} is not a port: 1 to {MAX_PORT}")
        if (port.name, port.protocol) in seen:
            yield Violation(f"{at}.name", f"there is another {port.protocol} port {port.name!r}")
        seen.add((port.name, port.protocol))
    if endpoint.wanted is not None:
        yield from _check_wanted(endpoint.wanted)


def _check_wanted(wanted: WantedAttachment) -> Iterator[Violation]:
    yield from subject_name(wanted.node, "wanted.node")
    if wanted.allocation:
        yield from endpoint_name(wanted.allocation, "wanted.allocation")
    if len(wanted.addresses) > MAX_WANTED:
        yield Violation("wanted.addresses", f"has more than {MAX_WANTED} addresses")
    if len(wanted.refusal) > MAX_REFUSAL:
        yield Violation("wanted.refusal", f"has more than {MAX_REFUSAL} characters")
    for number, one in enumerate(wanted.addresses):
        at = f"wanted.addresses[{number}]"
        if one.network is not None:
            yield from resource_name(one.network, f"{at}.network")
        if one.address is not None and one.family not in {0, one.address.version}:
            yield Violation(f"{at}.family", f"is not that of {one.address}")


def policy_name(text: str, at: str) -> Iterator[Violation]:
    """Checks a policy's name: one name, or two joined by `/`."""
    parts = text.split("/")
    if len(parts) > 2 or (len(parts) > 1 and not all(parts)):
        yield Violation(at, f"{text[:80]!r} is not a name, nor two joined by '/'")
        return
    for part in parts:
        yield from subject_name(part, at)


def size(policy: Policy) -> int:
    """About how many characters a policy has when it is written."""
    own = len(policy.name) + len(policy.description) + _length(policy.labels)
    selectors = [part for part in policy.targets if isinstance(part, EndpointSelector)]
    count = len(policy.targets)
    for rules in policy.rules.values():
        for rule in rules:
            count += 1 + len(rule.peers) + len(rule.ports)
            for peer in rule.peers:
                if isinstance(peer, EndpointSelector):
                    selectors.append(peer)
                else:
                    count += len(getattr(peer, "exceptions", ()))
    for selector in selectors:
        own += sum(map(len, (*selector.tenants, *selector.segments, *selector.networks)))
        for part in (*selector.labels.requirements, *selector.tenant_labels.requirements):
            own += len(part.key) + sum(map(len, part.values))
            count += 1 + len(part.values)
    origin = len(policy.origin.document) if policy.origin else 0
    return own + origin + _PART * count


def _length(items: Mapping[str, str]) -> int:
    return sum(len(key) + len(value) for key, value in items.items())


def _labels(items: Mapping[str, str], at: str) -> Iterator[Violation]:
    if len(items) > MAX_LABELS:
        yield Violation(at, f"has more than {MAX_LABELS} labels")
    else:
        yield from labels(items, at)


def _priority(policy: Policy) -> Iterator[Violation]:
    if policy.tier is Tier.TENANT and policy.priority:
        yield Violation("priority", "policies of tier TENANT have no order: leave it out")
    elif not 0 <= policy.priority <= MAX_PRIORITY:
        yield Violation("priority", f"{policy.priority} is not between 0 and {MAX_PRIORITY}")


def _targets(policy: Policy) -> Iterator[Violation]:
    if not policy.targets:
        yield Violation("targets", "is missing: a policy applies to something")
    if len(policy.targets) > MAX_TARGETS:
        yield Violation("targets", f"has more than {MAX_TARGETS} targets")
        return
    for number, target in enumerate(policy.targets):
        yield from check_target(target, policy.tier, f"targets[{number}]")


def check_rule(rule: Rule, tier: Tier, at: str) -> Iterator[Violation]:
    """Checks a rule of a policy of that tier."""
    if rule.action is Action.PASS and tier is not Tier.ADMIN:
        yield Violation(f"{at}.action", f"PASS is for tier ADMIN, not {tier.name}")
    if rule.action is Action.DENY and tier is Tier.TENANT:
        yield Violation(
            f"{at}.action",
            "DENY is not for tier TENANT, where what no rule allows is denied: ADMIN or BASELINE",
        )
    for name, parts in (("peers", len(rule.peers)), ("ports", len(rule.ports))):
        if parts > MAX_PARTS:
            yield Violation(f"{at}.{name}", f"has more than {MAX_PARTS} items")
            return
    for number, peer in enumerate(rule.peers):
        yield from check_peer(peer, f"{at}.peers[{number}]")
    for number, port in enumerate(rule.ports):
        yield from check_port(port, rule.peers, f"{at}.ports[{number}]")
