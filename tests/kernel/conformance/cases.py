"""Kubernetes' conformance cases of NetworkPolicy, as a table: add a `Case` to try something else.

After test/e2e/network/netpol/network_policy.go of Kubernetes. A step applies documents (all of them
together replace those of the step before), or relabels, and says who reaches whom then. In
documents, `{x/a}` is the IPv4 address of pod x/a, `{x/a v6}` its IPv6 address. Namespaces have the
label `ns`, pods the label `pod`; ports 80 and 81 are called `serve-80` and `serve-81`, and
`serve-80-udp`, `serve-80-sctp` and so on for the other protocols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tests.kernel.conformance.pods import PODS, Expected, Pod, Probe

X: Final = {name: Pod("x", name) for name in ("a", "b", "c")}
Y: Final = {name: Pod("y", name) for name in ("a", "b", "c")}
ANY: Final = ("tcp",)
ALL: Final = ("tcp", "udp", "sctp")


@dataclass(frozen=True)
class Step:
    """What is done, and what holds then."""

    expected: Expected
    documents: str = ""
    pod_labels: Mapping[Pod, Mapping[str, str]] = field(default_factory=dict)
    """Instead of the usual ones, for as long as the step lasts."""
    namespace_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    protocols: tuple[str, ...] = ANY


@dataclass(frozen=True)
class Case:
    """Steps, one after the other."""

    name: str
    steps: tuple[Step, ...]


def policy(name: str, spec: str, namespace: str = "x") -> str:
    """A NetworkPolicy; `spec` is flow-style YAML."""
    return (
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )


def case(name: str, documents: str, expected: Expected, *protocols: str) -> Case:
    """One with a single step."""
    return Case(name, (Step(expected, documents, protocols=protocols or ANY),))


def everything(_: Probe) -> bool:
    """Nobody is kept from anything."""
    return True


def nobody(_: Probe) -> bool:
    """All are kept out."""
    return False


def to(which: set[Pod], allowed: Expected) -> Expected:
    """What reaches these pods; the others are open."""
    return lambda t: t.destination not in which or allowed(t)


def of(which: set[Pod], allowed: Expected) -> Expected:
    """What these pods reach; the others reach everything."""
    return lambda t: t.source not in which or allowed(t)


def both(one: Expected, other: Expected) -> Expected:
    """What both allow."""
    return lambda t: one(t) and other(t)


NAMESPACE_X: Final = {pod for pod in PODS if pod.namespace == "x"}
XA: Final = {X["a"]}
YA: Final = {Y["a"]}
DENY_INGRESS: Final = policy("deny", "{podSelector: {}, policyTypes: [Ingress]}")
TO_XA: Final = "podSelector: {matchLabels: {pod: a}}"
FROM_Y: Final = policy(
    "y", f"{{{TO_XA}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: y}}}}}}]}}]}}"
)
FROM_B: Final = policy(
    "b", f"{{{TO_XA}, ingress: [{{from: [{{podSelector: {{matchLabels: {{pod: b}}}}}}]}}]}}"
)
DENY_EGRESS: Final = policy("deny-egress", "{podSelector: {}, policyTypes: [Egress]}")

CASES: Final = (
    case("no policy", "", everything, *ALL),
    case("default deny ingress", DENY_INGRESS, to(NAMESPACE_X, nobody), *ALL),
    case("default deny egress", DENY_EGRESS, of(NAMESPACE_X, nobody), *ALL),
    case(
        "default deny both ways",
        policy("deny", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
        both(to(NAMESPACE_X, nobody), of(NAMESPACE_X, nobody)),
    ),
    case(
        "an empty rule allows all",
        DENY_INGRESS + policy("allow", "{podSelector: {}, ingress: [{}]}"),
        everything,
    ),
    case(
        "an empty list of rules allows nothing",
        policy("none", "{podSelector: {}, ingress: []}"),
        to(NAMESPACE_X, nobody),
    ),
    case(
        "pods of the same namespace",
        policy("same", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}"),
        to(NAMESPACE_X, lambda t: t.source.namespace == "x"),
    ),
    case(
        "a pod of the same namespace",
        FROM_B,
        to(XA, lambda t: t.source == X["b"]),
    ),
    case(
        "a namespace by label",
        FROM_Y,
        to(XA, lambda t: t.source.namespace == "y"),
    ),
    case(
        "a namespace by its name",
        policy(
            "z",
            f"{{{TO_XA}, ingress: [{{from: [{{namespaceSelector: "
            "{matchLabels: {kubernetes.io/metadata.name: z}}}]}]}",
        ),
        to(XA, lambda t: t.source.namespace == "z"),
    ),
    case(
        "namespaces by expression",
        policy(
            "not-x",
            f"{{{TO_XA}, ingress: [{{from: [{{namespaceSelector: "
            "{matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}}]}]}",
        ),
        to(XA, lambda t: t.source.namespace != "x"),
    ),
    case(
        "pods by expression",
        policy(
            "b-or-c",
            f"{{{TO_XA}, ingress: [{{from: [{{podSelector: "
            "{matchExpressions: [{key: pod, operator: In, values: [b, c]}, "
            "{key: absent, operator: DoesNotExist}]}}]}]}",
        ),
        to(XA, lambda t: t.source in {X["b"], X["c"]}),
    ),
    case(
        "pods of namespaces: both selectors in one peer",
        policy(
            "and",
            f"{{{TO_XA}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: y}}}}, "
            "podSelector: {matchLabels: {pod: b}}}]}]}",
        ),
        to(XA, lambda t: t.source == Y["b"]),
    ),
    case(
        "pods or namespaces: a selector in each of two peers",
        policy(
            "or",
            f"{{{TO_XA}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: y}}}}}}, "
            "{podSelector: {matchLabels: {pod: b}}}]}]}",
        ),
        to(XA, lambda t: t.source.namespace == "y" or t.source == X["b"]),
    ),
    case(
        "all namespaces",
        DENY_INGRESS
        + policy("all", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}"),
        everything,
    ),
    case(
        "a port by number",
        policy("port", f"{{{TO_XA}, ingress: [{{ports: [{{port: 81, protocol: TCP}}]}}]}}"),
        to(XA, lambda t: (t.protocol, t.port) == ("tcp", 81)),
        *ALL,
    ),
    case(
        "a port by name",
        policy("named", f"{{{TO_XA}, ingress: [{{ports: [{{port: serve-81}}]}}]}}"),
        to(XA, lambda t: (t.protocol, t.port) == ("tcp", 81)),
        "tcp",
        "udp",
    ),
    case(
        "a port by a name that no pod has",
        policy("unnamed", f"{{{TO_XA}, ingress: [{{ports: [{{port: serve-99}}]}}]}}"),
        to(XA, nobody),
    ),
    case(
        "a range of ports",
        policy(
            "range",
            f"{{{TO_XA}, ingress: [{{ports: [{{port: 81, endPort: 90, protocol: TCP}}]}}]}}",
        ),
        to(XA, lambda t: (t.protocol, t.port) == ("tcp", 81)),
        "tcp",
        "udp",
    ),
    case(
        "a namespace and a port",
        policy(
            "y-81",
            f"{{{TO_XA}, ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{ns: y}}}}}}], "
            "ports: [{port: 81}]}]}",
        ),
        to(XA, lambda t: t.source.namespace == "y" and t.port == 81),
    ),
    case(
        "several policies add up",
        policy(
            "one",
            f"{{{TO_XA}, ingress: [{{ports: [{{port: 80}}], from: [{{podSelector: {{}}}}]}}]}}",
        )
        + policy(
            "two",
            f"{{{TO_XA}, ingress: [{{ports: [{{port: 81}}], "
            "from: [{namespaceSelector: {matchLabels: {ns: y}}}]}]}",
        ),
        to(
            XA,
            lambda t: (t.source.namespace, t.port) in {("x", 80), ("y", 81)},
        ),
    ),
    case(
        "UDP alone",
        policy("udp", f"{{{TO_XA}, ingress: [{{ports: [{{port: 81, protocol: UDP}}]}}]}}"),
        to(XA, lambda t: (t.protocol, t.port) == ("udp", 81)),
        *ALL,
    ),
    case(
        "SCTP alone",
        policy("sctp", f"{{{TO_XA}, ingress: [{{ports: [{{port: 80, protocol: SCTP}}]}}]}}"),
        to(XA, lambda t: (t.protocol, t.port) == ("sctp", 80)),
        *ALL,
    ),
    case(
        "a UDP port by name",
        policy(
            "udp-named",
            f"{{{TO_XA}, ingress: [{{ports: [{{port: serve-81-udp, protocol: UDP}}]}}]}}",
        ),
        to(XA, lambda t: (t.protocol, t.port) == ("udp", 81)),
        "tcp",
        "udp",
    ),
    case(
        "egress to pods of a namespace",
        policy(
            "to-y",
            f"{{{TO_XA}, policyTypes: [Egress], "
            "egress: [{to: [{namespaceSelector: {matchLabels: {ns: y}}}]}]}",
        ),
        of(XA, lambda t: t.destination.namespace == "y"),
    ),
    case(
        "egress by the name of the other side's port",
        policy(
            "to-named",
            f"{{{TO_XA}, policyTypes: [Egress], egress: [{{ports: [{{port: serve-80}}]}}]}}",
        ),
        of(XA, lambda t: t.port == 80),
    ),
    case(
        "egress rules without policyTypes close ingress too",
        policy("both", f"{{{TO_XA}, egress: [{{to: [{{podSelector: {{}}}}]}}]}}"),
        both(to(XA, nobody), of(XA, lambda t: t.destination.namespace == "x")),
    ),
    case(
        "ingress and egress have both to allow",
        FROM_Y
        + policy(
            "out",
            "{podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress], "
            "egress: [{to: [{namespaceSelector: {matchLabels: {ns: z}}}]}]}",
            "y",
        ),
        both(
            to(XA, lambda t: t.source.namespace == "y"),
            of({Y["b"]}, lambda t: t.destination.namespace == "z"),
        ),
    ),
    case(
        "blocks of addresses",
        policy(
            "block",
            f"{{{TO_XA}, ingress: [{{from: [{{ipBlock: {{cidr: '{{y/a}}/32'}}}}, "
            "{ipBlock: {cidr: '{y/a v6}/128'}}]}]}",
        ),
        to(XA, lambda t: t.source == Y["a"]),
    ),
    case(
        "blocks with exceptions",
        policy(
            "except",
            f"{{{TO_XA}, policyTypes: [Egress], egress: [{{to: ["
            "{ipBlock: {cidr: 10.77.0.0/16, except: ['{y/a}/32']}}, "
            "{ipBlock: {cidr: 'fd77::/16', except: ['{y/a v6}/128']}}]}]}",
        ),
        of(XA, lambda t: t.destination != Y["a"]),
    ),
    case(
        "what one policy excepts, another may allow",
        policy(
            "except",
            f"{{{TO_XA}, policyTypes: [Egress], egress: [{{to: ["
            "{ipBlock: {cidr: 10.77.0.0/16, except: ['{y/a}/32', '{y/b}/32']}}, "
            "{ipBlock: {cidr: 'fd77::/16', except: ['{y/a v6}/128', '{y/b v6}/128']}}]}]}",
        )
        + policy(
            "allow",
            f"{{{TO_XA}, policyTypes: [Egress], egress: [{{to: [{{namespaceSelector: "
            "{matchLabels: {ns: y}}, podSelector: {matchLabels: {pod: a}}}]}]}",
        ),
        of(XA, lambda t: t.destination != Y["b"]),
    ),
    case(
        "a policy concerns its namespace alone",
        policy("deny", f"{{{TO_XA}}}", "y"),
        to(YA, nobody),
    ),
    Case(
        "denied first, then allowed, then updated, then gone",
        (
            Step(to(NAMESPACE_X, nobody), DENY_INGRESS),
            Step(
                to(NAMESPACE_X, lambda t: t.source == Y["a"]),
                DENY_INGRESS
                + policy(
                    "allow",
                    "{podSelector: {}, ingress: [{from: [{namespaceSelector: "
                    "{matchLabels: {ns: y}}, podSelector: {matchLabels: {pod: a}}}]}]}",
                ),
            ),
            Step(
                to(NAMESPACE_X, lambda t: t.source == Y["b"]),
                DENY_INGRESS
                + policy(
                    "allow",
                    "{podSelector: {}, ingress: [{from: [{namespaceSelector: "
                    "{matchLabels: {ns: y}}, podSelector: {matchLabels: {pod: b}}}]}]}",
                ),
            ),
            Step(everything),
        ),
    ),
    Case(
        "labels of pods change",
        (
            Step(
                to(XA, lambda t: t.source == X["b"]),
                FROM_B,
            ),
            Step(
                to(XA, lambda t: t.source == X["c"]),
                FROM_B,
                pod_labels={X["b"]: {"pod": "other"}, X["c"]: {"pod": "b"}},
            ),
            Step(
                to({X["b"]}, nobody),
                policy("b", "{podSelector: {matchLabels: {pod: target}}}"),
                pod_labels={X["b"]: {"pod": "target"}},
            ),
        ),
    ),
    Case(
        "labels of namespaces change",
        (
            Step(
                to(XA, lambda t: t.source.namespace == "z"),
                FROM_Y,
                namespace_labels={"y": {"ns": "other"}, "z": {"ns": "y"}},
            ),
            Step(
                to(XA, lambda t: t.source.namespace == "y"),
                FROM_Y,
            ),
        ),
    ),
)
