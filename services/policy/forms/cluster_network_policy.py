"""Reads `spec` of ClusterNetworkPolicy, of policy.networking.k8s.io/v1alpha2.

    tier: Admin                        # or Baseline
    priority: 10                       # 0 to 1000, lower first
    subject: {namespaces: {}}          # or pods: {namespaceSelector, podSelector}
    ingress:
      - action: Accept                 # or Deny, Pass
        from: [{namespaces: {...}}, {pods: {...}}]
        protocols: [{tcp: {destinationPort: {number: 80}}}]
    egress:
      - action: Deny
        to: [{networks: [10.0.0.0/8]}, {nodes: {...}}]

Admin is our ADMIN, Baseline our BASELINE. After Baseline comes nothing, so Pass in it is Accept.

**Rules fail closed**, as the API demands: a rule of which a part is not understood, such as a peer
of a kind that came later, matches nothing if it accepts, and else denies everything. It does not
take the policy with it, which would let in what the other rules deny; what was not understood is
among the warnings. Where the policy applies has to be understood: otherwise it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from services.common.document.fields import Fields, Findings
from services.common.document.tree import Tree
from services.common.document.values import parse_prefix
from services.common.errors import Violation
from services.common.model.rules import Action, CidrBlock, Direction, PortMatch, Protocol, Tier
from services.policy.checks.policies import check_rule
from services.policy.forms.device_annotations import DeviceAnnotations
from services.policy.forms.reading import KUBERNETES, Read, label_selector
from services.policy.model import (
    Anything,
    EndpointSelector,
    LabelSelector,
    NodeSelector,
    Peer,
    Rule,
)

_TIERS: Final = {"Admin": Tier.ADMIN, "Baseline": Tier.BASELINE}
_ACTIONS: Final = {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}
_SIDES: Final = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_SUBJECTS: Final = ("namespaces", "pods")
_PEERS: Final = {
    Direction.INGRESS: _SUBJECTS,
    Direction.EGRESS: (*_SUBJECTS, "nodes", "networks"),
}
_PROTOCOLS: Final = {"tcp": Protocol.TCP, "udp": Protocol.UDP, "sctp": Protocol.SCTP}
_MATCHES: Final = (*_PROTOCOLS, "destinationNamedPort")


@dataclass(slots=True)
class Spec:
    """What was read."""

    tier: Tier
    priority: int
    target: EndpointSelector
    places: dict[str, str]
    """The document's paths of the API's."""
    rules: dict[Direction, tuple[Rule, ...]] = field(default_factory=dict)
    warnings: list[Violation] = field(default_factory=list)
    """What was not understood of rules, by the document's paths."""


def read_spec(
    fields: Fields, findings: Findings, places: dict[str, str], devices: DeviceAnnotations
) -> Spec:
    """Reads it; what is wrong beside the rules is added to `findings`."""
    tier, priority = fields.text("tier"), fields.number("priority")
    if tier not in _TIERS:
        findings.wrong(fields.path("tier"), f"{tier[:80]!r} is not one of {', '.join(_TIERS)}")
    if priority is None:
        findings.wrong(fields.path("priority"), "is missing")
    subject = fields.part("subject")
    kind = _one(subject, _SUBJECTS, findings)
    spec = Spec(
        tier=_TIERS.get(tier, Tier.ADMIN),
        priority=priority or 0,
        target=_Selectors(findings, places).pods(subject, kind, "targets[0].endpoints"),
        places=places,
    )
    subject.end()
    for direction in Direction:
        rules = tuple(_rules(fields, direction, spec, findings, devices))
        if fields.has(direction):
            spec.rules[direction] = rules
    spec.warnings += devices.problems
    if not spec.rules:
        spec.rules[Direction.INGRESS] = ()  # without effect, as it is meant
    fields.end()
    return spec


def accepting(fields: Fields) -> set[str]:
    """Names of a spec's rules with Accept."""
    items = [item for direction in Direction for item in fields.each(direction)]
    rules = [Fields(item, place, Findings()) for item, place in items]
    return {one.text("name") for one in rules if one.text("action") == "Accept"}


def _rules(
    parent: Fields,
    direction: Direction,
    spec: Spec,
    findings: Findings,
    devices: DeviceAnnotations,
) -> Iterator[Rule]:
    number = 0
    for item, at in parent.each(direction):
        api = f"{direction}[{number}]"
        # what is wrong with a rule is the rule's
        own, places = Findings(lines=findings.lines), {api: at}
        fields = Fields(item, at, own)
        word, name = fields.text("action"), fields.text("name")
        rule = _RuleReader(fields, direction, own, places, api).rule(spec.tier, word)
        fields.end()
        problems = [
            *own.problems,
            *Read(rule, parent.at, places).located(check_rule(rule, spec.tier, api)),
        ]
        if problems:
            counts = "matches nothing" if word == "Accept" else "denies everything"
            spec.warnings += [
                Violation(one.path, f"{one.message}: the rule {counts}") for one in problems
            ]
            if word == "Accept":
                continue
            rule = Rule(Action.DENY)
        if word == "Accept":
            if devices.problems:
                continue
            refusals = devices.refusals(name, at)
            spec.warnings += refusals
            if refusals:
                continue
            rule = devices.concern(rule, name)
            places |= devices.places(api)
        spec.places.update(places)
        number += 1
        yield rule


