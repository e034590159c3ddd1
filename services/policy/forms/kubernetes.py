"""Reads objects of Kubernetes: NetworkPolicy, ClusterNetworkPolicy, Namespace, lists of them.

A namespace is a tenant. A policy is called NAMESPACE/NAME, one of the cluster
ClusterNetworkPolicy/NAME, which no namespace is called; it keeps its labels and its text. What
Kubernetes takes for granted is written out: policy types by default, TCP by default, the label
`kubernetes.io/metadata.name` of every namespace. A field that NetworkPolicy does not have is an
error: it is most likely a condition that would be lost. Metadata that selects nothing is ignored.

A namespace that is isolated in the old way, by the annotation `net.beta.kubernetes.io/
networkpolicy`, becomes a policy that selects all of it and allows nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Final

from services.common.document.fields import Fields, Findings
from services.common.document.tree import Table, Tree, read_json, to_json
from services.common.errors import InvalidInput, Violation
from services.common.model.names import Tenant
from services.common.model.rules import (
    Direction,
    PolicyName,
    PortMatch,
    Protocol,
    Tier,
)
from services.policy.forms.cluster_network_policy import accepting, read_spec
from services.policy.forms.device_annotations import annotations_there, read_annotations
from services.policy.forms.reading import KUBERNETES, Read, label_selector
from services.policy.forms.reading import block as read_block
from services.policy.model import (
    Anything,
    EndpointSelector,
    Origin,
    Peer,
    Policy,
    Rule,
    TenantRecord,
)

KIND: Final = "kubernetes"
"""`Origin.kind`."""
NAME_LABEL: Final = "kubernetes.io/metadata.name"
ANNOTATION: Final = "net.beta.kubernetes.io/networkpolicy"
ANNOTATED: Final = "networkpolicy-annotation"
"""Name, in its namespace, of the policy that stands for the annotation."""

CLUSTER: Final = "ClusterNetworkPolicy"
"""First part of the names of policies of the cluster."""

_POLICY_VERSION: Final = "networking.k8s.io/v1"
_CLUSTER_VERSION: Final = "policy.networking.k8s.io/v1alpha2"
_VERSIONS: Final = {
    "NetworkPolicy": _POLICY_VERSION,
    "NetworkPolicyList": _POLICY_VERSION,
    "ClusterNetworkPolicy": _CLUSTER_VERSION,
    "ClusterNetworkPolicyList": _CLUSTER_VERSION,
    "Namespace": "v1",
    "NamespaceList": "v1",
    "List": "v1",
}
_ITEMS: Final = {
    "NetworkPolicyList": "NetworkPolicy",
    "ClusterNetworkPolicyList": "ClusterNetworkPolicy",
    "NamespaceList": "Namespace",
    "List": "",
}
_METADATA: Final = (
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)
_PORT_NAME: Final = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
"""IANA's service names, RFC 6335."""
_PROTOCOLS: Final = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}
_SIDES: Final = {Direction.INGRESS: "from", Direction.EGRESS: "to"}
_NAMES: Final = {"end_port": "endPort", "port_name": "port"}


@dataclass(slots=True)
class Objects:
    """What was read."""

    policies: list[Read[Policy]] = field(default_factory=list)
    tenants: list[Read[TenantRecord]] = field(default_factory=list)


def is_kubernetes(tree: Tree) -> bool:
    """Says whether it looks like an object of Kubernetes."""
    return isinstance(tree, Table) and bool({"apiVersion", "kind"} & tree.items.keys())


def read(
    tree: Tree,
    at: str,
    findings: Findings,
    *,
    default_namespace: str = "",
    groups: Container[str] | None = None,
) -> Objects:
    """Reads an object or list; `groups`: the groups of devices that there are, if that is known.

    What is wrong with its shape is added to `findings`; nothing of it counts then, and what could
    not be read stands for nothing in particular.
    """
    objects = Objects()
    _Reader(findings, default_namespace or "default", groups, objects).object(tree, at)
    return objects


