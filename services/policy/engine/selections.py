"""Selectors in use, each once, with whom they select.

A selector is in use while a policy has it as a target, or a rule set that somebody needs has a
group of it. Its members are kept up to date by the engine, which finds candidates by the index.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final, TypeAlias

from services.common.model.names import Tenant
from services.common.model.rules import CidrBlock, PolicyName, Protocol
from services.policy.engine.addresses import Holders
from services.policy.engine.groups import Group, Split
from services.policy.engine.index import NAME, NETWORK, SEGMENT, Demand, Fact, label_demands
from services.policy.engine.selector import passes, tests
from services.policy.engine.subjects import EndpointEntry, NodeEntry, Subject, TenantSelection
from services.policy.model import EndpointSelector, NodeSelector

_NOBODY: Final = frozenset[PolicyName]()
_NO_SPLITS: Final[dict[tuple[CidrBlock | None, Protocol | None, str], Split]] = {}


Scope: TypeAlias = Tenant | TenantSelection | None
"""Of whose endpoints a selector speaks: those of a tenant, of tenants with labels, of any."""


class Selection:
    """Whom a selector selects, and what it is in use for."""

    __slots__ = ("groups", "members", "policies", "splits")

    def __init__(self) -> None:
        self.members: set[Subject] = set()
        self.policies: set[PolicyName] = set()
        """Policies that have it as a target."""
        self.groups: tuple[Group, ...] = ()
        self.splits = _NO_SPLITS

    @property
    def is_used(self) -> bool:
        return bool(self.policies or self.groups or self.splits)

    def join(self, subject: Subject) -> AbstractSet[PolicyName]:
        """Adds a subject; returns the policies whose rules are others now."""
        self.members.add(subject)
        subject.selections.add(self)
        for group in self.groups:
            group.add(group.keys_of(subject))
        return self._count(subject, 1)

    def leave(self, subject: Subject, holders: Holders[Subject]) -> AbstractSet[PolicyName]:
        """Takes out a subject; returns the policies whose rules are others now."""
        self.members.discard(subject)
        subject.selections.discard(self)
        for group in self.groups:
            for key in group.keys_of(subject):
                if not (holders.is_shared(key) and self._holds(group, key, holders)):
                    group.remove(key)
        return self._count(subject, -1)

    def _holds(self, group: Group, key: int, holders: Holders[Subject]) -> bool:
        return any(
            other in self.members and key in group.keys_of(other) for other in holders.of(key)
        )

    def _count(self, subject: Subject, change: int) -> AbstractSet[PolicyName]:
        if not self.splits:
            return _NOBODY
        changed: set[PolicyName] = set()
        for split in self.splits.values():
            if split.count(subject, change):
                changed |= split.users
        return changed

    def attach(self, group: Group) -> None:
        self.groups += (group,)
        for subject in self.members:
            group.add(group.keys_of(subject))

    def split(
        self,
        selector: EndpointSelector | NodeSelector,
        block: CidrBlock | None,
        protocol: Protocol | None,
        name: str,
    ) -> Split:
        """The numbers that a port's name stands for, kept up to date."""
        there = self.splits.get((block, protocol, name))
        if there is None:
            there = Split(selector, block, protocol, name)
            self.splits = {**self.splits, (block, protocol, name): there}
            for subject in self.members:
                there.count(subject, 1)
        return there

    def drop_idle_splits(self) -> None:
        """Forgets those that no policy needs."""
        self.splits = {key: split for key, split in self.splits.items() if split.users}


class EndpointSelection(Selection):
    """The endpoints that a selector selects, by labels of theirs and of their tenants."""

    __slots__ = (
        "_networks",
        "_segments",
        "_tests",
        "places",
        "selector",
        "tenant_selection",
        "tenants",
    )

    def __init__(
        self, selector: EndpointSelector, tenant_selection: TenantSelection | None
    ) -> None:
        super().__init__()
        self.selector = selector
        self.tenants = frozenset(selector.tenants) or None
        self.tenant_selection = tenant_selection
        self.places: list[tuple[Scope, tuple[Fact, ...] | None]] = []
        """Where the index keeps it."""
        self._segments = frozenset(selector.segments) or None
        self._networks = frozenset(selector.networks) or None
        self._tests = tests(selector.labels)

    def demands(self) -> list[Demand]:
        """Of endpoints; apart from what it demands of tenants."""
        found = label_demands(self._tests)
        if self._segments is not None:
            found.append((SEGMENT, frozenset(self._segments)))
        if self._networks is not None:
            found.append((NETWORK, frozenset(self._networks)))
        return found

    def selects(self, entry: EndpointEntry) -> bool:
        return (
            (self.tenants is None or entry.tenant.name in self.tenants)
            and (self.tenant_selection is None or self.tenant_selection in entry.tenant.selections)
            and (self._segments is None or entry.endpoint.segment in self._segments)
            and (self._networks is None or not self._networks.isdisjoint(entry.networks))
            and passes(self._tests, entry.endpoint.labels)
        )


class NodeSelection(Selection):
    """The nodes that a selector selects."""

    __slots__ = ("_names", "_tests", "facts", "selector")

    def __init__(self, selector: NodeSelector) -> None:
        super().__init__()
        self.selector = selector
        self.facts: tuple[Fact, ...] | None = None
        """Under which the index keeps it."""
        self._names: AbstractSet[str] | None = frozenset(selector.names) or None
        self._tests = tests(selector.labels)

    def demands(self) -> list[Demand]:
        found = label_demands(self._tests)
        if self._names is not None:
            found.append((NAME, frozenset(self._names)))
        return found

    def selects(self, entry: NodeEntry) -> bool:
        return (self._names is None or entry.name in self._names) and passes(
            self._tests, entry.node.labels
        )
