"""Who is selected by what: tenants, endpoints and nodes against the selectors in use.

Kept up to date by looking at candidates only: those selectors that demand something which the
changed subject has, and those subjects which have what a new selector demands.

`changed` collects whom other policies select now, and `outdated` the policies whose rules depend on
port numbers that came or went.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.common.model.names import EndpointName, NodeName, Tenant
from services.common.model.rules import PolicyName
from services.policy.engine.addresses import Holders, NetworkMap
from services.policy.engine.index import Buckets, Demand, Postings, narrow
from services.policy.engine.selections import (
    EndpointSelection,
    NodeSelection,
    Scope,
)
from services.policy.engine.subjects import (
    EndpointEntry,
    NodeEntry,
    SelectorInUse,
    Subject,
    TenantEntry,
    TenantSelection,
)
from services.policy.model import (
    Endpoint,
    EndpointSelector,
    LabelSelector,
    NodeSelector,
    PolicyNode,
    TenantRecord,
)

_MOST_PLACES: Final = 1024
"""Of one selector in the index; a selector of many tenants and many values has fewer, coarser."""


@dataclass(slots=True)
class Effects:
    """What changes did, until somebody takes it."""

    endpoints: set[EndpointEntry] = field(default_factory=set)
    """Whom other policies select."""
    nodes: set[NodeEntry] = field(default_factory=set)
    outdated: set[PolicyName] = field(default_factory=set)
    """Whose rules are others."""


class TenantMatcher:
    """Tenants and the selectors over their labels."""

    def __init__(self) -> None:
        self.entries: dict[Tenant, TenantEntry] = {}
        self._selections: dict[LabelSelector, TenantSelection] = {}
        self._postings: Postings[TenantEntry] = Postings()
        self._buckets: Buckets[TenantSelection] = Buckets()

    def entry(self, name: Tenant) -> TenantEntry:
        """What is kept of a tenant."""
        entry = self.entries.get(name)
        if entry is None:
            entry = self.entries[name] = TenantEntry(name)
            self._match(entry)
        return entry

    def set_record(
        self, entry: TenantEntry, record: TenantRecord
    ) -> tuple[set[TenantSelection], set[TenantSelection]]:
        """Takes over what is known of a tenant; returns what selects it now and did before."""
        had = entry.selections
        self._postings.remove(entry, entry.record.labels.items())
        entry.record = record
        self._postings.add(entry, record.labels.items())
        self._match(entry)
        return entry.selections - had, had - entry.selections

    def forget(self, entry: TenantEntry) -> None:
        """Drops a tenant of which nothing is known and nothing is left."""
        for selection in entry.selections:
            selection.tenants.discard(entry)
        del self.entries[entry.name]

    def acquire(self, selector: LabelSelector) -> TenantSelection:
        """The selection of a selector in canonical form; `release` it."""
        selection = self._selections.get(selector)
        if selection is None:
            selection = self._selections[selector] = TenantSelection(selector)
            demands = selection.demands()
            selection.facts = self._buckets.choose(demands)
            self._buckets.add(selection, selection.facts)
            parts = [self._postings.having(demand) for demand in demands]
            for entry in narrow(parts, self.entries.values()):
                if selection.selects(entry):
                    selection.tenants.add(entry)
                    entry.selections.add(selection)
        selection.uses += 1
        return selection

    def release(self, selector: LabelSelector) -> None:
        """Gives back what was acquired."""
        selection = self._selections[selector]
        selection.uses -= 1
        if not selection.uses:
            del self._selections[selector]
            self._buckets.remove(selection, selection.facts)
            for entry in selection.tenants:
                entry.selections.discard(selection)

    def _match(self, entry: TenantEntry) -> None:
        now = {
            selection
            for selection in self._buckets.candidates(entry.record.labels.items())
            if selection.selects(entry)
        }
        for selection in entry.selections - now:
            selection.tenants.discard(entry)
        for selection in now - entry.selections:
            selection.tenants.add(entry)
        entry.selections = now


class EndpointMatcher:
    """Endpoints and the selectors over them."""

    def __init__(self, effects: Effects) -> None:
        self.entries: dict[EndpointName, EndpointEntry] = {}
        self.holders: Holders[Subject] = Holders()
        self.tenants = TenantMatcher()
        self.networks = NetworkMap({})
        self._effects = effects
        self._selections: dict[EndpointSelector, EndpointSelection] = {}
        self._postings: Postings[EndpointEntry] = Postings()
        self._scopes: dict[Scope, Buckets[EndpointSelection]] = {}

    # Endpoints.

    def put(self, endpoint: Endpoint) -> None:
        """Adds or replaces an endpoint."""
        entry = self.entries.get(endpoint.name)
        if entry is None:
            entry = EndpointEntry(endpoint, self.tenants.entry(endpoint.tenant))
            self.entries[endpoint.name] = entry
            self._enter(entry, endpoint)
        elif _has_same_place(entry.endpoint, endpoint):
            self._relabel(entry, endpoint)
        else:
            self._withdraw(entry)
            self._enter(entry, endpoint)
        self._effects.endpoints.add(entry)

    def drop(self, name: EndpointName) -> EndpointEntry:
        """Removes an endpoint."""
        entry = self.entries.pop(name)
        self._withdraw(entry)
        self._effects.endpoints.discard(entry)
        return entry

    def set_networks(self, networks: NetworkMap) -> None:
        """Says again on which networks addresses are."""
        self.networks = networks
        for entry in list(self.entries.values()):
            if tuple(map(networks.of, entry.keys)) != entry.networks:
                self._withdraw(entry)
                self._enter(entry, entry.endpoint)
                self._effects.endpoints.add(entry)

    def _enter(self, entry: EndpointEntry, endpoint: Endpoint) -> None:
        tenant = self.tenants.entry(endpoint.tenant)
        entry.read(endpoint, tenant, self.networks)
        tenant.endpoints.add(entry)
        self._postings.add(entry, entry.facts)
        for key in entry.keys:
            self.holders.add(key, entry)
        for selection in self._matching(entry):
            self._join(selection, entry)

    def _withdraw(self, entry: EndpointEntry) -> None:
        for selection in list(entry.selections):
            self._leave(selection, entry)
        for key in entry.keys:
            self.holders.remove(key, entry)
        self._postings.remove(entry, entry.facts)
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

    def acquire(self, selector: EndpointSelector) -> EndpointSelection:
        """The selection of a selector in canonical form, until `settle` finds it unused."""
        selection = self._selections.get(selector)
        if selection is not None:
            return selection
        tenants = None
        if selector.tenant_labels.requirements:
            tenants = self.tenants.acquire(selector.tenant_labels)
        selection = self._selections[selector] = EndpointSelection(selector, tenants)
        demands = selection.demands()
        self._place(selection, demands)
        for entry in self._who(selection, demands):
            if selection.selects(entry):
                self._join(selection, entry)
        return selection

    def settle(self, selection: EndpointSelection) -> None:
        """Forgets a selection that nothing needs any more."""
        if selection.is_used or self._selections.get(selection.selector) is not selection:
            return
        del self._selections[selection.selector]
        for scope, facts in selection.places:
            buckets = self._scopes[scope]
            buckets.remove(selection, facts)
            if not buckets:
                del self._scopes[scope]
        for member in selection.members:
            member.selections.discard(selection)
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

    def _who(
        self, selection: EndpointSelection, demands: Sequence[Demand]
    ) -> Iterable[EndpointEntry]:
        parts = [self._postings.having(demand) for demand in demands]
        entries = self.tenants.entries
        if selection.tenants is not None:
            parts.append([entries[one].endpoints for one in selection.tenants if one in entries])
        elif selection.tenant_selection is not None:
            parts.append([one.endpoints for one in selection.tenant_selection.tenants])
        return narrow(parts, self.entries.values())

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

    def _join(self, selection: EndpointSelection, entry: EndpointEntry) -> None:
        outdated = selection.join(entry)
        if outdated:
            self._effects.outdated |= outdated
        if selection.policies:
            self._effects.endpoints.add(entry)

    def _leave(self, selection: SelectorInUse, entry: EndpointEntry) -> None:
        outdated = selection.leave(entry, self.holders)
        if outdated:
            self._effects.outdated |= outdated
        if selection.policies:
            self._effects.endpoints.add(entry)


class NodeMatcher:
    """Nodes and the selectors over them."""

    def __init__(self, effects: Effects) -> None:
        self.entries: dict[NodeName, NodeEntry] = {}
        self.holders: Holders[Subject] = Holders()
        self._effects = effects
        self._selections: dict[NodeSelector, NodeSelection] = {}
        self._postings: Postings[NodeEntry] = Postings()
        self._buckets: Buckets[NodeSelection] = Buckets()

    def put(self, node: PolicyNode) -> None:
        """Adds or replaces a node."""
        entry = self.entries.get(node.name)
        if entry is None:
            entry = self.entries[node.name] = NodeEntry(node)
        else:
            self._withdraw(entry)
            entry.read(node)
        self._postings.add(entry, entry.facts)
        for key in entry.keys:
            self.holders.add(key, entry)
        for selection in self._buckets.candidates(entry.facts):
            if selection.selects(entry):
                selection.join(entry)
        self._effects.nodes.add(entry)

    def drop(self, name: NodeName) -> NodeEntry:
        """Removes a node."""
        entry = self.entries.pop(name)
        self._withdraw(entry)
        self._effects.nodes.discard(entry)
        return entry

    def acquire(self, selector: NodeSelector) -> NodeSelection:
        """The selection of a selector in canonical form, until `settle` finds it unused."""
        selection = self._selections.get(selector)
        if selection is None:
            selection = self._selections[selector] = NodeSelection(selector)
            demands = selection.demands()
            selection.facts = self._buckets.choose(demands)
            self._buckets.add(selection, selection.facts)
            parts = [self._postings.having(demand) for demand in demands]
            for entry in narrow(parts, self.entries.values()):
                if selection.selects(entry):
                    selection.join(entry)
        return selection

    def settle(self, selection: NodeSelection) -> None:
        """Forgets a selection that nothing needs any more."""
        if selection.is_used or self._selections.get(selection.selector) is not selection:
            return
        del self._selections[selection.selector]
        self._buckets.remove(selection, selection.facts)
        for member in selection.members:
            member.selections.discard(selection)

    def _withdraw(self, entry: NodeEntry) -> None:
        for selection in list(entry.selections):
            selection.leave(entry, self.holders)
        for key in entry.keys:
            self.holders.remove(key, entry)
        self._postings.remove(entry, entry.facts)


def _has_same_place(one: Endpoint, other: Endpoint) -> bool:
    """Says whether two differ at most in what groups do not hold of an endpoint."""
    return (
        one.tenant == other.tenant and one.addresses == other.addresses and one.ports == other.ports
    )


def _is_of(selection: SelectorInUse, tenants: set[TenantSelection]) -> bool:
    return isinstance(selection, EndpointSelection) and selection.tenant_selection in tenants
