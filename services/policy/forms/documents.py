"""Reads documents with policies and tenants, in whichever form they are written.

Three forms, told apart by content: our own (`own`), Kubernetes' objects (`kubernetes`), and
the earlier Romana's JSON (`romana_v2`). Field paths in errors are those of the document, with its
line where it is known. In a text of several YAML documents a path begins with the number of the
document: `[1].spec.podSelector`.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from services.common.document.fields import Fields, Findings
from services.common.document.tree import TEXT_PATH, Items, Table, Tree, read_trees
from services.common.errors import InvalidInput, Violation
from services.common.model.names import NetworkName, Tenant
from services.common.model.rules import PolicyName
from services.policy.checks.policies import check, check_references, check_tenant
from services.policy.forms import kubernetes, romana_v2
from services.policy.forms.own import read_policy, read_tenant
from services.policy.forms.reading import Read
from services.policy.model import Policy, PolicyNetwork, TenantRecord

T = TypeVar("T")
Name = TypeVar("Name", bound=str)


class Form(StrEnum):
    ROMANA = "romana"
    KUBERNETES = "kubernetes"
    ROMANA_V2 = "romana_v2"


@dataclass(frozen=True, slots=True)
class Document:
    """What a document says; sound in itself."""

    read_policies: tuple[Read[Policy], ...]
    read_tenants: tuple[Read[TenantRecord], ...]
    findings: Findings

    @property
    def policies(self) -> tuple[Policy, ...]:
        return tuple(one.value for one in self.read_policies)

    @property
    def tenants(self) -> tuple[TenantRecord, ...]:
        return tuple(one.value for one in self.read_tenants)

    @property
    def warnings(self) -> list[tuple[PolicyName, Violation]]:
        """What is not held to as it is written, with the policy."""
        return [
            (one.value.name, problem)
            for one in self.read_policies
            for problem in self.findings.located(list(one.warnings))
        ]

    def also_in(
        self, policies: Mapping[PolicyName, str], tenants: Mapping[Tenant, str]
    ) -> list[Violation]:
        """What is elsewhere, too: there, by name, in what."""
        return self.findings.located(
            [
                *_also_in(
                    self.read_policies, [one.name for one in self.policies], "policy", policies
                ),
                *_also_in(self.read_tenants, [one.name for one in self.tenants], "tenant", tenants),
            ]
        )

    def references(self, networks: Container[NetworkName]) -> list[Violation]:
        """Networks that it names and that do not exist."""
        return self.findings.located(
            [
                problem
                for one in self.read_policies
                for problem in one.located(check_references(one.value, networks))
            ]
        )


def read_document(
    content: bytes,
    form: Form | None = None,
    *,
    source: str = "",
    default_namespace: str = "",
    networks: Collection[PolicyNetwork] = (),
    groups: Container[str] | None = None,
) -> Document:
    """Reads and checks a document.

    Args:
        content: UTF-8, at most 8 MiB.
        form: None: told by the content.
        source: name of the document, for its readers.
        default_namespace: of Kubernetes' objects that name none; empty: "default".
        networks: for policies of the earlier Romana that are applied to CIDRs.
        groups: groups of devices that there are, for Kubernetes' objects; None: unknown.

    Raises:
        InvalidInput: with everything that is wrong.
    """
    findings = Findings(source=source)
    policies: list[Read[Policy]] = []
    tenants: list[Read[TenantRecord]] = []
    trees = read_texts(content, source)
    for number, tree in enumerate(trees):
        at = f"[{number}]" if len(trees) > 1 else ""
        match form or form_of(tree):
            case Form.KUBERNETES:
                objects = kubernetes.read(
                    tree, at, findings, default_namespace=default_namespace, groups=groups
                )
                policies += objects.policies
                tenants += objects.tenants
            case Form.ROMANA_V2:
                policies += romana_v2.read(tree, at, findings, networks=networks)
            case _:
                _own(tree, at, findings, policies, tenants)
    document = Document(tuple(policies), tuple(tenants), findings)
    problems = [*findings.problems, *_problems(document, _heads(findings.problems))]
    if problems:
        raise InvalidInput.of(findings.located(problems))
    return document


def form_of(tree: Tree) -> Form:
    """How a document is written, by its looks."""
    if kubernetes.is_kubernetes(tree):
        return Form.KUBERNETES
    return Form.ROMANA_V2 if romana_v2.is_romana_v2(tree) else Form.ROMANA


def read_texts(content: bytes, source: str) -> list[Tree]:
    """Reads the documents of a text; raises InvalidInput with line and column."""
    place = f" (in {source})" if source else ""
    try:
        return read_trees(content.decode())
    except UnicodeDecodeError as error:
        raise InvalidInput.at("", f"the document is not UTF-8 text: {error}{place}") from None
    except InvalidInput as error:
        error.message += place
        error.violations = [
            Violation("" if one.path == TEXT_PATH else one.path, f"{one.message}{place}")
            for one in error.violations
        ]
        raise


def _own(
    tree: Tree,
    at: str,
    findings: Findings,
    policies: list[Read[Policy]],
    tenants: list[Read[TenantRecord]],
) -> None:
    """Reads our own form: a file, a list of policies, or one policy."""
    if isinstance(tree, Items):
        for number, item in enumerate(tree.items):
            policies.append(read_policy(item, f"{at}[{number}]", findings))
    elif isinstance(tree, Table) and "targets" in tree.items:
        policies.append(read_policy(tree, at, findings))
    else:
        fields = Fields(tree, at, findings)
        policies += [read_policy(item, at, findings) for item, at in fields.each("policies")]
        tenants += [read_tenant(item, at, findings) for item, at in fields.each("tenants")]
        fields.end()


def _heads(problems: list[Violation]) -> set[str]:
    """The field paths of problems and of all that they are in."""
    found = {""} if problems else set()
    for one in problems:
        path = one.path
        while path and path not in found:
            found.add(path)
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return found


def _problems(document: Document, unread: set[str]) -> Iterator[Violation]:
    """What is wrong with what could be read; the rest would be blamed for what is missing."""
    for one in document.read_policies:
        if one.at not in unread:
            yield from one.located(check(one.value))
    for other in document.read_tenants:
        if other.at not in unread:
            yield from other.located(check_tenant(other.value))
    yield from _twice(document.read_policies, [one.name for one in document.policies], "policy")
    yield from _twice(document.read_tenants, [one.name for one in document.tenants], "tenant")


def _twice(items: Collection[Read[T]], names: list[str], noun: str) -> Iterator[Violation]:
    seen: set[str] = set()
    for item, name in zip(items, names, strict=True):
        if name in seen:
            yield from _another(item, name, noun)
        seen.add(name)


def _also_in(
    items: Collection[Read[T]], names: Sequence[Name], noun: str, others: Mapping[Name, str]
) -> Iterator[Violation]:
    for item, name in zip(items, names, strict=True):
        if name in others:
            yield from _another(item, name, noun, f" in {others[name]}")


def _another(item: Read[T], name: str, noun: str, place: str = "") -> list[Violation]:
    text = f"there is another {noun} {name[:80]!r}{place}"
    return item.located(iter((Violation("name", text),)))