class _Selectors:
    def __init__(self, findings: Findings, places: dict[str, str]) -> None:
        self._findings = findings
        self._places = places

    def pods(self, fields: Fields, kind: str, api: str) -> EndpointSelector:
        """Those of namespaces, or of a selector of pods in namespaces."""
        if kind == "namespaces":
            return EndpointSelector(tenant_labels=self.labels(fields, kind, f"{api}.tenant_labels"))
        inner = fields.part(kind)
        if kind and not inner.has("podSelector"):
            self._findings.wrong(inner.path("podSelector"), "is missing")
        selector = EndpointSelector(
            labels=self.labels(inner, "podSelector", f"{api}.labels"),
            tenant_labels=self.labels(inner, "namespaceSelector", f"{api}.tenant_labels"),
        )
        inner.end()
        return selector

    def labels(self, fields: Fields, name: str, api: str) -> LabelSelector:
        """A selector of labels; `api`: its field path in the API."""
        return label_selector(
            fields.child(name),
            fields.path(name),
            self._findings,
            KUBERNETES,
            api=api,
            places=self._places,
        )


class _RuleReader:
    def __init__(
        self,
        fields: Fields,
        direction: Direction,
        findings: Findings,
        places: dict[str, str],
        api: str,
    ) -> None:
        self._fields = fields
        self._direction = direction
        self._findings = findings
        self._places = places
        self._api = api

    def rule(self, tier: Tier, word: str) -> Rule:
        """The rule; `word`: its action."""
        fields = self._fields
        if word not in _ACTIONS:
            self._findings.wrong(
                fields.path("action"), f"{word[:80]!r} is not one of {', '.join(_ACTIONS)}"
            )
        action = _ACTIONS.get(word, Action.DENY)
        if action is Action.PASS and tier is Tier.BASELINE:
            action = Action.ALLOW
        side = _SIDES[self._direction]
        peers: list[Peer] = []
        for item, at in fields.each(side):
            peers += self._peers(item, at, len(peers))
        if not peers:
            self._findings.wrong(fields.path(side), "is missing")
        ports: list[PortMatch] = []
        for item, at in fields.each("protocols"):
            ports += self._ports(item, at, len(ports))
        if fields.has("protocols") and not ports:
            self._findings.wrong(fields.path("protocols"), "is empty")
        return Rule(action, tuple(peers) or (Anything(),), tuple(ports) or (PortMatch(),))

    def _peers(self, tree: Tree, at: str, number: int) -> Iterator[Peer]:
        fields = Fields(tree, at, self._findings)
        kind = _one(fields, _PEERS[self._direction], self._findings)
        api = f"{self._api}.peers[{number}]"
        self._places[api] = at
        selectors = _Selectors(self._findings, self._places)
        if kind == "networks":
            for n, text in enumerate(fields.texts(kind)):
                place = f"{fields.path(kind)}[{n}]"
                prefix = parse_prefix(text, place, self._findings.problems)
                if prefix is not None:
                    yield CidrBlock(prefix)
        elif kind == "nodes":
            yield NodeSelector(labels=selectors.labels(fields, kind, f"{api}.nodes.labels"))
        elif kind:
            yield selectors.pods(fields, kind, f"{api}.endpoints")
        fields.end()

    def _ports(self, tree: Tree, at: str, number: int) -> Iterator[PortMatch]:
        fields = Fields(tree, at, self._findings)
        kind = _one(fields, _MATCHES, self._findings)
        api = f"{self._api}.ports[{number}]"
        self._places[api] = fields.path(kind)
        if kind == "destinationNamedPort":
            name = fields.text(kind)
            if not name:  # without a name every port would be meant
                self._findings.wrong(fields.path(kind), "is empty")
            for protocol in _PROTOCOLS.values():
                yield PortMatch(protocol, name=name)
        elif kind:
            match = fields.part(kind)
            port = match.part("destinationPort")
            yield self._port(port, _PROTOCOLS[kind], api)
            port.end()
            match.end()
        fields.end()

    def _port(self, fields: Fields, protocol: Protocol, api: str) -> PortMatch:
        if _one(fields, ("number", "range"), self._findings) != "range":
            self._places[f"{api}.port"] = fields.path("number")
            number = self._number(fields, "number")
            return PortMatch(protocol, number, number)
        ends = fields.part("range")
        self._places[f"{api}.port"] = ends.path("start")
        self._places[f"{api}.end_port"] = ends.path("end")
        match = PortMatch(protocol, self._number(ends, "start"), self._number(ends, "end"))
        ends.end()
        return match

    def _number(self, fields: Fields, name: str) -> int:
        number = fields.number(name)
        if not number:
            self._findings.wrong(fields.path(name), "is not a port: 1 to 65535")
        return number or 1


def _one(fields: Fields, kinds: tuple[str, ...], findings: Findings) -> str:
    """The one kind that is given; empty, and said, if it is not one."""
    given = [kind for kind in kinds if fields.has(kind)]
    if len(given) == 1:
        return given[0]
    findings.wrong(fields.at, f"exactly one of {', '.join(kinds)} is needed")
    return ""
