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

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from services.common.document import models
from services.common.document.fields import Fields, Findings
from services.common.document.tree import Tree
from services.common.document.values import parse_address
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Address
from services.common.model.rules import Direction, Mode, PortMatch, Protocol, Tier
from services.policy.forms.reading import OWN, Read, block, label_selector
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

_OUTPUT: Final = ("origin", "etag", "create_time", "update_time")
_FAMILIES: Final = {"": 0, "family_unspecified": 0, "family_ipv4": 4, "family_ipv6": 6}
_TARGETS: Final = ("endpoints", "nodes")
_PORT_FIELDS: Final = ("end_port", "port_name", "icmp_type", "icmp_code")
_PEERS: Final = ("endpoints", "cidr", "nodes", "network", "any")


def read_policy(tree: Tree, at: str, findings: Findings) -> Read[Policy]:
    """Reads a policy; what is wrong with its shape is added to `findings`."""
    fields, reader = Fields(tree, at, findings), _Reader()
    models.ignore_output(fields, *_OUTPUT)
    policy = models.read(
        Policy,
        fields,
        instead={"tier": Tier.TENANT, "mode": Mode.ENFORCE},
        targets=tuple(
            reader.target(part, f"targets[{n}]") for n, part in enumerate(fields.parts("targets"))
        ),
        rules=reader.rules(fields),
        origin=None,
    )
    return Read(policy, at, reader.places)


def read_tenant(tree: Tree, at: str, findings: Findings) -> Read[TenantRecord]:
    fields = Fields(tree, at, findings)
    models.ignore_output(fields, *_OUTPUT)
    return Read(models.read(TenantRecord, fields), at)


def read_endpoint(tree: Tree, at: str, findings: Findings) -> Read[Endpoint]:
    fields = Fields(tree, at, findings)
    models.ignore_output(fields, *_OUTPUT)
    endpoint = models.read(
        Endpoint,
        fields,
        ports=tuple(
            models.read(NamedPort, part, instead={"protocol": Protocol.TCP})
            for part in fields.parts("ports")
        ),
        node=NodeName(fields.text("node")) or None,
        addresses=tuple(dict.fromkeys(_addresses(fields))),
        wanted=_wanted(fields.part("wanted")) if fields.has("wanted") else None,
    )
    return Read(endpoint, at)


def _addresses(fields: Fields) -> Iterator[Address]:
    """Without those that are wrong."""
    for number, text in enumerate(fields.texts("addresses")):
        at = f"{fields.path('addresses')}[{number}]"
        address = parse_address(text, at, fields.findings.problems)
        if address is not None:
            yield address


def _wanted(fields: Fields) -> WantedAttachment:
    return models.read(
        WantedAttachment,
        fields,
        spelled={"is_ending": "ending", "is_gone": "gone"},
        addresses=tuple(_wanted_address(part) for part in fields.parts("addresses")),
    )


def _wanted_address(fields: Fields) -> WantedAddress:
    word = fields.text("family")
    if word.lower() not in _FAMILIES:
        fields.wrong("family", f"{word[:80]!r} is not one of FAMILY_IPV4, FAMILY_IPV6")
    wanted = models.read(WantedAddress, fields, family=_FAMILIES.get(word.lower(), 0))
    return wanted if wanted.network else replace(wanted, network=None)


class _Reader:
    def __init__(self) -> None:
        self.places: dict[str, str] = {}
        """Of conditions on labels."""

    def rules(self, fields: Fields) -> dict[Direction, tuple[Rule, ...]]:
        """The rules, by the directions that the policy governs."""
        named = {
            models.chosen(
                text, f"{fields.path('directions')}[{n}]", Direction, None, fields.findings
            )
            for n, text in enumerate(fields.texts("directions"))
        }
        found = {
            direction: tuple(
                self._rule(part, f"{direction}[{n}]")
                for n, part in enumerate(fields.parts(direction))
            )
            for direction in Direction
        }
        if not named:
            named = {one for one in Direction if found[one] or one is Direction.INGRESS}
        for direction, rules in found.items():
            if rules and direction not in named:
                fields.wrong(direction, f"has rules, but directions leave {direction} out")
        return {direction: rules for direction, rules in found.items() if direction in named}

    def target(self, fields: Fields, api: str) -> Target:
        """Where a policy applies; `api`: its field path in the API, below the policy."""
        kind = _one(fields, _TARGETS)
        target = (
            self._nodes(fields.part(kind), f"{api}.nodes")
            if kind == "nodes"
            else self._endpoints(fields.part(kind), f"{api}.endpoints")
        )
        fields.end()
        return target

    def _rule(self, fields: Fields, api: str) -> Rule:
        peers = [
            self._peer(part, f"{api}.peers[{n}]") for n, part in enumerate(fields.parts("peers"))
        ]
        ports = [_port(part) for part in fields.parts("ports")]
        return models.read(
            Rule, fields, peers=tuple(peers) or (Anything(),), ports=tuple(ports) or (PortMatch(),)
        )

    def _peer(self, fields: Fields, api: str) -> Peer:
        kind = _one(fields, _PEERS)
        peer: Peer = Anything()
        match kind:
            case "endpoints":
                peer = self._endpoints(fields.part(kind), f"{api}.endpoints")
            case "nodes":
                peer = self._nodes(fields.part(kind), f"{api}.nodes")
            case "network":
                peer = NetworkPeer(NetworkName(fields.text(kind)))
            case "cidr":
                peer = block(fields.part(kind)) or peer
            case "any":
                fields.part(kind).end()
        fields.end()
        return peer

    def _endpoints(self, fields: Fields, api: str) -> EndpointSelector:
        return models.read(
            EndpointSelector,
            fields,
            labels=self._labels(fields, "labels", api),
            tenant_labels=self._labels(fields, "tenant_labels", api),
        )

    def _nodes(self, fields: Fields, api: str) -> NodeSelector:
        return models.read(NodeSelector, fields, labels=self._labels(fields, "labels", api))

    def _labels(self, fields: Fields, name: str, api: str) -> LabelSelector:
        written = fields.spelled(name, models.camel(name))
        return label_selector(
            fields.child(written),
            fields.path(written),
            fields.findings,
            OWN,
            api=f"{api}.{name}",
            places=self.places,
        )


def _one(fields: Fields, kinds: tuple[str, ...]) -> str:
    """The one kind that is given; what stands for it is said if it is not one."""
    given = [kind for kind in kinds if fields.has(kind)]
    if len(given) != 1:
        fields.findings.wrong(fields.at, f"exactly one of {', '.join(kinds)} is needed")
    return given[0] if given else ""


def _port(fields: Fields) -> PortMatch:
    is_any = fields.text("protocol").lower() == "any"
    names = {name: fields.spelled(name, models.camel(name)) for name in _PORT_FIELDS}
    first = fields.number("port") or 0
    port = PortMatch(
        protocol=None if is_any else models.choice(fields, "protocol", Protocol, None),
        first=first,
        last=fields.number(names["end_port"]) or first,
        name=fields.text(names["port_name"]),
        icmp_type=fields.number(names["icmp_type"]),
        icmp_code=fields.number(names["icmp_code"]),
    )
    fields.end()
    return port
