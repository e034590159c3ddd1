"""What readers of documents share: where things were read, and selectors in either spelling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from services.common.document.fields import Fields, Findings
from services.common.document.tree import Tree
from services.common.document.values import parse_prefix
from services.common.errors import Violation
from services.common.model.rules import CidrBlock
from services.policy.model import LabelSelector, Operator, Requirement

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """A value, and where the document has it."""

    value: T
    at: str = ""
    """Field path of the object."""
    places: Mapping[str, str] = field(default_factory=dict)
    """The document's paths of the API's, where they are not the same below `at`."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The document's names of the API's fields."""
    warnings: Sequence[Violation] = ()
    """What is not held to as it is written, by the document's paths."""

    def located(self, problems: Iterator[Violation]) -> list[Violation]:
        """Problems by the API's field paths, as problems by the document's."""
        return [Violation(self._place(one.path), one.message) for one in problems]

    def _place(self, path: str) -> str:
        known, rest = path, ""
        while known and known not in self.places:
            known = known[: max(known.rfind("."), known.rfind("["), 0)]
            rest = path[len(known) :]
        rest = rest if known else path
        head = self.places[known] if known else self.at
        if not rest:
            return head
        parts = [self.names.get(part, part) for part in rest.removeprefix(".").split(".")]
        return f"{head}{'' if rest.startswith('[') or not head else '.'}{'.'.join(parts)}"


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a form writes selectors of labels."""

    match_labels: tuple[str, ...]
    match_expressions: tuple[str, ...]
    operator: Callable[[str], Operator]
    """Raises ValueError."""


def spelled_loosely(text: str) -> Operator:
    """Reads an operator in any case, also as the API's enum."""
    word = text.upper().removeprefix("LABEL_OPERATOR_").replace("_", "")
    for operator in Operator:
        if operator.upper() == word:
            return operator
    raise ValueError(text)


OWN = Spelling(
    ("match_labels", "matchLabels"), ("match_expressions", "matchExpressions"), spelled_loosely
)
KUBERNETES = Spelling(("matchLabels",), ("matchExpressions",), Operator)


def label_selector(
    tree: Tree | None,
    at: str,
    findings: Findings,
    spelling: Spelling,
    *,
    api: str,
    places: dict[str, str],
) -> LabelSelector:
    """Reads a selector of labels.

    Args:
        tree: None: it is not given.
        at: its field path in the document.
        api: its field path in the API.
        places: gets the places of its conditions.
    """
    if tree is None:
        return LabelSelector()
    places[api] = at
    fields = Fields(tree, at, findings)
    found: list[Requirement] = []
    name = fields.spelled(*spelling.match_labels)
    for key, value in fields.mapping(name).items():
        places[f"{api}[{key[:80]!r}]"] = fields.key_path(name, key)
        found.append(Requirement(key, Operator.IN, (value,)))
    for item, place in fields.each(fields.spelled(*spelling.match_expressions)):
        expression = Fields(item, place, findings)
        key = expression.text("key")
        values = expression.texts("values")
        operator = _operator(expression, findings, spelling)
        expression.end()
        places[f"{api}[{key[:80]!r}]"] = place
        if operator is not None:
            found.append(Requirement(key, operator, values))
    fields.end()
    return LabelSelector(tuple(found))


def _operator(fields: Fields, findings: Findings, spelling: Spelling) -> Operator | None:
    text = fields.text("operator")
    try:
        return spelling.operator(text)
    except ValueError:
        known = ", ".join(Operator)
        findings.wrong(
            fields.path("operator"),
            f"{text[:80]!r} is not one of {known}" if text else f"is missing: one of {known}",
        )
        return None


def block(fields: Fields, *, host_bits: bool = False) -> CidrBlock | None:
    """Reads a prefix with exceptions; None: it is missing or wrong.

    `host_bits`: they may have some, which mean nothing.
    """
    problems = fields.findings.problems
    cidr, at = None, fields.path("cidr")
    if text := fields.text("cidr"):
        cidr = parse_prefix(text, at, problems, host_bits=host_bits)
    else:
        fields.wrong("cidr", "is missing")
    exceptions = [
        parse_prefix(text, f"{fields.path('except')}[{number}]", problems, host_bits=host_bits)
        for number, text in enumerate(fields.texts("except"))
    ]
    fields.end()
    return None if cidr is None else CidrBlock(cidr, tuple(filter(None, exceptions)))