class _Reader:
    """Collects what is in one document."""

    def __init__(
        self,
        findings: Findings,
        namespace: str,
        groups: Container[str] | None,
        objects: Objects,
    ) -> None:
        self._findings = findings
        self._namespace = namespace
        self._groups = groups
        self._objects = objects

    def object(self, tree: Tree, at: str, expected: str = "", *, is_item: bool = False) -> None:
        """Reads an object; an item of a typed list may leave its kind to the list."""
        fields = Fields(tree, at, self._findings)
        kind = fields.text("kind") or expected
        version = fields.text("apiVersion") or (_VERSIONS[expected] if expected else "")
        if kind not in _VERSIONS or (is_item and kind in _ITEMS):
            self._findings.wrong(
                fields.path("kind"),
                f"{kind[:80]!r} is not read here: {', '.join(_VERSIONS)}" if kind else "is missing",
            )
        elif version != _VERSIONS[kind]:
            self._findings.wrong(
                fields.path("apiVersion"), f"{version[:80]!r} is not {_VERSIONS[kind]!r}"
            )
        elif kind in _ITEMS:
            fields.ignore("metadata")
            for item, place in fields.each("items"):
                self.object(item, place, _ITEMS[kind], is_item=True)
            fields.end()
        elif kind == "NetworkPolicy":
            self._policy(tree, fields)
            fields.end()
        elif kind == "ClusterNetworkPolicy":
            self._cluster_policy(tree, fields)
            fields.end()
        else:
            self._tenant(fields)
            fields.end()

    def _cluster_policy(self, tree: Tree, fields: Fields) -> None:
        metadata = fields.part("metadata")
        name, labels = metadata.text("name"), metadata.mapping("labels")
        metadata.ignore(*_METADATA)
        metadata.end()
        fields.ignore("status")
        if not name:
            self._findings.wrong(metadata.path("name"), "is missing")
            return
        places = {"name": metadata.path("name"), "labels": metadata.path("labels")}
        places |= {one: fields.path(f"spec.{one}") for one in ("tier", "priority")}
        inside = fields.part("spec")
        devices = read_annotations(metadata, accepting(inside), self._groups)
        spec = read_spec(inside, self._findings, places, devices)
        policy = Policy(
            name=PolicyName(f"{CLUSTER}/{name}"),
            tier=spec.tier,
            targets=(spec.target,),
            rules=spec.rules,
            priority=spec.priority,
            labels=labels,
            origin=Origin(KIND, json.dumps(to_json(tree), ensure_ascii=False)),
        )
        self._objects.policies.append(
            Read(policy, fields.at, places, warnings=tuple(spec.warnings))
        )

    def _tenant(self, fields: Fields) -> None:
        metadata = fields.part("metadata")
        name = metadata.text("name")
        at = metadata.path("name")
        labels = {**metadata.mapping("labels"), NAME_LABEL: name}
        annotation = metadata.mapping("annotations").get(ANNOTATION, "")
        metadata.ignore(*_METADATA)
        metadata.end()
        fields.ignore("spec", "status")
        self._objects.tenants.append(
            Read(
                TenantRecord(Tenant(name), labels),
                fields.at,
                {"name": at, "labels": metadata.path("labels")},
            )
        )
        if annotation and self._isolates(annotation, metadata.path("annotations")):
            policy = Policy(
                name=PolicyName(f"{name}/{ANNOTATED}"),
                tier=Tier.TENANT,
                targets=(EndpointSelector(tenants=(Tenant(name),)),),
                rules={Direction.INGRESS: ()},
                description=f"Annotation {ANNOTATION} of namespace {name}",
                origin=Origin(KIND, annotation),
            )
            self._objects.policies.append(Read(policy, fields.at, {"name": at}))

    def _isolates(self, annotation: str, at: str) -> bool:
        place = f"{at}[{ANNOTATION!r}]"
        try:
            tree = read_json(annotation)
        except InvalidInput as error:
            self._findings.wrong(place, f"is not JSON: {error}")
            return False
        ingress = Fields(tree, place, self._findings)
        inner = ingress.part("ingress")
        return inner.text("isolation") == "DefaultDeny"

    def _policy(self, tree: Tree, fields: Fields) -> None:
        metadata = fields.part("metadata")
        name = metadata.text("name")
        namespace = metadata.text("namespace") or self._namespace
        labels = metadata.mapping("labels")
        warnings = tuple(
            Violation(place, "is for ClusterNetworkPolicies: it has no effect here")
            for _, place, _ in annotations_there(metadata)
        )
        metadata.ignore(*_METADATA)
        metadata.end()
        fields.ignore("status")
        if not name:
            self._findings.wrong(metadata.path("name"), "is missing")
            return
        places = {
            "name": metadata.path("name"),
            "labels": metadata.path("labels"),
            "targets[0].endpoints.tenants": metadata.path("namespace"),
        }
        spec = fields.part("spec")
        inside = _Spec(spec, Tenant(namespace), self._findings, places)
        policy = Policy(
            name=PolicyName(f"{namespace}/{name}"),
            tier=Tier.TENANT,
            targets=(inside.target(),),
            rules=inside.rules(),
            labels=labels,
            origin=Origin(KIND, json.dumps(to_json(tree), ensure_ascii=False)),
        )
        spec.end()
        self._objects.policies.append(Read(policy, fields.at, places, _NAMES, warnings))


