"""Our own form, and what all forms have in common."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from services.common.errors import InvalidInput
from services.common.model.names import NetworkName
from services.common.model.network import Isolation
from services.common.model.rules import (
    Action,
    CidrBlock,
    Direction,
    Mode,
    PortMatch,
    Protocol,
    Tier,
)
from services.policy.forms.documents import Form, read_document
from services.policy.model import (
    EndpointSelector,
    LabelSelector,
    NetworkPeer,
    NodeSelector,
    Operator,
    Requirement,
)

EVERYTHING = """
policies:
  - name: shop/web
    description: the web servers
    tier: admin
    priority: 7
    mode: audit
    labels: {set: shop}
    targets:
      - endpoints:
          tenants: [shop]
          segments: [front]
          networks: [prod]
          labels: {match_labels: {app: web}, match_expressions: [{key: x, operator: exists}]}
          tenant_labels: {match_labels: {team: web}}
      - nodes: {names: [n1], labels: {match_labels: {rack: r1}}}
    directions: [ingress, egress]
    ingress:
      - action: pass
        peers:
          - endpoints: {}
          - cidr: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
          - nodes: {}
          - network: prod
          - any: {}
        ports:
          - {protocol: tcp, port: 80}
          - {protocol: udp, port: 1000, end_port: 2000}
          - {protocol: sctp, port_name: sig}
          - {protocol: icmp, icmp_type: 0, icmp_code: 0}
          - {protocol: icmpv6}
tenants:
  - {name: shop, labels: {team: web}, isolation: segment}
"""

MINIMAL = "targets: [{endpoints: {}}]"


def wrong(text: str, source: str = "") -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        read_document(text.encode(), source=source)
    return {violation.path: violation.message for violation in caught.value.violations}


def test_every_field_is_read() -> None:
    document = read_document(EVERYTHING.encode())
    (policy,) = document.policies
    assert (policy.name, policy.tier, policy.priority) == ("shop/web", Tier.ADMIN, 7)
    assert (policy.mode, policy.labels) == (Mode.AUDIT, {"set": "shop"})
    web = (Requirement("app", Operator.IN, ("web",)), Requirement("x", Operator.EXISTS))
    assert policy.targets == (
        EndpointSelector(
            ("shop",),
            ("front",),
            ("prod",),
            LabelSelector(web),
            LabelSelector((Requirement("team", Operator.IN, ("web",)),)),
        ),
        NodeSelector(("n1",), LabelSelector((Requirement("rack", Operator.IN, ("r1",)),))),
    )
    assert policy.rules[Direction.EGRESS] == ()
    (rule,) = policy.rules[Direction.INGRESS]
    assert rule.action is Action.PASS
    assert rule.peers[1:4] == (
        CidrBlock(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),)),
        NodeSelector(),
        NetworkPeer("prod"),
    )
    assert rule.ports == (
        PortMatch(Protocol.TCP, 80, 80),
        PortMatch(Protocol.UDP, 1000, 2000),
        PortMatch(Protocol.SCTP, name="sig"),
        PortMatch(Protocol.ICMP, icmp_type=0, icmp_code=0),
        PortMatch(Protocol.ICMPV6),
    )
    assert document.tenants[0].isolation is Isolation.SEGMENT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{{name: p, {MINIMAL}}}", {Direction.INGRESS: 0}),
        (f"{{name: p, {MINIMAL}, egress: [{{}}]}}", {Direction.INGRESS: 0, Direction.EGRESS: 1}),
        (f"{{name: p, {MINIMAL}, directions: [egress]}}", {Direction.EGRESS: 0}),
    ],
)
def test_directions_by_default(text: str, expected: dict[Direction, int]) -> None:
    (policy,) = read_document(text.encode()).policies
    assert {direction: len(rules) for direction, rules in policy.rules.items()} == expected


def test_what_the_api_prints_is_read() -> None:
    text = """
