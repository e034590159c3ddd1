"""Reads our own form of policies, tenants and endpoints: the API's messages, as YAML or JSON.

The API itself reads requests by this, as trees of messages: it is the one reader.

    tenants:
      - {name: shop, labels: {team: web}, isolation: tenant}
    policies:
      - name: shop/front
        targets: [{endpoints: {tenants: [shop], segments: [front]}}]
        ingress:
          - peers: [{cidr: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
            ports: [{protocol: tcp, port: 443}]

Words of enums are read in any case and with the API's prefixes, so that what `-o yaml` prints can
be applied as it is; output-only fields are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeVar

from services.common.document.fields import Fields, Findings
from services.common.document.tree import Tree
from services.common.document.values import parse_address
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Isolation
from services.common.model.rules import (
    Action,
    CidrBlock,
    Direction,
    Mode,
    PolicyName,
    PortMatch,
    Protocol,
    Tier,
)
from services.policy.forms.reading import OWN, Read, label_selector, prefix, prefixes
from services.policy.model import (
    Anything,
    Endpoint,
    EndpointSelector,
    LabelSelector,
    NamedPort,
    NetworkPeer,
    NodeSelector,
    Peer,
    Policy,
    Rule,
    Target,
    TenantRecord,
    WantedAddress,
    WantedAttachment,
)

T = TypeVar("T")

TIERS: Final = {tier.name.lower(): tier for tier in Tier}
MODES: Final = {mode.value: mode for mode in Mode}
ACTIONS: Final = {action.value: action for action in Action}
DIRECTIONS: Final = {direction.value: direction for direction in Direction}
PROTOCOLS: Final = {protocol.value: protocol for protocol in Protocol}
FAMILIES: Final = {"ipv4": 4, "ipv6": 6}
ISOLATIONS: Final = {isolation.value: isolation for isolation in Isolation}
_PREFIXES: Final = (
    "policy_tier_",
    "policy_mode_",
    "policy_direction_",
    "rule_action_",
    "protocol_",
    "isolation_",
    "family_",
)
_TARGETS: Final = ("endpoints", "nodes")
_PEERS: Final = ("endpoints", "cidr", "nodes", "network", "any")


def read_policy(tree: Tree, at: str, findings: Findings) -> Read[Policy]:
    """Reads a policy; what is wrong with its shape is added to `findings`."""
    places: dict[str, str] = {}
    reader = _Reader(findings, at, places)
    fields = Fields(tree, at, findings)
    policy = Policy(
        name=PolicyName(fields.text("name")),
        description=fields.text("description"),
        tier=word(fields, "tier", TIERS, findings, Tier.TENANT),
        priority=fields.number("priority") or 0,
        mode=word(fields, "mode", MODES, findings, Mode.ENFORCE),
        labels=fields.mapping("labels"),
        targets=tuple(
            reader.target(item, f"targets[{n}]")
            for n, (item, _) in enumerate(fields.each("targets"))
        ),
        rules=reader.rules(fields),
    )
    fields.ignore("origin", "etag", "create_time", "update_time")
    fields.end()
    return Read(policy, at, places)


def read_tenant(tree: Tree, at: str, findings: Findings) -> Read[TenantRecord]:
    """Reads a tenant."""
    fields = Fields(tree, at, findings)
    tenant = TenantRecord(
        name=Tenant(fields.text("name")),
        labels=fields.mapping("labels"),
        isolation=word(fields, "isolation", ISOLATIONS, findings, None),
    )
    fields.ignore("etag")
    fields.end()
    return Read(tenant, at)


def read_endpoint(tree: Tree, at: str, findings: Findings) -> Read[Endpoint]:
    """Reads an endpoint."""
    fields = Fields(tree, at, findings)
    node = fields.text("node")
    endpoint = Endpoint(
        name=EndpointName(fields.text("name")),
        tenant=Tenant(fields.text("tenant")),
        segment=Segment(fields.text("segment")),
        labels=fields.mapping("labels"),
        ports=tuple(_named_port(item, place, findings) for item, place in fields.each("ports")),
        node=NodeName(node) if node else None,
        addresses=tuple(dict.fromkeys(read_addresses(fields, "addresses", findings))),
        wanted=_wanted(fields, findings),
        instance=fields.text("instance"),
        labels_follow=fields.truth("labels_follow"),
    )
    fields.ignore("etag")
    fields.end()
    return Read(endpoint, at)


def _wanted(parent: Fields, findings: Findings) -> WantedAttachment | None:
    tree = parent.child("wanted")
    if tree is None:
        return None
    fields = Fields(tree, parent.path("wanted"), findings)
    wanted = WantedAttachment(
        node=NodeName(fields.text("node")),
        addresses=tuple(
            _wanted_address(item, at, findings) for item, at in fields.each("addresses")
        ),
        allocation=fields.text("allocation"),
        is_ending=fields.truth("ending"),
        refusal=fields.text("refusal"),
        is_gone=fields.truth("gone"),
    )
    fields.end()
    return wanted


def _wanted_address(tree: Tree, at: str, findings: Findings) -> WantedAddress:
    fields = Fields(tree, at, findings)
    network, address = fields.text("network"), fields.text("address")
    wanted = WantedAddress(
        network=NetworkName(network) if network else None,
        family=word(fields, "family", FAMILIES, findings, 0),
        address=parse_address(address, fields.path("address"), findings.problems)
        if address
        else None,
    )
    fields.end()
    return wanted


def read_addresses(
    fields: Fields, name: str, findings: Findings
) -> tuple[IPv4Address | IPv6Address, ...]:
    """Reads a list of addresses, without those that are wrong."""
    found = []
    for number, text in enumerate(fields.texts(name)):
        address = parse_address(text, f"{fields.path(name)}[{number}]", findings.problems)
        if address is not None:
            found.append(address)
    return tuple(found)


def word(
    fields: Fields, name: str, words: Mapping[str, T], findings: Findings, default: T | None
) -> T:
    """Reads one of a few words; nothing and the API's "unspecified" are the default."""
    return spoken(fields.text(name), fields.path(name), words, findings, default)


