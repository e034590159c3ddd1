"""NetworkPolicy of networking.k8s.io/v1, with all that it takes for granted."""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from services.common.errors import InvalidInput
from services.common.model.rules import CidrBlock, Direction, PortMatch, Protocol, Tier
from services.policy.forms.documents import read_document
from services.policy.model import (
    Anything,
    EndpointSelector,
    LabelSelector,
    Operator,
    Policy,
    Requirement,
    Rule,
)

HEAD = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: ns}\n"
ALL = (Rule(),)


def one(spec: str) -> Policy:
    (policy,) = read_document(f"{HEAD}spec: {spec}".encode()).policies
    return policy


def wrong(text: str) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        read_document(text.encode())
    return {violation.path: violation.message for violation in caught.value.violations}


def peers(text: str) -> tuple[object, ...]:
    return (
        one(f"{{podSelector: {{}}, ingress: [{{from: [{text}]}}]}}")
        .rules[Direction.INGRESS][0]
        .peers
    )


def ports(text: str) -> tuple[PortMatch, ...]:
    return (
        one(f"{{podSelector: {{}}, ingress: [{{ports: [{text}]}}]}}")
        .rules[Direction.INGRESS][0]
        .ports
    )


def label(key: str, *values: str) -> LabelSelector:
    return LabelSelector((Requirement(key, Operator.IN, values),))


def test_a_policy_is_of_its_namespace_and_keeps_its_name_and_text() -> None:
    policy = one("{podSelector: {matchLabels: {app: web}}}")
    assert (policy.name, policy.tier) == ("ns/p", Tier.TENANT)
    assert policy.targets == (EndpointSelector(tenants=("ns",), labels=label("app", "web")),)
    assert policy.origin is not None
    assert policy.origin.kind == "kubernetes"
    assert json.loads(policy.origin.document)["spec"] == {
        "podSelector": {"matchLabels": {"app": "web"}}
    }


def test_the_kept_text_has_the_types_of_json() -> None:
    policy = one('{podSelector: {}, ingress: [{ports: [{port: 80, protocol: "TCP"}]}]}')
    assert policy.origin is not None
    (rule,) = json.loads(policy.origin.document)["spec"]["ingress"]
    assert rule["ports"] == [{"port": 80, "protocol": "TCP"}]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{podSelector: {}}", {Direction.INGRESS: ()}),
        ("{podSelector: {}, ingress: []}", {Direction.INGRESS: ()}),
        ("{podSelector: {}, ingress: [{}]}", {Direction.INGRESS: ALL}),
        ("{podSelector: {}, ingress: [{from: []}]}", {Direction.INGRESS: ALL}),
        ("{podSelector: {}, ingress: [{from: null, ports: []}]}", {Direction.INGRESS: ALL}),
        ("{podSelector: {}, egress: []}", {Direction.INGRESS: ()}),
        ("{podSelector: {}, egress: [{}]}", {Direction.INGRESS: (), Direction.EGRESS: ALL}),
        ("{podSelector: {}, policyTypes: [Egress]}", {Direction.EGRESS: ()}),
        ("{podSelector: {}, policyTypes: [Egress], ingress: [{}]}", {Direction.EGRESS: ()}),
        (
            "{podSelector: {}, policyTypes: [Ingress, Egress]}",
            {Direction.INGRESS: (), Direction.EGRESS: ()},
        ),
        ("{podSelector: {}, policyTypes: [Ingress], egress: [{}]}", {Direction.INGRESS: ()}),
        ("{podSelector: {}, policyTypes: [], egress: [{to: []}]}",
         {Direction.INGRESS: (), Direction.EGRESS: ALL}),
    ],
)  # fmt: skip
def test_policy_types_and_empty_against_missing(
    spec: str, expected: dict[Direction, tuple[Rule, ...]]
) -> None:
    assert one(spec).rules == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{podSelector: {matchLabels: {a: b}}}",
            EndpointSelector(tenants=("ns",), labels=label("a", "b")),
        ),
        ("{podSelector: {}}", EndpointSelector(tenants=("ns",))),
        ("{namespaceSelector: {}}", EndpointSelector()),
        (
            "{namespaceSelector: {matchLabels: {a: b}}}",
            EndpointSelector(tenant_labels=label("a", "b")),
        ),
        (
            "{namespaceSelector: {matchLabels: {a: b}}, podSelector: {matchLabels: {c: d}}}",
            EndpointSelector(labels=label("c", "d"), tenant_labels=label("a", "b")),
        ),
        (
            "{namespaceSelector: {}, podSelector: null}",
            EndpointSelector(),
        ),
        (
            "{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}",
            CidrBlock(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),)),
        ),
        pytest.param(
            "{ipBlock: {cidr: 10.9.8.7/8, except: [10.1.2.3/16]}}",
            CidrBlock(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),)),
            id="host bits",
        ),
    ],
)
def test_peers(text: str, expected: object) -> None:
    assert peers(text) == (expected,)


