"""What the kernel has of the rules, beside what it shall have: for people who ask. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from services.agent.kernel.nftables.table import RULES_TABLE, Changes, Found, Image
from services.agent.kernel.nftables.table import Count as CountStatement
from services.agent.kernel.nftables.table_diff import diff
from services.agent.rules.render_rules import Counted
from services.agent.streams.answering import Difference, Kind
from services.common.terminal.plural import count

Counts: TypeAlias = Mapping[str, tuple[int, int]]
"""Packets and bytes by counter."""


@dataclass(frozen=True, slots=True)
class RuleThere:
    """A rule of a policy."""

    rule: Counted
    wanted: int
    """Rules of the kernel that are made of it."""
    there: int
    """Those of them that it has."""
    packets: int
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class InKernel:
    rules: tuple[RuleThere, ...]
    """By policy, direction and number."""
    differences: tuple[Difference, ...]


def compare(
    image: Image, counted: Mapping[str, object], found: Found | None, counts: Counts
) -> InKernel:
    """Compares a table with what it shall be.

    Args:
        image: What it shall be.
        counted: What its counters count.
        found: What it is; None: there is none.
        counts: What its counters say.
    """
    there = found or Found()
    wanted: Counter[str] = Counter()
    has: Counter[str] = Counter()
    for name, chain in image.chains.items():
        tags = Counter(there.chains[name][1]) if name in there.chains else Counter[str]()
        for rule in chain.rules:
            is_there = tags[rule.tag] > 0
            tags[rule.tag] -= is_there
            for statement in rule.statements:
                if isinstance(statement, CountStatement):
                    wanted[statement.name] += 1
                    has[statement.name] += is_there
    rules = [
        RuleThere(of, wanted[name], has[name], *counts.get(name, (0, 0)))
        for name, of in counted.items()
        if isinstance(of, Counted)
    ]
    rules.sort(key=lambda one: (one.rule.policy, one.rule.direction.value, _order(one.rule.rule)))
    return InKernel(tuple(rules), tuple(_differences(image, found)))


def _order(rule: str) -> tuple[bool, int]:
    """Numbers as numbers, the default after them."""
    return not rule.isdigit(), int(rule) if rule.isdigit() else 0


def _differences(image: Image, found: Found | None) -> Iterator[Difference]:
    if found is None:
        yield Difference(Kind.MISSING, f"the table {RULES_TABLE}")
        return
    changes = diff(image, found)
    if changes.remake:
        yield Difference(Kind.CHANGED, f"the table {RULES_TABLE}: chains or sets of another kind")
        return
    for name in changes.chains:
        if name in changes.new_chains:
            yield Difference(Kind.MISSING, f"chain {name}")
        else:
            yield from _rules(image, found, name)
    for name in changes.dropped_chains:
        yield Difference(Kind.STRANGE, f"chain {name}")
    for name in changes.sets:
        yield Difference(Kind.MISSING, f"set {name}")
    for name in changes.dropped_sets:
        yield Difference(Kind.STRANGE, f"set {name}")
    yield from _elements(changes)
    for name in sorted(changes.counters):
        yield Difference(Kind.MISSING, f"counter {name}")
    for name in changes.dropped_counters:
        yield Difference(Kind.STRANGE, f"counter {name}")


def _rules(image: Image, found: Found, name: str) -> Iterator[Difference]:
    """Of one chain that has other rules than it shall have."""
    _, tags = found.chains[name]
    left = Counter(tags)
    is_alike = True
    for number, rule in enumerate(image.chains[name].rules):
        if left[rule.tag] > 0:
            left[rule.tag] -= 1
            continue
        is_alike = False
        note = f" ({rule.note})" if rule.note else ""
        yield Difference(Kind.MISSING, f"rule {number} of chain {name}{note}")
    strange = left.total()
    if strange:
        yield Difference(Kind.STRANGE, f"{count(strange, 'rule')} of chain {name}")
    elif is_alike:
        yield Difference(Kind.CHANGED, f"chain {name}: the order of its rules")


def _elements(changes: Changes) -> Iterator[Difference]:
    """Of sets that shall be there and are."""
    for name in changes.shapes:
        if name in changes.sets or name in changes.dropped_sets:
            continue
        new, gone = changes.added.get(name, {}), changes.removed.get(name, {})
        for kind, number in (
            (Kind.MISSING, len(new.keys() - gone.keys())),
            (Kind.STRANGE, len(gone.keys() - new.keys())),
            (Kind.CHANGED, len(new.keys() & gone.keys())),
        ):
            if number:
                yield Difference(kind, f"{count(number, 'element')} of set {name}")