- name: p
  tier: POLICY_TIER_BASELINE
  mode: POLICY_MODE_UNSPECIFIED
  priority: 0
  targets: [{endpoints: {tenants: [], labels: {match_labels: {}, match_expressions: [
    {key: a, operator: LABEL_OPERATOR_NOT_IN, values: [b]}]}, tenant_labels: null}}]
  directions: [POLICY_DIRECTION_INGRESS]
  ingress: [{action: RULE_ACTION_DENY, peers: [], ports: [
    {protocol: PROTOCOL_TCP, port: 80, end_port: 0, port_name: ""}]}]
  egress: []
  origin: null
  etag: x
  create_time: y
"""
    (policy,) = read_document(text.encode()).policies
    assert policy.tier is Tier.BASELINE
    (rule,) = policy.rules[Direction.INGRESS]
    assert (rule.action, rule.ports) == (Action.DENY, (PortMatch(Protocol.TCP, 80, 80),))


@pytest.mark.parametrize(
    ("field", "path", "says"),
    [
        ("targets: [{}]", "targets[0]", "exactly one of endpoints, nodes"),
        (f"{MINIMAL}, ingress: [{{action: not_allow}}]", "ingress[0].action", "not one of allow"),
        (f"{MINIMAL}, tier: boss", "tier", "'boss' is not one of admin"),
        (f"{MINIMAL}, tier: baseline, ingress: [{{action: pass}}]", "ingress[0].action", "ADMIN"),
        (f"{MINIMAL}, ingress: [{{peers: [{{network: a, any: {{}}}}]}}]", "ingress[0].peers[0]",
         "exactly one"),
        (f"{MINIMAL}, ingress: [{{peers: [{{cidr: {{cidr: 10.0.0.1/8}}}}]}}]",
         "ingress[0].peers[0].cidr.cidr", "host bits"),
        (f"{MINIMAL}, ingress: [{{ports: [{{protocol: gre}}]}}]", "ingress[0].ports[0].protocol",
         "'gre' is not one of"),
        (f"{MINIMAL}, ingress: [{{ports: [{{port: 80}}]}}]", "ingress[0].ports[0].protocol",
         "missing"),
        (f"{MINIMAL}, directions: [up]", "directions[0]", "'up' is not one of ingress"),
        (f"{MINIMAL}, directions: [ingress], egress: [{{}}]", "egress", "leave egress out"),
        ("targets: [{endpoints: {labels: {match_expressions: [{key: a, operator: Like}]}}}]",
         "targets[0].endpoints.labels.match_expressions[0].operator", "not one of In"),
        ("targets: [{endpoints: {labels: {app: web}}}]", "targets[0].endpoints.labels.app",
         "no such field"),
        ("targets: [{endpoints: {labels: {match_expressions: [{key: a, operator: In}]}}}]",
         "targets[0].endpoints.labels.match_expressions[0]", "needs at least one value"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_path_and_line(field: str, path: str, says: str) -> None:
    found = wrong(f"policies:\n  - {{name: p, {field}}}\n", "a.yaml")
    assert says in found[f"policies[0].{path}"]
    assert "(line 2 of a.yaml)" in found[f"policies[0].{path}"]


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = wrong("policies: [{name: a b, targets: []}, {name: p, targets: [{}]}]\ntenants: [{}]")
    assert set(found) == {
        "policies[0].name",
        "policies[0].targets",
        "policies[1].targets[0]",
        "tenants[0].name",
    }


def test_text_that_cannot_be_read_names_file_line_and_column() -> None:
    (message,) = wrong("a: [", "a.yaml").values()
    assert "line 2, column 1" in message
    assert "a.yaml" in message


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InvalidInput, match="UTF-8"):
        read_document(b"\xff")


def test_ten_megabytes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="more than"):
        read_document(b"#" * 10_000_000)


def test_networks_that_do_not_exist_are_named_where_they_are_written() -> None:
    document = read_document(EVERYTHING.encode(), source="a.yaml")
    assert document.references({NetworkName("prod")}) == []
    paths = [one.path for one in document.references(())]
    assert paths == [
        "policies[0].targets[0].endpoints.networks[0]",
        "policies[0].ingress[0].peers[3].network",
    ]


def test_a_form_that_is_said_is_not_guessed() -> None:
    with pytest.raises(InvalidInput, match="kind"):
        read_document(f"{{name: p, {MINIMAL}}}".encode(), Form.KUBERNETES)