def test_peers_of_one_rule_add_up_and_rules_stay_apart() -> None:
    spec = "{podSelector: {}, egress: [{to: [{podSelector: {}}, {namespaceSelector: {}}]}, {}]}"
    first, second = one(spec).rules[Direction.EGRESS]
    assert len(first.peers) == 2
    assert second.peers == (Anything(),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{port: 80}", PortMatch(Protocol.TCP, 80, 80)),
        ("{port: 80, endPort: 90, protocol: UDP}", PortMatch(Protocol.UDP, 80, 90)),
        ("{port: http}", PortMatch(Protocol.TCP, name="http")),
        ("{protocol: SCTP}", PortMatch(Protocol.SCTP)),
        ("{}", PortMatch(Protocol.TCP)),
    ],
)
def test_ports(text: str, expected: PortMatch) -> None:
    assert ports(text) == (expected,)


def test_expressions_join_labels() -> None:
    expressions = (
        "[{key: a, operator: NotIn, values: [x, y]}, {key: b, operator: Exists}, "
        "{key: c, operator: DoesNotExist}, {key: d, operator: In, values: [z]}]"
    )
    policy = one(f"{{podSelector: {{matchLabels: {{e: f}}, matchExpressions: {expressions}}}}}")
    (target,) = policy.targets
    assert target.labels.requirements == (
        Requirement("e", Operator.IN, ("f",)),
        Requirement("a", Operator.NOT_IN, ("x", "y")),
        Requirement("b", Operator.EXISTS),
        Requirement("c", Operator.DOES_NOT_EXIST),
        Requirement("d", Operator.IN, ("z",)),
    )


