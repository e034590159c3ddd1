"""ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2: how it is read, and what it comes to.

The second half is upstream's conformance in small: namespaces with labels, tiers, priorities, the
three actions, and every kind of peer and protocol, decided by the engine.
"""

from __future__ import annotations

from collections.abc import Container
from ipaddress import ip_network

import pytest

from services.common.errors import InvalidInput
from services.common.model.rules import Action, CidrBlock, Direction, PortMatch, Protocol, Tier
from services.policy.explain.trial import check_expectations, read_trial
from services.policy.forms.documents import Document, read_document
from services.policy.model import (
    EndpointSelector,
    LabelSelector,
    NodeSelector,
    Operator,
    Policy,
    Requirement,
    Rule,
)

UPSIDE_DOWN = (
    "from: [{namespaces: {}}], protocols: [{udp: {destinationPort: {range: {start: 9, end: 3}}}}]"
)
HEAD = """apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: p, labels: {set: s}}
"""


def document(spec: str, name: str = "p") -> Document:
    return read_document(f"{HEAD}spec: {spec}".replace("{name: p,", f"{{name: {name},").encode())


def one(rules: str, tier: str = "Admin") -> Policy:
    spec = f"{{tier: {tier}, priority: 7, subject: {{namespaces: {{}}}}, {rules}}}"
    (policy,) = document(spec).policies
    return policy


def warned(rules: str, tier: str = "Admin") -> dict[str, str]:
    spec = f"{{tier: {tier}, priority: 7, subject: {{namespaces: {{}}}}, {rules}}}"
    return {problem.path: problem.message for _, problem in document(spec).warnings}


def wrong(spec: str) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        document(spec)
    return {violation.path: violation.message for violation in caught.value.violations}


def label(key: str, value: str) -> LabelSelector:
    return LabelSelector((Requirement(key, Operator.IN, (value,)),))


def test_every_field_is_read() -> None:
    (policy,) = document("""
  tier: Admin
  priority: 30
  subject: {pods: {namespaceSelector: {matchLabels: {h: g}}, podSelector: {matchLabels: {a: b}}}}
  ingress:
    - name: first
      action: Accept
      from: [{namespaces: {matchLabels: {h: r}}}, {pods: {podSelector: {matchLabels: {x: y}}}}]
      protocols:
        - tcp: {destinationPort: {number: 80}}
        - udp: {destinationPort: {range: {start: 1, end: 9}}}
  egress:
    - action: Deny
      to: [{networks: [10.0.0.0/8, "fd00::/8"]}, {nodes: {matchLabels: {rack: r1}}}]
    - action: Pass
      to: [{namespaces: {}}]
      protocols: [{sctp: {destinationPort: {number: 5}}}, {destinationNamedPort: dns}]
""").policies
    assert (policy.name, policy.tier, policy.priority) == (
        "ClusterNetworkPolicy/p",
        Tier.ADMIN,
        30,
    )
    assert policy.labels == {"set": "s"}
    assert policy.targets == (
        EndpointSelector(labels=label("a", "b"), tenant_labels=label("h", "g")),
    )
    assert policy.rules[Direction.INGRESS] == (
        Rule(
            Action.ALLOW,
            (
                EndpointSelector(tenant_labels=label("h", "r")),
                EndpointSelector(labels=label("x", "y")),
            ),
            (PortMatch(Protocol.TCP, 80, 80), PortMatch(Protocol.UDP, 1, 9)),
        ),
    )
    denied, passed = policy.rules[Direction.EGRESS]
    assert denied == Rule(
        Action.DENY,
        (
            CidrBlock(ip_network("10.0.0.0/8")),
            CidrBlock(ip_network("fd00::/8")),
            NodeSelector(labels=label("rack", "r1")),
        ),
    )
    assert passed.action is Action.PASS
    assert passed.ports == (
        PortMatch(Protocol.SCTP, 5, 5),
        *(PortMatch(each, name="dns") for each in (Protocol.TCP, Protocol.UDP, Protocol.SCTP)),
    )


