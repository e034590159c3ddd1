"""Reads files with expectations of policies.

    files: [policies.yaml, ../datacenter.yaml]     # beside this one; policies or a topology
    networks: [{name: prod, cidr: 10.0.0.0/16, gateway: 10.0.0.1, isolation: tenant}]
    nodes: [{name: n1, labels: {rack: r1}, addresses: [192.168.0.11]}]
    tenants: [{name: shop, labels: {team: web}}]
    endpoints:
      - {name: front, tenant: shop, segment: web, labels: {app: front}, addresses: [10.0.0.5]}
      - {name: back, tenant: shop, ports: [{name: http, protocol: tcp, port: 8080}]}
    policies: [...]
    expect:
      - {from: front, to: back, protocol: tcp, port: 8080, verdict: allow}
      - {from: [front, 192.0.2.1], to: [back], verdict: deny, policy: shop/back}

`from` and `to` name endpoints, nodes or addresses, one or several: each pair is asked about. An
endpoint without addresses gets one of 100.64.0.0/10, which is on no network. `policy` is what is to
decide, "default" if nothing is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Final

from services.common.document.fields import Fields, Findings
from services.common.document.tree import Scalar, Table, Tree
from services.common.document.values import parse_address, parse_prefix
from services.common.errors import InvalidInput, Violation
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Isolation
from services.common.model.rules import Action, PolicyName, Protocol
from services.policy.checks.policies import check, check_endpoint, check_references, check_tenant
from services.policy.forms.documents import read_document, read_texts
from services.policy.forms.own import (
    ISOLATIONS,
    PROTOCOLS,
    read_addresses,
    read_endpoint,
    read_policy,
    read_tenant,
    word,
)
from services.policy.model import Endpoint, Policy, PolicyNetwork, PolicyNode, TenantRecord

FIRST_ADDRESS: Final = IPv4Address("100.64.0.1")
VERDICTS: Final = {"allow": Action.ALLOW, "deny": Action.DENY}
_OTHER_NETWORK_FIELDS: Final = (
    "block_length",
    "mode",
    "mtu",
    "placement",
    "reuse_delay",
    "tenants",
    "vlan",
    "vlan_id",
)
"""Of topology files."""

Load = Callable[[str], bytes]
"""Gives a file that another names; raises InvalidInput."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is to become of some connections."""

    at: str
    line: int
    sources: tuple[str, ...]
    destinations: tuple[str, ...]
    action: Action
    protocol: Protocol | None = None
    port: int = 0
    icmp_type: int | None = None
    icmp_code: int | None = None
    policy: str = ""
    """Empty: whatever decides."""


@dataclass(slots=True)
class Trial:
    """What a file says, with the files that it names."""

    networks: list[PolicyNetwork] = field(default_factory=list)
    nodes: list[PolicyNode] = field(default_factory=list)
    tenants: list[TenantRecord] = field(default_factory=list)
    endpoints: list[Endpoint] = field(default_factory=list)
    policies: list[Policy] = field(default_factory=list)
    expectations: list[Expectation] = field(default_factory=list)


def read_trial(content: bytes, load: Load, *, source: str = "") -> Trial:
    """Reads a file with expectations.

    Raises:
        InvalidInput: with everything that is wrong with it, or with a file that it names.
    """
    trial = Trial()
    (tree, *more) = read_texts(content, source)
    findings = Findings(source=source)
    if more:
        raise InvalidInput.at("", "there is more than one document")
    fields = Fields(tree, "", findings)
    trial.networks += _networks(fields, findings)
    documents = []
    for name in fields.texts("files"):
        text = load(name)
        (first, *_) = read_texts(text, name)
        if _is_topology(first):
            trial.networks += _topology(first, name)
        else:
            documents.append((name, text))
    for name, text in documents:
        document = read_document(text, source=name, networks=trial.networks)
        missing = document.references({network.name for network in trial.networks})
        if missing:
            raise InvalidInput.of(missing)
        trial.policies += document.policies
        trial.tenants += document.tenants
    problems = list(_own(fields, trial, findings))
    fields.end()
    if findings.problems or problems:
        raise InvalidInput.of(findings.located([*findings.problems, *problems]))
    _place(trial)
    return trial