@pytest.mark.parametrize(
    ("spec", "path", "says"),
    [
        (
            "{podSelector: {matchExpressions: [{key: a, operator: Like, values: [b]}]}}",
            "spec.podSelector.matchExpressions[0].operator",
            "'Like' is not one of In",
        ),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: In}]}}",
            "spec.podSelector.matchExpressions[0]",
            "needs at least one value",
        ),
        (
            "{podSelector: {matchLabels: {a: 'b c'}}}",
            "spec.podSelector.matchLabels['a']",
            "not a label value",
        ),
        (
            "{podSelector: {}, ingress: [{ports: [{port: 9, endPort: 8}]}]}",
            "spec.ingress[0].ports[0].endPort",
            "upside down",
        ),
        (
            "{podSelector: {}, ingress: [{ports: [{endPort: 8}]}]}",
            "spec.ingress[0].ports[0].endPort",
            "without port",
        ),
        (
            "{podSelector: {}, ingress: [{ports: [{port: http, endPort: 8}]}]}",
            "spec.ingress[0].ports[0].endPort",
            "not with a name",
        ),
        (
            "{podSelector: {}, ingress: [{ports: [{port: 80, protocol: ICMP}]}]}",
            "spec.ingress[0].ports[0].protocol",
            "not one of TCP",
        ),
        (
            "{podSelector: {}, ingress: [{ports: [{port: ''}]}]}",
            "spec.ingress[0].ports[0].port",
            "not a port",
        ),
        (
            "{podSelector: {}, ingress: [{ports: [{port: 0}]}]}",
            "spec.ingress[0].ports[0].port",
            "not a port",
        ),
        (
            "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [1.0.0.0/8]}}]}]}",
            "spec.egress[0].to[0].ipBlock.except[0]",
            "not inside",
        ),
        (
            "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.1/33}}]}]}",
            "spec.egress[0].to[0].ipBlock.cidr",
            "is not a CIDR",
        ),
        (
            "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}",
            "spec.egress[0].to[0]",
            "no selector",
        ),
        ("{podSelector: {}, ingress: [{from: [{}]}]}", "spec.ingress[0].from[0]", "is needed"),
        ("{podSelector: {}, policyTypes: [ingress]}", "spec.policyTypes[0]", "not one of Ingress"),
        ("{podSelectors: {}}", "spec.podSelectors", "did you mean 'podSelector'"),
        ("{podSelector: {}, ingress: [{form: []}]}", "spec.ingress[0].form", "no such field"),
    ],
)
def test_what_is_wrong_is_refused_with_its_path_and_line(spec: str, path: str, says: str) -> None:
    found = wrong(f"{HEAD}spec:\n  {spec}")
    assert says in found[path]
    assert "(line 5)" in found[path]


def test_a_namespace_is_a_tenant_with_its_name_as_a_label() -> None:
    text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ns, labels: {team: web}, uid: x}\n"
    (tenant,) = read_document(text.encode()).tenants
    assert tenant.name == "ns"
    assert tenant.labels == {"team": "web", "kubernetes.io/metadata.name": "ns"}
    assert tenant.isolation is None


def test_an_isolated_namespace_of_old_becomes_a_policy_that_allows_nothing() -> None:
    annotation = '{"ingress": {"isolation": "DefaultDeny"}}'
    text = (
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: ns, annotations: "
        f"{{net.beta.kubernetes.io/networkpolicy: '{annotation}'}}}}\n"
    )
    (policy,) = read_document(text.encode()).policies
    assert policy.targets == (EndpointSelector(tenants=("ns",)),)
    assert policy.rules == {Direction.INGRESS: ()}


def test_lists_and_several_documents_are_read_together() -> None:
    text = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicyList
metadata: {resourceVersion: "1"}
items:
  - metadata: {name: a, namespace: x}
    spec: {podSelector: {}}
---
# nothing
---
apiVersion: v1
kind: List
items:
  - {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: b}, spec: {}}
  - {apiVersion: v1, kind: Namespace, metadata: {name: x}}
"""
    document = read_document(text.encode(), default_namespace="home")
    assert [policy.name for policy in document.policies] == ["x/a", "home/b"]
    assert [tenant.name for tenant in document.tenants] == ["x"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{apiVersion: v1, kind: Pod}", "kind"),
        ("{apiVersion: extensions/v1beta1, kind: NetworkPolicy}", "apiVersion"),
        ("{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: List}]}", "items[0].kind"),
        ("{apiVersion: v1, kind: List, items: [{apiVersion: v1}]}", "items[0].kind"),
        ("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, spec: {}}", "metadata.name"),
    ],
)
def test_other_objects_are_refused(text: str, path: str) -> None:
    assert path in wrong(text)


def test_paths_name_the_document_among_several() -> None:
    good = f"{HEAD}spec: {{podSelector: {{}}}}\n"
    bad = HEAD.replace("name: p", "name: q") + "spec: {podSelector: {}, policyTypes: [x]}\n"
    assert list(wrong(f"{good}---\n{bad}")) == ["[1].spec.policyTypes[0]"]


def test_the_same_policy_twice_is_refused() -> None:
    text = f"{HEAD}spec: {{podSelector: {{}}}}\n"
    assert "another policy" in wrong(f"{text}---\n{text}")["[1].metadata.name"]
