"""What has to be done to get from one structure of the table of rules to another. Pure."""

from __future__ import annotations

from services.agent.kernel.nftables.table import Changes
from services.agent.kernel.nftables.table_diff import compare
from services.agent.rules.structure import Structure


def restructure(changes: Changes, before: Structure, after: Structure) -> None:
    """Adds what makes of one structure another."""
    for name, chain in after.chains.items():
        old = before.chains.get(name)
        if old is None:
            changes.new_chains.add(name)
        elif old == chain:
            continue
        changes.chains[name] = chain
    changes.dropped_chains = [name for name in before.chains if name not in after.chains]
    changes.counters = after.counters.keys() - before.counters.keys()
    changes.dropped_counters = sorted(before.counters.keys() - after.counters.keys())
    for name, shape in after.sets.items():
        if name not in before.sets:
            changes.sets[name] = shape
        compare(changes, name, shape, before.elements.get(name, {}), after.elements.get(name, {}))
    changes.dropped_sets = [name for name in before.sets if name not in after.sets]
    for name in changes.dropped_sets:  # what is in them holds the chains that go too
        if before.sets[name].is_map:
            compare(changes, name, before.sets[name], before.elements.get(name, {}), {})
