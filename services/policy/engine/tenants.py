"""Tenants that are known, and whom the selectors over their labels select."""

from __future__ import annotations

from services.common.model.names import Tenant
from services.policy.engine.index import Buckets, Postings, narrow
from services.policy.engine.subjects import TenantEntry, TenantSelection
from services.policy.model import LabelSelector, TenantRecord


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