def spoken(text: str, at: str, words: Mapping[str, T], findings: Findings, default: T | None) -> T:
    """One of a few words."""
    found = text.lower()
    for known in _PREFIXES:
        found = found.removeprefix(known)
    if found in words:
        return words[found]
    if found not in {"", "unspecified"}:
        findings.wrong(at, f"{text[:80]!r} is not one of {', '.join(words)}")
    return default  # type: ignore[return-value]  # None only where T allows it


class _Reader:
    """Reads the parts of one policy."""

    def __init__(self, findings: Findings, at: str, places: dict[str, str]) -> None:
        self._findings = findings
        self._at = at
        self._places = places

    def rules(self, fields: Fields) -> dict[Direction, tuple[Rule, ...]]:
        """The rules, by the directions that the policy governs."""
        asked = {
            spoken(text, f"{fields.path('directions')}[{n}]", DIRECTIONS, self._findings, None)
            for n, text in enumerate(fields.texts("directions"))
        }
        found = {
            direction: tuple(
                self._rule(item, f"{direction}[{number}]")
                for number, (item, _) in enumerate(fields.each(direction))
            )
            for direction in Direction
        }
        if not asked:
            return {
                direction: rules
                for direction, rules in found.items()
                if rules or direction is Direction.INGRESS
            }
        for direction, rules in found.items():
            if rules and direction not in asked:
                self._findings.wrong(
                    fields.path(direction), f"has rules, but directions leave {direction} out"
                )
        return {direction: rules for direction, rules in found.items() if direction in asked}

    def target(self, tree: Tree, api: str) -> Target:
        fields = Fields(tree, self._path(api), self._findings)
        kind = self._one(fields, _TARGETS)
        child = fields.child(kind)
        fields.end()
        if kind == "nodes":
            return self._nodes(child, f"{api}.nodes")
        return self._endpoints(child, f"{api}.endpoints")

    def _rule(self, tree: Tree, api: str) -> Rule:
        fields = Fields(tree, self._path(api), self._findings)
        rule = Rule(
            action=word(fields, "action", ACTIONS, self._findings, Action.ALLOW),
            peers=tuple(
                self._peer(item, f"{api}.peers[{number}]")
                for number, (item, _) in enumerate(fields.each("peers"))
            )
            or (Anything(),),
            ports=tuple(self._port(item, at) for item, at in fields.each("ports"))
            or (PortMatch(),),
        )
        fields.end()
        return rule

    def _peer(self, tree: Tree, api: str) -> Peer:
        fields = Fields(tree, self._path(api), self._findings)
        kind = self._one(fields, _PEERS)
        child = fields.child(kind)
        peer: Peer = Anything()
        if kind == "endpoints":
            peer = self._endpoints(child, f"{api}.endpoints")
        elif kind == "nodes":
            peer = self._nodes(child, f"{api}.nodes")
        elif kind == "network":
            peer = NetworkPeer(NetworkName(fields.text("network")))
        elif kind == "cidr" and child is not None:
            inner = Fields(child, fields.path("cidr"), self._findings)
            cidr = prefix(inner, "cidr", self._findings)
            exceptions = prefixes(inner, "except", self._findings)
            inner.end()
            peer = peer if cidr is None else CidrBlock(cidr, exceptions)
        elif kind == "any" and child is not None:
            Fields(child, fields.path("any"), self._findings).end()
        fields.end()
        return peer

    def _one(self, fields: Fields, kinds: tuple[str, ...]) -> str:
        """The one kind that is given; what stands for it is said if it is not one."""
        given = [kind for kind in kinds if fields.has(kind)]
        if len(given) != 1:
            self._findings.wrong(fields.at, f"exactly one of {', '.join(kinds)} is needed")
        return given[0] if given else ""

    def _endpoints(self, tree: Tree | None, api: str) -> EndpointSelector:
        if tree is None:
            return EndpointSelector()
        fields = Fields(tree, self._path(api), self._findings)
        selector = EndpointSelector(
            tenants=tuple(map(Tenant, fields.texts("tenants"))),
            segments=tuple(map(Segment, fields.texts("segments"))),
            networks=tuple(map(NetworkName, fields.texts("networks"))),
            labels=self._labels(fields, "labels", api),
            tenant_labels=self._labels(fields, "tenant_labels", api),
        )
        fields.end()
        return selector

    def _nodes(self, tree: Tree | None, api: str) -> NodeSelector:
        if tree is None:
            return NodeSelector()
        fields = Fields(tree, self._path(api), self._findings)
        selector = NodeSelector(
            names=tuple(map(NodeName, fields.texts("names"))),
            labels=self._labels(fields, "labels", api),
        )
        fields.end()
        return selector

    def _labels(self, fields: Fields, name: str, api: str) -> LabelSelector:
        return label_selector(
            fields.child(name),
            fields.path(name),
            self._findings,
            OWN,
            api=f"{api}.{name}",
            places=self._places,
        )

    def _port(self, tree: Tree, at: str) -> PortMatch:
        fields = Fields(tree, at, self._findings)
        first = fields.number("port") or 0
        last = fields.number("end_port") or 0
        protocol = word(fields, "protocol", {"any": None, **PROTOCOLS}, self._findings, None)
        port = PortMatch(
            protocol=protocol,
            first=first,
            last=last or first,
            name=fields.text("port_name"),
            icmp_type=fields.number("icmp_type"),
            icmp_code=fields.number("icmp_code"),
        )
        fields.end()
        return port

    def _path(self, api: str) -> str:
        return f"{self._at}.{api}" if self._at else api


def _named_port(tree: Tree, at: str, findings: Findings) -> NamedPort:
    fields = Fields(tree, at, findings)
    port = NamedPort(
        name=fields.text("name"),
        protocol=word(fields, "protocol", PROTOCOLS, findings, Protocol.TCP),
        port=fields.number("port") or 0,
    )
    fields.end()
    return port