def test_passing_the_last_tier_is_being_allowed() -> None:
    policy = one("ingress: [{action: Pass, from: [{namespaces: {}}]}]", "Baseline")
    assert policy.rules[Direction.INGRESS][0].action is Action.ALLOW


def test_a_direction_without_rules_is_not_governed() -> None:
    assert set(one("egress: [{action: Deny, to: [{namespaces: {}}]}]").rules) == {Direction.EGRESS}
    assert one("ingress: []").rules == {Direction.INGRESS: ()}


@pytest.mark.parametrize(
    ("rule", "path", "says"),
    [
        ("from: [{namespaces: {}}, {}]", "from[1]", "exactly one of namespaces, pods"),
        ("from: [{serviceAccounts: {}}]", "from[0].serviceAccounts", "no such field"),
        ("from: [{networks: [10.0.0.0/8]}]", "from[0].networks", "no such field"),
        ("from: []", "from", "is missing"),
        ("protocols: []", "from", "is missing"),
        ("from: [{namespaces: {}}], protocols: []", "protocols", "is empty"),
        ("from: [{namespaces: {}}], protocols: [{icmp: {}}]", "protocols[0].icmp", "no such field"),
        ("from: [{namespaces: {}}], protocols: [{tcp: {}}]", "protocols[0].tcp.destinationPort",
         "exactly one of number, range"),
        ("from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 0}}}]",
         "protocols[0].tcp.destinationPort.number", "not a port"),
        ("from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 70000}}}]",
         "protocols[0].tcp.destinationPort.number", "not a port"),
        ("from: [{namespaces: {}}], protocols: [{destinationNamedPort: ''}]",
         "protocols[0].destinationNamedPort", "is empty"),
        (UPSIDE_DOWN,
         "protocols[0].udp.destinationPort.range.end", "upside down"),
        ("from: [{pods: {namespaceSelector: {}}}]", "from[0].pods.podSelector", "is missing"),
        ("from: [{namespaces: {matchExpressions: [{key: a, operator: In}]}}]",
         "from[0].namespaces.matchExpressions[0]", "at least one value"),
        ("from: [{namespaces: {}}], schedule: nightly", "schedule", "no such field"),
    ],
)  # fmt: skip
def test_a_rule_that_is_not_understood_fails_closed(rule: str, path: str, says: str) -> None:
    rest = "{action: Deny, from: [{namespaces: {matchLabels: {a: b}}}]}"
    for action, counts in (("Accept", "matches nothing"), ("Deny", "denies everything")):
        rules = f"ingress: [{{action: {action}, {rule}}}, {rest}]"
        found = warned(rules)
        assert says in found[f"spec.ingress[0].{path}"]
        assert counts in found[f"spec.ingress[0].{path}"]
        *closed, last = one(rules).rules[Direction.INGRESS]
        assert closed == ([] if action == "Accept" else [Rule(Action.DENY)])
        assert last.peers == (EndpointSelector(tenant_labels=label("a", "b")),)


def test_an_action_that_is_not_known_denies() -> None:
    rules = "egress: [{action: Log, to: [{networks: [10.0.0.0/8]}]}]"
    assert one(rules).rules[Direction.EGRESS] == (Rule(Action.DENY),)
    assert "'Log' is not one of" in warned(rules)["spec.egress[0].action"]


@pytest.mark.parametrize("peer", ["{domainNames: [example.com]}", "{networks: [10.0.0.1/8]}", "{}"])
def test_a_peer_of_egress_that_is_not_known_is_not_passed(peer: str) -> None:
    rules = f"egress: [{{action: Pass, to: [{peer}]}}]"
    assert one(rules).rules[Direction.EGRESS] == (Rule(Action.DENY),)


