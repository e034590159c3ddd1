"""Reads the policies of the earlier Romana: JSON, in its first and its second form.

    {"securitypolicies": [{"name", "description", "direction": "ingress",
      "applied_to": [{"tenant", "segment"} | {"cidr"} | {"dest": HOST} | {"peer": "any"}],
      "ingress": [{"peers": [{"peer": "any" or HOST} | {"tenant", "segment"} | {"cidr"}],
                   "rules": [{"protocol", "ports", "port_ranges", "icmp_type", "icmp_code"}]}]}]}

HOST is "host" or "local". The first form has one entry's `peers` and `rules` beside `applied_to`.
What it means:

- Entries of `ingress` stay separate; one without peers or without rules allows nothing. A policy
  without entries denies everything to what it is applied to, and is of no effect elsewhere.
- Applied to endpoints it is a TENANT policy of its own name.
- Applied to a `host` it protects the nodes: a BASELINE policy of its own name allows what it says,
  and NAME/otherwise, asked last, denies the rest, so that several policies for hosts add up. If it
  is applied to endpoints too, the first of these is NAME/nodes.
- `local` are the endpoints of a host: all of them are, of one host or another.
- A CIDR it is applied to must be that of a network, or hold whole networks: their endpoints.
- `is_stateful` is ignored: what belongs to an allowed connection is always allowed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Final

from services.common.document.fields import Fields, Findings
from services.common.document.tree import Items, Scalar, Table, Tree, to_json
from services.common.document.values import parse_prefix
from services.common.model.names import NetworkName, Segment, Tenant
from services.common.model.network import Prefix
from services.common.model.rules import (
    MAX_PRIORITY,
    Action,
    CidrBlock,
    Direction,
    PolicyName,
    PortMatch,
    Protocol,
    Tier,
)
from services.policy.forms.reading import Read
from services.policy.model import (
    Anything,
    EndpointSelector,
    NodeSelector,
    Origin,
    Peer,
    Policy,
    PolicyNetwork,
    Rule,
    Target,
)

KIND: Final = "romana"
"""`Origin.kind`."""
NODES: Final = "nodes"
OTHERWISE: Final = "otherwise"
"""Second parts of the names of policies for nodes."""
NODES_PRIORITY: Final = 1000

_HOST: Final = "host"
_LOCAL: Final = "local"
"""The endpoints of a host, as opposed to the host itself; each host applied policies to its own."""
_PROTOCOLS: Final = {protocol.value: protocol for protocol in Protocol}


def is_romana_v2(tree: Tree) -> bool:
    """Says whether it looks like policies of the earlier Romana."""
    if isinstance(tree, Items):
        return bool(tree.items) and is_romana_v2(tree.items[0])
    return isinstance(tree, Table) and bool({"securitypolicies", "applied_to"} & tree.items.keys())


def read(
    tree: Tree, at: str, findings: Findings, *, networks: Collection[PolicyNetwork] = ()
) -> list[Read[Policy]]:
    """Reads policies; what is wrong with their shape is added to `findings`."""
    found: list[Read[Policy]] = []
    if isinstance(tree, Table) and "securitypolicies" in tree.items:
        fields = Fields(tree, at, findings)
        items = list(fields.each("securitypolicies"))
        fields.end()
    elif isinstance(tree, Items):
        items = [(item, f"{at}[{number}]") for number, item in enumerate(tree.items)]
    else:
        items = [(tree, at)]
    for item, place in items:
        found += _Reader(item, place, findings, networks).policies()
    return found


class _Reader:
    def __init__(
        self, tree: Tree, at: str, findings: Findings, networks: Collection[PolicyNetwork]
    ) -> None:
        self._tree = tree
        self._fields = Fields(tree, at, findings)
        self._findings = findings
        self._networks = networks
        self._places: dict[str, str] = {}

    def policies(self) -> Iterator[Read[Policy]]:
        """The policies that it comes to."""
        fields = self._fields
        name = fields.text("name") or fields.text("external_id") or fields.text("id")
        direction = self._direction()
        endpoints: list[Target] = []
        nodes: list[Target] = []
        for item, at in fields.each("applied_to"):
            for target in self._target(item, at):
                if isinstance(target, NodeSelector):
                    nodes.append(target)
                else:
                    self._places[f"targets[{len(endpoints)}]"] = at
                    endpoints.append(target)
        if not endpoints and not nodes:
            self._findings.wrong(fields.path("applied_to"), "is missing")
        policy = Policy(
            name=PolicyName(name),
            tier=Tier.TENANT,
            targets=tuple(endpoints),
            rules={direction: tuple(self._rules(direction))},
            description=fields.text("description"),
            origin=Origin(KIND, json.dumps(to_json(self._tree), ensure_ascii=False)),
        )
        fields.ignore("id", "external_id", "name", "tags")
        fields.end()
        if endpoints:
            yield Read(policy, fields.at, self._places)
        if nodes:
            allowing = f"{name}/{NODES}" if endpoints else name
            yield self._baseline(policy, allowing, nodes, NODES_PRIORITY, policy.rules[direction])
            rest = (Rule(Action.DENY),)
            yield self._baseline(policy, f"{name}/{OTHERWISE}", nodes, MAX_PRIORITY, rest)

    def _baseline(
        self,
        policy: Policy,
        name: str,
        targets: list[Target],
        priority: int,
        rules: tuple[Rule, ...],
    ) -> Read[Policy]:
        (direction,) = policy.rules
        made = replace(
            policy,
            name=PolicyName(name),
            tier=Tier.BASELINE,
            targets=tuple(targets),
            priority=priority,
            rules={direction: rules},
        )
        return Read(made, self._fields.at, self._places)

    def _direction(self) -> Direction:
        text = self._fields.text("direction").lower()
        if text in {"", *Direction}:
            return Direction(text or Direction.INGRESS)
        self._findings.wrong(
            self._fields.path("direction"), f"{text[:80]!r} is not one of {', '.join(Direction)}"
        )
        return Direction.INGRESS

    def _rules(self, direction: Direction) -> Iterator[Rule]:
        fields = self._fields
        entries = list(fields.each("ingress"))
        first = [name for name in ("peers", "rules") if fields.has(name)]
        if entries and first:
            self._findings.wrong(fields.path(first[0]), "goes with no `ingress`")
            fields.ignore("peers", "rules")
        elif first:
            yield from self._entry(fields, f"{direction}[0]")
        number = 0
        for item, at in entries:
            entry = Fields(item, at, self._findings)
            for rule in self._entry(entry, f"{direction}[{number}]"):
                number += 1
                yield rule
            entry.end()

    def _entry(self, fields: Fields, api: str) -> Iterator[Rule]:
        peers = tuple(self._peer(item, at) for item, at in fields.each("peers"))
        ports: list[PortMatch] = []
        for item, at in fields.each("rules"):
            for port in self._ports(item, at):
                self._places[f"{api}.ports[{len(ports)}]"] = at
                ports.append(port)
        self._places[f"{api}.peers"] = fields.path("peers")
        if peers and ports:
            yield Rule(peers=peers, ports=tuple(ports))

    def _target(self, tree: Tree, at: str) -> Iterator[Target]:
        fields = Fields(tree, at, self._findings)
        selector, cidr, word = self._party(fields)
        destination = fields.text("dest").lower()
        fields.end()
        if sum(map(bool, (selector, cidr, word, destination))) != 1:
            self._findings.wrong(at, "exactly one of tenant, cidr, dest and peer is needed")
        elif selector is not None:
            yield selector
        elif cidr is not None:
            yield EndpointSelector(networks=self._inside(cidr, fields.path("cidr")))
        elif _HOST in {word, destination}:
            yield NodeSelector()
        elif {word, destination} & {"any", _LOCAL}:
            yield EndpointSelector()
        else:
            self._findings.wrong(
                at, f"{(word or destination)[:80]!r} is not one of any, host, local"
            )

    def _peer(self, tree: Tree, at: str) -> Peer:
        fields = Fields(tree, at, self._findings)
        selector, cidr, word = self._party(fields)
        fields.end()
        if sum(map(bool, (selector, cidr, word))) != 1:
            self._findings.wrong(at, "exactly one of peer, tenant and cidr is needed")
        elif selector is not None:
            return selector
        elif cidr is not None:
            return CidrBlock(cidr)
        elif word == _HOST:
            return NodeSelector()
        elif word == _LOCAL:
            return EndpointSelector()
        elif word != "any":
            self._findings.wrong(
                fields.path("peer"), f"{word[:80]!r} is not one of any, host, local"
            )
        return Anything()

    def _party(self, fields: Fields) -> tuple[EndpointSelector | None, Prefix | None, str]:
        """Endpoints, a CIDR or a word, whichever is there."""
        tenant = fields.text("tenant") or fields.text("tenant_id")
        segment = fields.text("segment") or fields.text("segment_id")
        cidr = fields.text("cidr")
        fields.ignore("tenant_id", "segment_id")
        if segment and not tenant:
            self._findings.wrong(fields.at, "a segment needs its tenant")
        selector = EndpointSelector(
            tenants=(Tenant(tenant),), segments=(Segment(segment),) if segment else ()
        )
        return (
            selector if tenant or segment else None,
            parse_prefix(cidr, fields.path("cidr"), self._findings.problems) if cidr else None,
            fields.text("peer").lower(),
        )

    def _inside(self, cidr: Prefix, at: str) -> tuple[NetworkName, ...]:
        """Names of the networks of which the CIDR is made."""
        found = [
            network
            for network in self._networks
            if network.cidr.version == cidr.version
            and network.cidr.network_address in cidr
            and network.cidr.prefixlen >= cidr.prefixlen
        ]
        if not found:
            self._findings.wrong(
                at,
                f"{cidr} is not the CIDR of a network and holds none: policies are applied to "
                "tenants and networks",
            )
        return tuple(network.name for network in found)

    def _ports(self, tree: Tree, at: str) -> Iterator[PortMatch]:
        fields = Fields(tree, at, self._findings)
        word = fields.text("protocol").lower()
        ports = [(_number(item), _number(item)) for item, _ in fields.each("ports")]
        for item, place in fields.each("port_ranges"):
            ends = item.items if isinstance(item, Items) else []
            if len(ends) != 2:  # first and last
                self._findings.wrong(place, "is not a list of the first and the last port")
                continue
            ports.append((_number(ends[0]), _number(ends[1])))
        icmp = fields.number("icmp_type"), fields.number("icmp_code")
        fields.ignore("is_stateful")
        fields.end()
        if word not in {"any", *_PROTOCOLS}:
            known = ", ".join(("any", *_PROTOCOLS))
            self._findings.wrong(
                fields.path("protocol"),
                f"{word[:80]!r} is not one of {known}" if word else f"is missing: one of {known}",
            )
            return
        if any(not first or not last for first, last in ports):
            self._findings.wrong(at, "a port is not a number of 1 to 65535")
        protocol = _PROTOCOLS.get(word)
        for first, last in ports or [(0, 0)]:
            yield PortMatch(protocol, first, last, icmp_type=icmp[0], icmp_code=icmp[1])


def _number(tree: Tree) -> int:
    """A port; 0: it is none."""
    text = tree.text if isinstance(tree, Scalar) else ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0
