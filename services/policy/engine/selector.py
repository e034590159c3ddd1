"""Selectors: one form for each meaning, and what they match.

Kubernetes' semantics: NotIn and DoesNotExist match what lacks the label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias, TypeVar

from services.policy.model import (
    EndpointSelector,
    LabelSelector,
    NodeSelector,
    Operator,
    Requirement,
)

NOTHING: Final = LabelSelector((Requirement("", Operator.IN),))
"""The form of all that contradict themselves."""
_EVERYTHING: Final = LabelSelector()

Test: TypeAlias = tuple[str, frozenset[str] | None, bool]
"""A label's key, values (None: any) and whether it shall have one of them."""

_Text = TypeVar("_Text", bound=str)


def canonical(selector: LabelSelector) -> LabelSelector:
    """The form in which selectors of equal meaning are equal values.

    What the requirements leave of a label's possible values is one of: some values; all but some,
    with or without its absence; only its absence; nothing.
    """
    if not selector.requirements:
        return _EVERYTHING
    if len(selector.requirements) == 1 and _is_plain(selector.requirements[0]):
        return selector
    by_key: dict[str, list[Requirement]] = {}
    for one in selector.requirements:
        by_key.setdefault(one.key, []).append(one)
    found: list[Requirement] = []
    for key in sorted(by_key):
        merged = _merge(key, by_key[key])
        if merged is None:
            return NOTHING
        found += merged
    return LabelSelector(tuple(found)) if found else _EVERYTHING


def _is_plain(requirement: Requirement) -> bool:
    """Says whether it is canonical by itself."""
    if requirement.operator is Operator.IN:
        return len(requirement.values) == 1
    return requirement.operator is Operator.EXISTS


def _merge(key: str, requirements: Iterable[Requirement]) -> list[Requirement] | None:
    """All requirements on one label as at most two; None: they contradict each other."""
    among: set[str] | None = None
    without: set[str] = set()
    exists = absent = False
    for one in requirements:
        if one.operator is Operator.IN:
            among = set(one.values) if among is None else among.intersection(one.values)
        elif one.operator is Operator.NOT_IN:
            without.update(one.values)
        elif one.operator is Operator.EXISTS:
            exists = True
        else:
            absent = True
    if absent:
        if exists or among is not None:
            return None
        return [Requirement(key, Operator.DOES_NOT_EXIST)]
    if among is not None:
        values = tuple(sorted(among - without))
        return [Requirement(key, Operator.IN, values)] if values else None
    found = [Requirement(key, Operator.EXISTS)] if exists else []
    if without:
        found.append(Requirement(key, Operator.NOT_IN, tuple(sorted(without))))
    return found


def canonical_endpoints(selector: EndpointSelector) -> EndpointSelector:
    """The same of endpoints."""
    labels, tenant_labels = canonical(selector.labels), canonical(selector.tenant_labels)
    if NOTHING in (labels, tenant_labels):
        return EndpointSelector(labels=NOTHING)
    form = EndpointSelector(
        _sorted(selector.tenants),
        _sorted(selector.segments),
        _sorted(selector.networks),
        labels,
        tenant_labels,
    )
    return selector if form == selector else form


def canonical_nodes(selector: NodeSelector) -> NodeSelector:
    """The same of nodes."""
    labels = canonical(selector.labels)
    if labels == NOTHING:
        return NodeSelector(labels=NOTHING)
    return replace(selector, names=_sorted(selector.names), labels=labels)


def _sorted(names: tuple[_Text, ...]) -> tuple[_Text, ...]:
    return names if len(names) < 2 else tuple(sorted(set(names)))


def tests(selector: LabelSelector) -> tuple[Test, ...]:
    """What `passes` takes: made once, for selectors that are conditions often."""
    return tuple(
        (
            one.key,
            frozenset(one.values) if one.operator in _WITH_VALUES else None,
            one.operator in _POSITIVE,
        )
        for one in selector.requirements
    )


_WITH_VALUES: Final = (Operator.IN, Operator.NOT_IN)
_POSITIVE: Final = (Operator.IN, Operator.EXISTS)


def passes(conditions: tuple[Test, ...], labels: Mapping[str, str]) -> bool:
    """Says whether labels have all that is conditions."""
    for key, values, wanted in conditions:
        if values is None:
            if (key in labels) is not wanted:
                return False
        elif (labels.get(key) in values) is not wanted:
            return False
    return True


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    return passes(tests(selector), labels)
