"""Finding selectors by subjects and subjects by selectors, without looking at all of either.

A *fact* is something a subject has: a label's key and value, or its segment, network or name under
a key that no label can have. A selector *demands* that one of several facts is there. It is kept
with the facts of one of its demands only: a subject that it selects has one of them, so that
looking through the subject's facts finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from services.policy.engine.selector import Test

Fact: TypeAlias = tuple[str | int, str]
Demand: TypeAlias = tuple[str | int, frozenset[str] | None]
"""A key, and the values of which one must be there; None: any."""

SEGMENT: Final = 0
NETWORK: Final = 1
NAME: Final = 2

_Selector = TypeVar("_Selector")
_Subject = TypeVar("_Subject")


def label_demands(tests: Iterable[Test]) -> list[Demand]:
    """What label tests demand; what a subject must not have demands nothing."""
    return [(key, values) for key, values, wanted in tests if wanted]


def facts_of(demand: Demand) -> tuple[Fact, ...]:
    """Facts of which one is demanded; a key alone is none."""
    key, values = demand
    return tuple([(key, value) for value in values or ()])


class Buckets(Generic[_Selector]):
    """Selectors, by the facts that they demand."""

    __slots__ = ("_anywhere", "_by_fact")

    def __init__(self) -> None:
        self._by_fact: dict[Fact, set[_Selector]] = {}
        self._anywhere: set[_Selector] = set()
        """Those that demand no fact in particular."""

    def __bool__(self) -> bool:
        return bool(self._by_fact or self._anywhere)

    def choose(self, demands: Iterable[Demand]) -> tuple[Fact, ...] | None:
        """Where a selector is best kept: where the fewest others are. None: it demands nothing."""
        possible = [demand for demand in demands if demand[1] is not None]
        if not possible:
            return None
        best = min(possible, key=self._cost) if len(possible) > 1 else possible[0]
        return facts_of(best)

    def _cost(self, demand: Demand) -> int:
        return sum(len(self._by_fact.get(fact, ())) + 1 for fact in facts_of(demand))

    def add(self, selector: _Selector, facts: tuple[Fact, ...] | None) -> None:
        """Keeps a selector where `choose` said."""
        if facts is None:
            self._anywhere.add(selector)
            return
        for fact in facts:
            there = self._by_fact.get(fact)
            if there is None:
                self._by_fact[fact] = {selector}
            else:
                there.add(selector)

    def remove(self, selector: _Selector, facts: tuple[Fact, ...] | None) -> None:
        """Takes out a selector that was kept there."""
        if facts is None:
            self._anywhere.discard(selector)
            return
        for fact in facts:
            there = self._by_fact[fact]
            there.discard(selector)
            if not there:
                del self._by_fact[fact]

    def candidates(self, facts: Iterable[Fact]) -> Iterator[_Selector]:
        """Selectors that may select a subject with these facts; each once, as a subject has one
        value for a key (of networks: some candidates may come twice)."""
        yield from self._anywhere
        by_fact = self._by_fact
        if by_fact:
            for fact in facts:
                there = by_fact.get(fact)
                if there is not None:
                    yield from there


class Postings(Generic[_Subject]):
    """Subjects, by their facts."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[str | int, dict[str, set[_Subject]]] = {}

    def add(self, subject: _Subject, facts: Iterable[Fact]) -> None:
        by_key = self._by_key
        for key, value in facts:
            values = by_key.get(key)
            if values is None:
                values = by_key[key] = {}
            there = values.get(value)
            if there is None:
                values[value] = {subject}
            else:
                there.add(subject)

    def remove(self, subject: _Subject, facts: Iterable[Fact]) -> None:
        """Takes back facts of a subject that were added."""
        for key, value in facts:
            values = self._by_key[key]
            there = values[value]
            there.discard(subject)
            if not there:
                del values[value]
                if not values:
                    del self._by_key[key]

    def having(self, demand: Demand) -> list[set[_Subject]]:
        """Subjects that meet a demand, as several sets."""
        key, values = demand
        there = self._by_key.get(key)
        if there is None:
            return []
        if values is None:
            return list(there.values())
        return [there[value] for value in values if value in there]


def narrow(
    parts: Iterable[Sequence[set[_Subject]]], everything: Collection[_Subject]
) -> Collection[_Subject]:
    """Candidates: among them are all subjects that every part has in one of its sets."""
    by_size = sorted(parts, key=lambda part: sum(map(len, part)))
    if not by_size:
        return everything
    first = by_size[0]
    if len(first) != 1:
        return set().union(*first)
    if len(by_size) > 1 and len(by_size[1]) == 1:
        return first[0] & by_size[1][0]
    return first[0]
