"""What has to be done so that the kernel holds the table that it shall. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from services.agent.kernel.nftables.table import Chain, Changes, Elements, Found, Image, Shape


def diff(wanted: Image, found: Found) -> Changes:
    """The changes that make of what was found what is wanted.

    A table whose base chains or sets are of another kind than ours cannot be changed into it: it is
    made anew, in the same transaction.
    """
    changes = Changes()
    if not _is_alike(wanted, found):
        changes.remake = True
        found = Found()
    changes.counters = wanted.counters - found.counters
    changes.dropped_counters = sorted(found.counters - wanted.counters)
    for name, chain in wanted.chains.items():
        if name not in found.chains:
            changes.new_chains.add(name)
            changes.chains[name] = chain
        elif found.chains[name][1] != tuple(rule.tag for rule in chain.rules):
            changes.chains[name] = chain
    changes.dropped_chains = [name for name in found.chains if name not in wanted.chains]
    for name, shape in wanted.sets.items():
        if name not in found.sets:
            changes.sets[name] = shape
        if shape.timeout:
            continue
        compare(changes, name, shape, found.elements.get(name, {}), wanted.elements.get(name, {}))
    changes.dropped_sets = [name for name in found.sets if name not in wanted.sets]
    for name in changes.dropped_sets:  # what is in them holds the chains that go too
        if found.sets[name].is_map:
            changes.shapes[name] = found.sets[name]
            changes.removed[name] = dict(found.elements.get(name, {}))
    return changes


def compare(
    changes: Changes,
    name: str,
    shape: Shape,
    before: Mapping[bytes, str],
    after: Mapping[bytes, str],
) -> None:
    """Adds what makes of one set's elements others."""
    gone: Elements = {key: chain for key, chain in before.items() if after.get(key, None) != chain}
    new: Elements = {key: chain for key, chain in after.items() if before.get(key, None) != chain}
    if gone or new:
        changes.shapes[name] = shape
    if gone:
        changes.removed.setdefault(name, {}).update(gone)
    if new:
        changes.added.setdefault(name, {}).update(new)


def _is_alike(wanted: Image, found: Found) -> bool:
    none = Chain(())
    return all(
        wanted.chains.get(name, none).base == base
        for name, (base, _) in found.chains.items()
        if name in wanted.chains
    ) and all(
        shape == wanted.sets[name] for name, shape in found.sets.items() if name in wanted.sets
    )
