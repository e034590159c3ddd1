"""Selectors: one form for each meaning, and Kubernetes' semantics."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.policy.engine.selector import (
    NOTHING,
    canonical,
    canonical_endpoints,
    canonical_nodes,
    matches,
)
from services.policy.model import EndpointSelector, LabelSelector, NodeSelector, Requirement
from services.policy.model import Operator as Op
from tests.support.policy_worlds import label_selectors


def selector(*requirements: tuple[str, Op, tuple[str, ...]]) -> LabelSelector:
    return LabelSelector(tuple(Requirement(*one) for one in requirements))


@pytest.mark.parametrize(
    ("operator", "values", "labels", "selected"),
    [
        (Op.IN, ("x", "y"), {"a": "y"}, True),
        (Op.IN, ("x", "y"), {"a": "z"}, False),
        (Op.IN, ("x",), {}, False),
        (Op.NOT_IN, ("x",), {"a": "x"}, False),
        (Op.NOT_IN, ("x",), {"a": "y"}, True),
        (Op.NOT_IN, ("x",), {}, True),
        (Op.EXISTS, (), {"a": ""}, True),
        (Op.EXISTS, (), {"b": "x"}, False),
        (Op.DOES_NOT_EXIST, (), {"b": "x"}, True),
        (Op.DOES_NOT_EXIST, (), {"a": ""}, False),
    ],
)
def test_operators_are_those_of_kubernetes(
    operator: Op, values: tuple[str, ...], labels: dict[str, str], *, selected: bool
) -> None:
    assert matches(selector(("a", operator, values)), labels) is selected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("a", Op.IN, ("y", "x", "x"))], [("a", Op.IN, ("x", "y"))]),
        ([("a", Op.IN, ("x", "y")), ("a", Op.NOT_IN, ("x",))], [("a", Op.IN, ("y",))]),
        ([("a", Op.IN, ("x", "y")), ("a", Op.IN, ("y", "z"))], [("a", Op.IN, ("y",))]),
        ([("a", Op.EXISTS, ()), ("a", Op.IN, ("x",))], [("a", Op.IN, ("x",))]),
        ([("a", Op.NOT_IN, ("x",)), ("a", Op.DOES_NOT_EXIST, ())], [("a", Op.DOES_NOT_EXIST, ())]),
        ([("a", Op.NOT_IN, ("x",)), ("a", Op.NOT_IN, ("w",))], [("a", Op.NOT_IN, ("w", "x"))]),
        (
            [("b", Op.EXISTS, ()), ("a", Op.EXISTS, ()), ("b", Op.EXISTS, ())],
            [("a", Op.EXISTS, ()), ("b", Op.EXISTS, ())],
        ),
    ],
)
def test_equal_meaning_is_one_value(
    one: list[tuple[str, Op, tuple[str, ...]]], other: list[tuple[str, Op, tuple[str, ...]]]
) -> None:
    assert canonical(selector(*one)) == canonical(selector(*other)) == selector(*other)


@pytest.mark.parametrize(
    "those",
    [
        [("a", Op.IN, ())],
        [("a", Op.IN, ("x",)), ("a", Op.IN, ("y",))],
        [("a", Op.IN, ("x",)), ("a", Op.NOT_IN, ("x",)), ("b", Op.EXISTS, ())],
        [("a", Op.EXISTS, ()), ("a", Op.DOES_NOT_EXIST, ())],
    ],
)
def test_contradictions_have_one_form(those: list[tuple[str, Op, tuple[str, ...]]]) -> None:
    assert canonical(selector(*those)) == NOTHING


def test_a_contradiction_about_tenants_makes_all_of_it_one() -> None:
    nothing = selector(("a", Op.EXISTS, ()), ("a", Op.DOES_NOT_EXIST, ()))
    found = canonical_endpoints(EndpointSelector(tenants=("t",), tenant_labels=nothing))  # type: ignore[arg-type]
    assert found == EndpointSelector(labels=NOTHING)


def test_names_are_sorted_and_said_once() -> None:
    assert canonical_endpoints(
        EndpointSelector(("b", "a", "b"), ("t", "s"), ("n", "m"))  # type: ignore[arg-type]
    ) == EndpointSelector(("a", "b"), ("s", "t"), ("m", "n"))  # type: ignore[arg-type]
    assert canonical_nodes(NodeSelector(("b", "a", "b"))) == NodeSelector(("a", "b"))  # type: ignore[arg-type]


ALL_LABELS = [
    {key: value for key, value in zip("ab", values, strict=True) if value is not None}
    for values in itertools.product(["x", "y", "z", "other", None], repeat=2)
]
"""The values that `label_selectors` know, one that they do not, and none."""


@given(label_selectors, label_selectors)
def test_forms_are_equal_if_and_only_if_the_same_is_selected(
    one: LabelSelector, other: LabelSelector
) -> None:
    selected = [matches(one, labels) for labels in ALL_LABELS]
    assert selected == [matches(canonical(one), labels) for labels in ALL_LABELS]
    same = selected == [matches(other, labels) for labels in ALL_LABELS]
    assert (canonical(one) == canonical(other)) is same


@given(st.permutations(["a", "b", "c"]))
def test_the_form_is_its_own_form(keys: list[str]) -> None:
    form = canonical(selector(*((key, Op.NOT_IN, ("y", "x")) for key in keys)))
    assert canonical(form) == form