@pytest.mark.parametrize(
    ("spec", "path", "says"),
    [
        ("{tier: Boss, priority: 1, subject: {namespaces: {}}}", "spec.tier", "not one of Admin"),
        ("{tier: Admin, subject: {namespaces: {}}}", "spec.priority", "is missing"),
        ("{tier: Admin, priority: 70000, subject: {namespaces: {}}}", "spec.priority", "between"),
        ("{tier: Admin, priority: 1}", "spec.subject", "exactly one of namespaces, pods"),
        ("{tier: Admin, priority: 1, subject: {nodes: {}}}", "spec.subject.nodes", "no such field"),
        ("{tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {a b: c}}}}",
         "spec.subject.namespaces.matchLabels['a b']", "label"),
        ("{tier: Admin, priority: 1, subject: {namespaces: {}}, dryRun: true}", "spec.dryRun",
         "no such field"),
    ],
)  # fmt: skip
def test_whom_it_is_for_must_be_understood(spec: str, path: str, says: str) -> None:
    assert says in wrong(spec)[path]


WORLD = """
networks: [{name: prod, cidr: 10.0.0.0/16}]
nodes: [{name: n1, labels: {rack: r1}, addresses: [192.0.2.1]}, {name: n2, addresses: [192.0.2.2]}]
tenants:
  - {name: gry, labels: {house: gry}}
  - {name: sly, labels: {house: sly}}
  - {name: huf, labels: {house: huf}}
endpoints:
  - {name: harry, tenant: gry, labels: {app: a}, ports: [{name: web, protocol: tcp, port: 80}],
     node: n1, addresses: [10.0.0.1]}
  - {name: draco, tenant: sly, labels: {app: a}, node: n2, addresses: [10.0.0.2]}
  - {name: cedric, tenant: huf, labels: {app: b}, ports: [{name: web, protocol: udp, port: 90}],
     node: n2, addresses: [10.0.0.3]}
files: [policies.yaml]
expect: [%s]
"""
TENANT = """
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n, namespace: gry},
 spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {house: huf}}}]}]}}
"""


def cluster_policy(name: str, tier: str, priority: int, rules: str) -> str:
    return f"""
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {{name: {name}}}
spec: {{tier: {tier}, priority: {priority},
  subject: {{namespaces: {{matchLabels: {{house: gry}}}}}}, {rules}}}
"""


def from_house(action: str, house: str, more: str = "") -> str:
    return (
        f"{{action: {action}, from: [{{namespaces: {{matchLabels: {{house: {house}}}}}}}]{more}}}"
    )


def holds(policies: str, *expected: str) -> None:
    outcomes = check_expectations(
        read_trial((WORLD % ", ".join(expected)).encode(), lambda _: policies.encode())
    )
    assert [(one.source, one.destination, one.found) for one in outcomes if not one.holds] == []


def test_admin_comes_before_network_policies_and_baseline_after_them() -> None:
    admin = cluster_policy("a", "Admin", 10, f"ingress: [{from_house('Accept', 'sly')}]")
    baseline = cluster_policy("b", "Baseline", 10, f"ingress: [{from_house('Deny', 'huf')}]")
    holds(
        admin + TENANT + baseline,
        "{from: draco, to: harry, verdict: allow, policy: ClusterNetworkPolicy/a}",
        "{from: cedric, to: harry, verdict: allow, policy: gry/n}",
    )
    holds(baseline, "{from: cedric, to: harry, verdict: deny, policy: ClusterNetworkPolicy/b}")


def test_the_first_rule_and_the_lower_priority_decide() -> None:
    late = cluster_policy("late", "Admin", 50, f"ingress: [{from_house('Accept', 'sly')}]")
    early = cluster_policy(
        "early",
        "Admin",
        5,
        f"ingress: [{from_house('Deny', 'sly')}, {from_house('Accept', 'sly')}]",
    )
    holds(
        late + early, "{from: draco, to: harry, verdict: deny, policy: ClusterNetworkPolicy/early}"
    )