def _own(fields: Fields, trial: Trial, findings: Findings) -> Iterator[Violation]:
    """Reads what the file says itself; yields what is wrong with its meaning."""
    networks = {network.name for network in trial.networks}
    for item, at in fields.each("policies"):
        policy = read_policy(item, at, findings)
        trial.policies.append(policy.value)
        if not findings.problems:
            yield from policy.located(check(policy.value))
            yield from policy.located(check_references(policy.value, networks))
    for item, at in fields.each("tenants"):
        tenant = read_tenant(item, at, findings)
        trial.tenants.append(tenant.value)
        yield from tenant.located(check_tenant(tenant.value))
    for item, at in fields.each("endpoints"):
        endpoint = read_endpoint(item, at, findings)
        trial.endpoints.append(endpoint.value)
        yield from endpoint.located(check_endpoint(endpoint.value))
    for item, at in fields.each("nodes"):
        node = Fields(item, at, findings)
        trial.nodes.append(
            PolicyNode(
                NodeName(node.text("name")),
                node.mapping("labels"),
                read_addresses(node, "addresses", findings),
            )
        )
        node.end()
    for item, at in fields.each("expect"):
        trial.expectations.append(_expectation(item, at, findings))
    if not trial.expectations:
        yield Violation("expect", "there is no expectation")
    named: tuple[tuple[str, list[str]], ...] = (
        ("policies", [str(one.name) for one in trial.policies]),
        ("tenants", [str(one.name) for one in trial.tenants]),
        ("endpoints", [str(one.name) for one in trial.endpoints]),
        ("networks", [str(one.name) for one in trial.networks]),
    )
    for noun, names in named:
        for name in sorted(name for name, times in Counter(names).items() if times > 1):
            yield Violation(noun, f"{name[:80]!r} is there twice, here or in a file that is named")


def _is_topology(tree: Tree) -> bool:
    return isinstance(tree, Table) and "topologies" in tree.items


def _topology(tree: Tree, source: str) -> list[PolicyNetwork]:
    findings = Findings(source=source)
    found = _networks(Fields(tree, "", findings), findings)
    if findings.problems:
        raise InvalidInput.of(findings.located(findings.problems))
    return found


def _networks(fields: Fields, findings: Findings) -> list[PolicyNetwork]:
    found = []
    for item, at in fields.each("networks"):
        network = Fields(item, at, findings)
        cidr = parse_prefix(network.text("cidr"), network.path("cidr"), findings.problems)
        gateway = network.text("gateway")
        at_gateway = network.path("gateway")
        isolation = word(network, "isolation", ISOLATIONS, findings, Isolation.NONE)
        masquerade = network.text("masquerade") == "true"
        name = NetworkName(network.text("name"))
        network.ignore(*_OTHER_NETWORK_FIELDS)
        network.end()
        if cidr is not None:
            found.append(
                PolicyNetwork(
                    name,
                    cidr,
                    isolation,
                    masquerade,
                    parse_address(gateway, at_gateway, findings.problems) if gateway else None,
                )
            )
    return found


def _expectation(tree: Tree, at: str, findings: Findings) -> Expectation:
    fields = Fields(tree, at, findings)
    verdict = word(fields, "verdict", VERDICTS, findings, None)
    if not fields.has("verdict"):
        findings.wrong(fields.path("verdict"), "is missing")
    protocol = word(fields, "protocol", {"any": None, **PROTOCOLS}, findings, None)
    made = Expectation(
        at=at,
        line=findings.lines.get(at, 0),
        sources=_names(fields, "from", findings),
        destinations=_names(fields, "to", findings),
        action=verdict or Action.DENY,
        protocol=protocol,
        port=fields.number("port") or 0,
        icmp_type=fields.number("icmp_type"),
        icmp_code=fields.number("icmp_code"),
        policy=PolicyName(fields.text("policy")),
    )
    fields.end()
    return made


def _names(fields: Fields, name: str, findings: Findings) -> tuple[str, ...]:
    child = fields.child(name)
    found = (child.text,) if isinstance(child, Scalar) else fields.texts(name)
    if not found:
        findings.wrong(fields.path(name), "is missing")
    return found


def _place(trial: Trial) -> None:
    """Gives an address to endpoints that have none."""
    free = int(FIRST_ADDRESS)
    placed: list[Endpoint] = []
    for endpoint in trial.endpoints:
        if endpoint.addresses:
            placed.append(endpoint)
        else:
            placed.append(replace(endpoint, addresses=(IPv4Address(free),)))
            free += 1
    trial.endpoints = placed
