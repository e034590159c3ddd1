"""Who is selected by what: endpoints and nodes against the selectors in use.

Kept up to date by looking at candidates only: those selectors that demand something which the
changed subject has, and those subjects which have what a new selector demands.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar, cast

from services.common.model.names import EndpointName, NodeName
from services.common.model.rules import PolicyName
from services.policy.engine.addresses import Holders, NetworkMap
from services.policy.engine.index import Buckets, Demand, Postings, narrow
from services.policy.engine.selections import EndpointSelection, NodeSelection, Scope, Selection
from services.policy.engine.subjects import (
    EndpointEntry,
    NodeEntry,
    SelectorInUse,
    Subject,
    TenantEntry,
    TenantSelection,
)
from services.policy.engine.tenants import TenantMatcher
from services.policy.model import (
    Endpoint,
    EndpointSelector,
    NodeSelector,
    PolicyNode,
    TenantRecord,
)

_MOST_PLACES: Final = 1024
"""Of one selector in the index; a selector of many tenants and many values has fewer, coarser."""

_Name = TypeVar("_Name")
_Entry = TypeVar("_Entry", bound=Subject)
_Selector = TypeVar("_Selector", bound=EndpointSelector | NodeSelector)
_Selection = TypeVar("_Selection", bound=EndpointSelection | NodeSelection)


@dataclass(slots=True)
class Effects:
    """Who is concerned by changes, until the engine has dealt with them."""

    endpoints: set[EndpointEntry] = field(default_factory=set)
    """Whom other policies select."""
    nodes: set[NodeEntry] = field(default_factory=set)
    outdated: set[PolicyName] = field(default_factory=set)
    """Whose rules are others, since port numbers came or went."""


class _Matcher(ABC, Generic[_Name, _Entry, _Selector, _Selection]):
    """Subjects of one kind, and the selectors over them."""

    def __init__(self, effects: Effects) -> None:
        self.entries: dict[_Name, _Entry] = {}
        self.holders: Holders[Subject] = Holders()
        self._effects = effects
        self._selections: dict[_Selector, _Selection] = {}
        self._postings: Postings[_Entry] = Postings()

    def drop(self, name: _Name) -> _Entry:
        entry = self.entries.pop(name)
        self._withdraw(entry)
        self._changed().discard(entry)
        return entry

    def acquire(self, selector: _Selector) -> _Selection:
        """The selection of a selector in canonical form, until `settle` finds it unused."""
        selection = self._selections.get(selector)
        if selection is not None:
            return selection
        selection = self._selections[selector] = self._select(selector)
        demands = selection.demands()
        self._place(selection, demands)
        parts: list[Sequence[set[_Entry]]] = [self._postings.having(one) for one in demands]
        parts += self._within(selection)
        for entry in narrow(parts, self.entries.values()):
            if self._selects(selection, entry):
                self._join(selection, entry)
        return selection

    def settle(self, selection: _Selection) -> None:
        """Forgets a selection that nothing needs any more."""
        selector = cast("_Selector", selection.selector)
        if selection.is_used or self._selections.get(selector) is not selection:
            return
        del self._selections[selector]
        self._displace(selection)
        for member in selection.members:
            member.selections.discard(selection)

    def _enter(self, entry: _Entry) -> None:
        self._postings.add(entry, entry.facts)
        for key in entry.keys:
            self.holders.add(key, entry)
        for selection in self._matching(entry):
            self._join(selection, entry)

    def _withdraw(self, entry: _Entry) -> None:
        for selection in list(entry.selections):
            self._leave(selection, entry)
        for key in entry.keys:
            self.holders.remove(key, entry)
        self._postings.remove(entry, entry.facts)

    def _join(self, selection: Selection, entry: _Entry) -> None:
        self._note(selection.join(entry), selection, entry)

    def _leave(self, selection: SelectorInUse, entry: _Entry) -> None:
        self._note(selection.leave(entry, self.holders), selection, entry)

    def _note(
        self, outdated: AbstractSet[PolicyName], selection: SelectorInUse, entry: _Entry
    ) -> None:
        if outdated:
            self._effects.outdated |= outdated
        if selection.policies:
            self._changed().add(entry)

    @abstractmethod
    def _changed(self) -> set[_Entry]:
        """Where those are put whom other policies select."""

    @abstractmethod
    def _select(self, selector: _Selector) -> _Selection: ...

    @abstractmethod
    def _selects(self, selection: _Selection, entry: _Entry) -> bool: ...

    @abstractmethod
    def _matching(self, entry: _Entry) -> set[_Selection]:
        """What selects a subject."""

    @abstractmethod
    def _place(self, selection: _Selection, demands: Sequence[Demand]) -> None:
        """Puts a selection into the index."""

    @abstractmethod
    def _displace(self, selection: _Selection) -> None:
        """Takes it out again."""

    @abstractmethod
    def _within(self, selection: _Selection) -> Iterable[Sequence[set[_Entry]]]:
        """Sets of subjects among which are all that it selects, beside those of the index."""


class EndpointMatcher(_Matcher[EndpointName, EndpointEntry, EndpointSelector, EndpointSelection]):
    """Endpoints, with their tenants."""

    def __init__(self, effects: Effects) -> None:
        super().__init__(effects)
        self.tenants = TenantMatcher()
        self.networks = NetworkMap({})
        self._scopes: dict[Scope, Buckets[EndpointSelection]] = {}

    # Endpoints.

    def put(self, endpoint: Endpoint) -> None:
        entry = self.entries.get(endpoint.name)
        if entry is None:
            entry = EndpointEntry(endpoint, self.tenants.entry(endpoint.tenant))
            self.entries[endpoint.name] = entry
            self._read(entry, endpoint)
        elif _has_same_place(entry.endpoint, endpoint):
            self._relabel(entry, endpoint)
        else:
            self._withdraw(entry)
            self._read(entry, endpoint)
        self._effects.endpoints.add(entry)

    def set_networks(self, networks: NetworkMap) -> None:
        """Says again on which networks addresses are."""
        self.networks = networks
        for entry in list(self.entries.values()):
            if tuple(map(networks.of, entry.keys)) != entry.networks:
                self._withdraw(entry)
                self._read(entry, entry.endpoint)
                self._effects.endpoints.add(entry)

    def _read(self, entry: EndpointEntry, endpoint: Endpoint) -> None:
        tenant = self.tenants.entry(endpoint.tenant)
        entry.read(endpoint, tenant, self.networks)
        tenant.endpoints.add(entry)
        self._enter(entry)

    def _withdraw(self, entry: EndpointEntry) -> None:
        super()._withdraw(entry)
        entry.tenant.endpoints.discard(entry)
        self.settle_tenant(entry.tenant)

    def _relabel(self, entry: EndpointEntry, endpoint: Endpoint) -> None:
        had = set(entry.facts)
        entry.read(endpoint, entry.tenant, self.networks)
        now = set(entry.facts)
        if had == now:
            return
        self._postings.remove(entry, had - now)
        self._postings.add(entry, now - had)
        found = self._matching(entry)
        for selection in entry.selections - found:
            self._leave(selection, entry)
        for selection in [one for one in found if one not in entry.selections]:
            self._join(selection, entry)

    # Tenants.

    def put_tenant(self, record: TenantRecord) -> None:
        """Takes over what is known of a tenant."""
        tenant = self.tenants.entry(record.name)
        if tenant.record.isolation is not record.isolation:
            self._effects.endpoints |= tenant.endpoints
        gained, lost = self.tenants.set_record(tenant, record)
        self.settle_tenant(tenant)
        if not (gained or lost):
            return
        for entry in tenant.endpoints:
            for selection in [one for one in entry.selections if _is_of(one, lost)]:
                self._leave(selection, entry)
            scopes: list[Scope] = [tenant.name, *gained]
            for scope in scopes:
                for selection in self._candidates(scope, entry):
                    if (
                        selection.tenant_selection in gained
                        and selection not in entry.selections
                        and selection.selects(entry)
                    ):
                        self._join(selection, entry)

    def settle_tenant(self, tenant: TenantEntry) -> None:
        """Forgets a tenant that is nothing but a name."""
        if not tenant.endpoints and not tenant.record.labels and tenant.record.isolation is None:
            self.tenants.forget(tenant)

    # Selectors.

    def _changed(self) -> set[EndpointEntry]:
        return self._effects.endpoints

    def _select(self, selector: EndpointSelector) -> EndpointSelection:
        tenants = None
        if selector.tenant_labels.requirements:
            tenants = self.tenants.acquire(selector.tenant_labels)
        return EndpointSelection(selector, tenants)

    def _selects(self, selection: EndpointSelection, entry: EndpointEntry) -> bool:
        return selection.selects(entry)

    def _displace(self, selection: EndpointSelection) -> None:
        for scope, facts in selection.places:
            buckets = self._scopes[scope]
            buckets.remove(selection, facts)
            if not buckets:
                del self._scopes[scope]
        if selection.tenant_selection is not None:
            self.tenants.release(selection.selector.tenant_labels)

    def _place(self, selection: EndpointSelection, demands: Sequence[Demand]) -> None:
        scopes = selection.selector.tenants or (selection.tenant_selection,)
        for scope in scopes:
            buckets = self._scopes.get(scope)
            if buckets is None:
                buckets = self._scopes[scope] = Buckets()
            facts = buckets.choose(demands)
            if facts is not None and len(scopes) > 1 and len(facts) * len(scopes) > _MOST_PLACES:
                facts = None
            if facts != ():
                buckets.add(selection, facts)
                selection.places.append((scope, facts))
            elif not buckets:  # it contradicts itself, so nothing ever looks for it
                del self._scopes[scope]

    def _within(self, selection: EndpointSelection) -> Iterable[Sequence[set[EndpointEntry]]]:
        entries = self.tenants.entries
        if selection.tenants is not None:
            yield [entries[one].endpoints for one in selection.tenants if one in entries]
        elif selection.tenant_selection is not None:
            yield [one.endpoints for one in selection.tenant_selection.tenants]

    def _matching(self, entry: EndpointEntry) -> set[EndpointSelection]:
        found: set[EndpointSelection] = set()
        for scope in (None, entry.tenant.name, *entry.tenant.selections):
            for selection in self._candidates(scope, entry):
                if selection.selects(entry):
                    found.add(selection)
        return found

    def _candidates(self, scope: Scope, entry: EndpointEntry) -> Iterator[EndpointSelection]:
        buckets = self._scopes.get(scope)
        return iter(()) if buckets is None else buckets.candidates(entry.facts)


class NodeMatcher(_Matcher[NodeName, NodeEntry, NodeSelector, NodeSelection]):
    def __init__(self, effects: Effects) -> None:
        super().__init__(effects)
        self._buckets: Buckets[NodeSelection] = Buckets()

    def put(self, node: PolicyNode) -> None:
        entry = self.entries.get(node.name)
        if entry is None:
            entry = self.entries[node.name] = NodeEntry(node)
        else:
            self._withdraw(entry)
            entry.read(node)
        self._enter(entry)
        self._effects.nodes.add(entry)

    def _changed(self) -> set[NodeEntry]:
        return self._effects.nodes

    def _select(self, selector: NodeSelector) -> NodeSelection:
        return NodeSelection(selector)

    def _selects(self, selection: NodeSelection, entry: NodeEntry) -> bool:
        return selection.selects(entry)

    def _matching(self, entry: NodeEntry) -> set[NodeSelection]:
        return {one for one in self._buckets.candidates(entry.facts) if one.selects(entry)}

    def _place(self, selection: NodeSelection, demands: Sequence[Demand]) -> None:
        selection.facts = self._buckets.choose(demands)
        self._buckets.add(selection, selection.facts)

    def _displace(self, selection: NodeSelection) -> None:
        self._buckets.remove(selection, selection.facts)

    def _within(self, selection: NodeSelection) -> Iterable[Sequence[set[NodeEntry]]]:  # noqa: ARG002
        return ()  # nodes are nobody's


def _has_same_place(one: Endpoint, other: Endpoint) -> bool:
    """Says whether two differ at most in what groups do not hold of an endpoint."""
    return (
        one.tenant == other.tenant and one.addresses == other.addresses and one.ports == other.ports
    )


def _is_of(selection: SelectorInUse, tenants: set[TenantSelection]) -> bool:
    return isinstance(selection, EndpointSelection) and selection.tenant_selection in tenants