def test_pass_goes_on_with_the_next_tier() -> None:
    passing = cluster_policy("pass", "Admin", 5, f"ingress: [{from_house('Pass', 'sly')}]")
    denying = cluster_policy("deny", "Admin", 6, f"ingress: [{from_house('Deny', 'sly')}]")
    baseline = cluster_policy("base", "Baseline", 5, f"ingress: [{from_house('Deny', 'sly')}]")
    last = cluster_policy("last", "Baseline", 4, f"ingress: [{from_house('Pass', 'sly')}]")
    to_harry = "{from: draco, to: harry, verdict: %s}"
    holds(passing + denying, to_harry % "allow")
    holds(passing + denying + TENANT, to_harry % "deny")
    holds(passing + baseline, to_harry % "deny, policy: ClusterNetworkPolicy/base")
    holds(passing + baseline + last, to_harry % "allow")


def test_ports_are_matched_by_number_range_and_name() -> None:
    ports = ", protocols: [{tcp: {destinationPort: {number: 22}}}, {destinationNamedPort: web},"
    ports += " {udp: {destinationPort: {range: {start: 5, end: 7}}}}]"
    policy = cluster_policy("p", "Admin", 1, f"ingress: [{from_house('Deny', 'sly', ports)}]")
    asked = "{from: draco, to: harry, protocol: %s, port: %d, verdict: %s}"
    holds(
        policy,
        asked % ("tcp", 22, "deny"),
        asked % ("tcp", 80, "deny"),
        asked % ("tcp", 81, "allow"),
        asked % ("udp", 80, "allow"),
        asked % ("udp", 6, "deny"),
        asked % ("udp", 8, "allow"),
    )


def test_egress_to_nodes_networks_and_pods() -> None:
    policy = cluster_policy(
        "p",
        "Admin",
        1,
        "egress: [{action: Pass, to: [{pods: {podSelector: {matchLabels: {app: b}}}}]},"
        "{action: Deny, to: [{nodes: {matchLabels: {rack: r1}}}, {networks: [10.0.0.0/16]}]}]",
    )
    holds(
        policy,
        "{from: harry, to: cedric, verdict: allow}",
        "{from: harry, to: draco, verdict: deny}",
        "{from: harry, to: n1, verdict: deny}",
        "{from: harry, to: n2, verdict: allow}",
        "{from: harry, to: 10.0.9.9, verdict: deny}",
        "{from: draco, to: n1, verdict: allow}",
    )


def test_what_is_not_understood_lets_nobody_in() -> None:
    unknown = "{action: %s, from: [{serviceAccounts: {}}]}"
    accepting = cluster_policy(
        "p", "Admin", 1, f"ingress: [{unknown % 'Accept'}, {from_house('Deny', 'sly')}]"
    )
    holds(
        accepting,
        "{from: draco, to: harry, verdict: deny}",
        "{from: cedric, to: harry, verdict: allow}",
    )
    passing = cluster_policy(
        "p", "Admin", 1, f"ingress: [{unknown % 'Pass'}, {from_house('Accept', 'sly')}]"
    )
    holds(
        passing,
        "{from: draco, to: harry, verdict: deny}",
        "{from: cedric, to: harry, verdict: deny}",
    )


NAMED = """apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {{name: p, annotations: {{{annotations}}}}}
spec:
  tier: Admin
  priority: 7
  subject: {{namespaces: {{}}}}
  ingress:
    - {{name: web, action: Accept, from: [{{namespaces: {{}}}}]}}
    - {{name: shut, action: Deny, from: [{{namespaces: {{}}}}]}}
  egress:
    - {{name: db, action: Accept, to: [{{namespaces: {{}}}}]}}
    - {{action: Accept, to: [{{networks: [10.0.0.0/8]}}]}}
"""
FIELDS = "via", "mirror"


def annotated(groups: Container[str] | None = None, **texts: str) -> Document:
    """A policy with these annotations; groups that are there, None: that is not known."""
    annotations = ", ".join(f'romana.io/{field}: "{text}"' for field, text in texts.items())
    return read_document(NAMED.format(annotations=annotations).encode(), groups=groups)


def groups_of(document: Document, field: str) -> list[list[str | None]]:
    """What rules say in that field, per direction."""
    (policy,) = document.policies
    return [[getattr(rule, field) for rule in policy.rules[one]] for one in Direction]