class _Spec:
    def __init__(
        self, fields: Fields, namespace: Tenant, findings: Findings, places: dict[str, str]
    ) -> None:
        self._fields = fields
        self._namespace = namespace
        self._findings = findings
        self._places = places

    def target(self) -> EndpointSelector:
        labels = label_selector(
            self._fields.child("podSelector"),
            self._fields.path("podSelector"),
            self._findings,
            KUBERNETES,
            api="targets[0].endpoints.labels",
            places=self._places,
        )
        return EndpointSelector(tenants=(self._namespace,), labels=labels)

    def rules(self) -> dict[Direction, tuple[Rule, ...]]:
        """By the directions that the policy governs; rules of others mean nothing."""
        found = {direction: tuple(self._rules(direction)) for direction in Direction}
        types = self._types()
        if not types:
            types = {Direction.INGRESS} | ({Direction.EGRESS} if found[Direction.EGRESS] else set())
        return {direction: rules for direction, rules in found.items() if direction in types}

    def _types(self) -> set[Direction]:
        found = set()
        for number, text in enumerate(self._fields.texts("policyTypes")):
            if text in {"Ingress", "Egress"}:
                found.add(Direction(text.lower()))
            else:
                self._findings.wrong(
                    f"{self._fields.path('policyTypes')}[{number}]",
                    f"{text[:80]!r} is not one of Ingress, Egress",
                )
        return found

    def _rules(self, direction: Direction) -> Iterator[Rule]:
        side = _SIDES[direction]
        for number, (item, at) in enumerate(self._fields.each(direction)):
            api = f"{direction}[{number}]"
            self._places[api] = at
            self._places[f"{api}.peers"] = f"{at}.{side}"
            fields = Fields(item, at, self._findings)
            peers = tuple(
                self._peer(each, where, f"{api}.peers[{place}]")
                for place, (each, where) in enumerate(fields.each(side))
            )
            ports = tuple(self._port(each, where) for each, where in fields.each("ports"))
            fields.end()
            yield Rule(peers=peers or (Anything(),), ports=ports or (PortMatch(),))

    def _peer(self, tree: Tree, at: str, api: str) -> Peer:
        fields = Fields(tree, at, self._findings)
        block, pods, namespaces = (
            fields.child(name) for name in ("ipBlock", "podSelector", "namespaceSelector")
        )
        fields.end()
        if block is not None:
            if pods is not None or namespaces is not None:
                self._findings.wrong(at, "ipBlock goes with no selector")
            self._places[f"{api}.cidr"] = fields.path("ipBlock")
            # the API server takes host bits, and nobody means an address by them
            return read_block(fields.part("ipBlock"), host_bits=True) or Anything()
        if pods is None and namespaces is None:
            self._findings.wrong(at, "one of ipBlock, podSelector and namespaceSelector is needed")
        return EndpointSelector(
            tenants=(self._namespace,) if namespaces is None else (),
            labels=label_selector(
                pods,
                fields.path("podSelector"),
                self._findings,
                KUBERNETES,
                api=f"{api}.endpoints.labels",
                places=self._places,
            ),
            tenant_labels=label_selector(
                namespaces,
                fields.path("namespaceSelector"),
                self._findings,
                KUBERNETES,
                api=f"{api}.endpoints.tenant_labels",
                places=self._places,
            ),
        )

    def _port(self, tree: Tree, at: str) -> PortMatch:
        fields = Fields(tree, at, self._findings)
        word = fields.text("protocol") or "TCP"
        port = fields.text("port")
        last = fields.number("endPort") or 0
        fields.end()
        protocol = _PROTOCOLS.get(word)
        if protocol is None:
            self._findings.wrong(
                fields.path("protocol"), f"{word[:80]!r} is not one of {', '.join(_PROTOCOLS)}"
            )
            protocol = Protocol.TCP
        if not fields.has("port"):
            return PortMatch(protocol, last=last)
        if not (port.isascii() and port.isdigit()):
            if not _PORT_NAME.fullmatch(port):
                self._findings.wrong(
                    fields.path("port"),
                    f"{port[:80]!r} is not a port: 1 to 65535, or a name of at most 15 of a-z, 0-9 "
                    "and '-' with a letter",
                )
            return PortMatch(protocol, name=port, last=last)
        first = int(port[:10])
        if not first:
            self._findings.wrong(fields.path("port"), "0 is not a port: 1 to 65535")
        return PortMatch(protocol, first, last or first)
