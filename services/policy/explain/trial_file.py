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
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Final

from services.common.document import models
from services.common.document.fields import Fields, Findings
from services.common.document.tree import Scalar, Table, Tree
from services.common.errors import InvalidInput, Violation
from services.common.model.rules import Action, Protocol
from services.policy.checks.policies import check, check_endpoint, check_references, check_tenant
from services.policy.forms.documents import read_document, read_texts
from services.policy.forms.own import read_endpoint, read_policy, read_tenant
from services.policy.model import Endpoint, Policy, PolicyNetwork, PolicyNode, TenantRecord

FIRST_ADDRESS: Final = IPv4Address("100.64.0.1")
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


class Verdict(StrEnum):
    """What becomes of a connection."""

    ALLOW = Action.ALLOW
    DENY = Action.DENY


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
    trial.networks += _networks(fields)
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
    trial.nodes += [models.read(PolicyNode, part) for part in fields.parts("nodes")]
    trial.expectations += map(_expectation, fields.parts("expect"))
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
    found = _networks(Fields(tree, "", findings))
    if findings.problems:
        raise InvalidInput.of(findings.located(findings.problems))
    return found


def _networks(fields: Fields) -> list[PolicyNetwork]:
    found = []
    for part in fields.parts("networks"):
        part.ignore(*_OTHER_NETWORK_FIELDS)
        found.append(models.read(PolicyNetwork, part))
    return [one for one in found if one.cidr]


def _expectation(fields: Fields) -> Expectation:
    verdict = models.choice(fields, "verdict", Verdict, Verdict.DENY)
    if not fields.has("verdict"):
        fields.wrong("verdict", "is missing")
    is_any = fields.text("protocol").lower() == "any"
    return models.read(
        Expectation,
        fields,
        at=fields.at,
        line=fields.findings.lines.get(fields.at, 0),
        sources=_names(fields, "from"),
        destinations=_names(fields, "to"),
        action=Action(verdict),
        protocol=None if is_any else models.choice(fields, "protocol", Protocol, None),
    )


def _names(fields: Fields, name: str) -> tuple[str, ...]:
    child = fields.child(name)
    found = (child.text,) if isinstance(child, Scalar) else fields.texts(name)
    if not found:
        fields.wrong(name, "is missing")
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
