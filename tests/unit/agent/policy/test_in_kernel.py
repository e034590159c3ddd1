"""What a table lacks, and what is too much in it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.agent.kernel.nftables.table import (
    Base,
    Chain,
    Count,
    Element,
    Found,
    Goto,
    Hook,
    Image,
    Rule,
    Shape,
    Verdict,
)
from services.agent.rules.in_kernel import InKernel, compare
from services.agent.rules.render_rules import Counted
from services.agent.streams.answering import Difference, Kind
from services.common.model.rules import Direction, PolicyName

FIRST = Rule((Count("c-1"), Verdict.DROP), "p ingress 0")
SECOND = Rule((Count("c-1"), Verdict.ACCEPT), "p ingress 0")
THIRD = Rule((Goto("r-1"),))
COUNTED = {
    "c-2": Counted(PolicyName("p"), Direction.INGRESS, "10"),
    "c-1": Counted(PolicyName("p"), Direction.INGRESS, "2"),
    "spoofed": None,
}
BASE = Base(Hook.FORWARD, 0)
IMAGE = Image(
    {"r-1": Chain((FIRST, SECOND)), "forward": Chain((THIRD,), BASE)},
    {"to4": Shape(Element.ADDRESS_4, is_map=True)},
    {"c-1", "c-2", "spoofed"},
    {"to4": {b"abcd": "r-1", b"efgh": "r-1"}},
)
WHOLE = Found(
    {"r-1": (None, (FIRST.tag, SECOND.tag)), "forward": (BASE, (THIRD.tag,))},
    IMAGE.sets,
    frozenset(IMAGE.counters),
    IMAGE.elements,
)


def against(found: Found | None) -> InKernel:
    return compare(IMAGE, COUNTED, found, {"c-1": (7, 700)})


def test_a_table_that_is_as_it_shall_be_has_all_rules_and_no_difference() -> None:
    found = against(WHOLE)
    assert found.differences == ()
    assert [(one.rule.rule, one.wanted, one.there) for one in found.rules] == [
        ("2", 2, 2),
        ("10", 0, 0),
    ]
    assert (found.rules[0].packets, found.rules[0].size) == (7, 700)


@pytest.mark.parametrize(
    ("chains", "there", "differences"),
    [
        (
            {"r-1": (None, (SECOND.tag,))},
            1,
            {Difference(Kind.MISSING, "rule 0 of chain r-1 (p ingress 0)")},
        ),
        (
            {"r-1": (None, (FIRST.tag, "", SECOND.tag))},
            2,
            {Difference(Kind.STRANGE, "1 rule of chain r-1")},
        ),
        (
            {"r-1": (None, (SECOND.tag, FIRST.tag))},
            2,
            {Difference(Kind.CHANGED, "chain r-1: the order of its rules")},
        ),
        ({"x": (None, ())}, 2, {Difference(Kind.STRANGE, "chain x")}),
        (
            {"forward": (replace(BASE, priority=9), (THIRD.tag,))},
            2,
            {Difference(Kind.CHANGED, "the table inet romana: chains or sets of another kind")},
        ),
    ],
)
def test_chains(
    chains: dict[str, tuple[Base | None, tuple[str, ...]]],
    there: int,
    differences: set[Difference],
) -> None:
    found = against(replace(WHOLE, chains={**WHOLE.chains, **chains}))
    assert found.rules[0].there == there
    assert set(found.differences) == differences


def test_a_chain_that_is_gone() -> None:
    found = against(replace(WHOLE, chains={"forward": WHOLE.chains["forward"]}))
    assert found.rules[0].there == 0
    assert found.differences == (Difference(Kind.MISSING, "chain r-1"),)


def test_elements_counters_and_sets() -> None:
    found = against(
        replace(
            WHOLE,
            elements={"to4": {b"abcd": "other", b"ijkl": "r-1"}, "x": {b"abcd": ""}},
            sets={**WHOLE.sets, "x": Shape(Element.ADDRESS_4)},
            counters=frozenset({"c-1", "c-2", "mine"}),
        )
    )
    assert set(found.differences) == {
        Difference(Kind.MISSING, "1 element of set to4"),
        Difference(Kind.STRANGE, "1 element of set to4"),
        Difference(Kind.CHANGED, "1 element of set to4"),
        Difference(Kind.STRANGE, "set x"),
        Difference(Kind.MISSING, "counter spoofed"),
        Difference(Kind.STRANGE, "counter mine"),
    }


def test_no_table() -> None:
    found = against(None)
    assert found.rules[0].there == 0
    assert found.differences == (Difference(Kind.MISSING, "the table inet romana"),)