def warnings_of(document: Document) -> list[tuple[str, str]]:
    return [(one.path, one.message.partition(" (line")[0]) for _, one in document.warnings]


def at(field: str) -> str:
    return f"metadata.annotations['romana.io/{field}']"


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("fw", [["fw", None], ["fw", "fw"]]),
        ("web=fw", [["fw", None], [None, None]]),
        ("fw, db = ids", [["fw", None], ["ids", "fw"]]),
    ],
)
def test_an_annotation_names_devices_for_what_is_accepted(
    field: str, text: str, found: list[list[str | None]]
) -> None:
    document = annotated({"fw", "ids"}, **{field: text})
    assert groups_of(document, field) == found
    (other,) = {*FIELDS} - {field}
    assert groups_of(document, other) == [[None, None], [None, None]]
    assert document.warnings == []


def test_a_rule_may_be_led_and_copied() -> None:
    document = annotated({"fw", "taps"}, via="web=fw", mirror="taps")
    assert groups_of(document, "via") == [["fw", None], [None, None]]
    assert groups_of(document, "mirror") == [["taps", None], ["taps", "taps"]]


@pytest.mark.parametrize("field", FIELDS)
def test_a_rule_of_which_the_group_is_not_there_matches_nothing(field: str) -> None:
    document = annotated(set(), **{field: "db=fw"})
    assert groups_of(document, field) == [[None, None], [None]]
    (policy,) = document.policies
    assert policy.rules[Direction.EGRESS][0].peers == (CidrBlock(ip_network("10.0.0.0/8")),)
    why = "there is no group of devices 'fw': rule db matches nothing"
    assert warnings_of(document) == [(at(field), why)]


def test_each_group_that_is_not_there_is_said() -> None:
    document = annotated({"ids"}, via="db=fw", mirror="db=taps, web=ids")
    assert groups_of(document, "mirror") == [["ids", None], [None]]
    assert [path for path, _ in warnings_of(document)] == [at("via"), at("mirror")]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "'' is neither GROUP nor RULE=GROUP"),
        ("fw,", "'' is neither GROUP nor RULE=GROUP"),
        ("=fw", "'=fw' is neither GROUP nor RULE=GROUP"),
        ("wob=fw", "no rule with Accept is called 'wob'"),
        ("shut=fw", "no rule with Accept is called 'shut'"),
        ("web=fw, web=ids", "rule 'web' is there twice"),
        ("fw, ids", "names more than one group for all rules"),
    ],
)
def test_an_annotation_that_is_not_understood_fails_closed(field: str, text: str, why: str) -> None:
    (other,) = {*FIELDS} - {field}
    document = annotated({"fw", "ids"}, **{field: text, other: "fw"})
    (policy,) = document.policies
    assert [rule.action for rule in policy.rules[Direction.INGRESS]] == [Action.DENY]
    assert policy.rules[Direction.EGRESS] == ()
    assert warnings_of(document) == [(at(field), f"{why}: no Accept matches anything")]


@pytest.mark.parametrize("field", FIELDS)
def test_what_the_caller_does_not_know_is_not_judged(field: str) -> None:
    document = annotated(**{field: "fw"})
    assert groups_of(document, field)[0] == ["fw", None]
    with pytest.raises(InvalidInput) as caught:
        annotated(**{field: "No Name"})
    assert {one.path for one in caught.value.violations} == {at(field)}


@pytest.mark.parametrize("field", FIELDS)
def test_a_policy_of_a_namespace_has_nothing_to_do_with_devices(field: str) -> None:
    text = f"""{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p,
        annotations: {{romana.io/{field}: fw}}}}, spec: {{podSelector: {{}}, ingress: [{{}}]}}}}"""
    document = read_document(text.encode(), groups=("fw",))
    (rule,) = document.policies[0].rules[Direction.INGRESS]
    assert (rule.via, rule.mirror) == (None, None)
    assert warnings_of(document) == [
        (at(field), "is for ClusterNetworkPolicies: it has no effect here")
    ]
