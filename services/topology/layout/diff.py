"""The differences between two layouts, and between the nodes before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from services.common.model.layout import Layout
from services.common.model.names import GroupPath, NetworkName, NodeName, TopologyName
from services.common.model.network import Network, Prefix
from services.common.model.node import Node


class Kind(StrEnum):
    ADDED = "added"
    MOVED = "moved"
    UPDATED = "updated"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field of a network that changes, as texts; empty: its default."""

    field: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class NetworkChange:
    """A network that comes, goes or gets other fields."""

    network: NetworkName
    kind: Kind
    fields: tuple[str, ...] = ()
    """Which, if it is updated."""
    values: tuple[FieldChange, ...] = ()
    """The same, with what they are and will be."""


@dataclass(frozen=True, slots=True)
class GroupChange:
    """A group's prefix on one network that changes."""

    group: GroupPath
    network: NetworkName
    before: Prefix | None
    after: Prefix | None

    @property
    def kind(self) -> Kind:
        if self.before is None:
            return Kind.ADDED
        return Kind.REMOVED if self.after is None else Kind.MOVED


@dataclass(frozen=True, slots=True)
class NodeMove:
    """A node whose group in a topology is another one; None: it is in none."""

    node: NodeName
    topology: TopologyName
    before: GroupPath | None
    after: GroupPath | None


def network_changes(before: Layout, after: Layout) -> Iterator[NetworkChange]:
    """New and updated networks in file order, then those that go."""
    old, new = networks_by_name(before), networks_by_name(after)
    for name, (network, topology) in new.items():
        if name not in old:
            yield NetworkChange(name, Kind.ADDED)
            continue
        was, was_in = old[name]
        changed = [
            field.name
            for field in fields(Network)
            if getattr(was, field.name) != getattr(network, field.name)
        ]
        values = [
            FieldChange(field, _text(getattr(was, field)), _text(getattr(network, field)))
            for field in changed
        ]
        if topology != was_in:
            changed.append("topology")
            values.append(FieldChange("topology", was_in, topology))
        if changed:
            yield NetworkChange(name, Kind.UPDATED, tuple(changed), tuple(values))
    for name in old:
        if name not in new:
            yield NetworkChange(name, Kind.REMOVED)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value in {None, 0} else str(value)


def networks_by_name(layout: Layout) -> dict[NetworkName, tuple[Network, TopologyName]]:
    """Each network with its topology."""
    topologies = {name: t.name for t in layout.topologies for name in t.networks}
    return {
        network.name: (network, topologies.get(network.name, TopologyName("")))
        for network in layout.networks
    }


def group_changes(before: Layout, after: Layout) -> Iterator[GroupChange]:
    """New and moved prefixes in file order, then those that go."""
    old, new = _prefixes(before), _prefixes(after)
    for key, prefix in new.items():
        if old.get(key) != prefix:
            yield GroupChange(*key, before=old.get(key), after=prefix)
    for key, prefix in old.items():
        if key not in new:
            yield GroupChange(*key, before=prefix, after=None)


def _prefixes(layout: Layout) -> dict[tuple[GroupPath, NetworkName], Prefix]:
    return {
        (group.path, network): prefix
        for topology in layout.topologies
        for group in topology.walk()
        for network, prefix in group.prefixes.items()
    }


def node_moves(
    before: Mapping[NodeName, Node], after: Mapping[NodeName, Node]
) -> Iterator[NodeMove]:
    """The nodes of `after` whose groups are not those of `before`."""
    for name, node in after.items():
        known = before.get(name)
        if known is node:
            continue
        was = known.placements if known is not None else {}
        for topology in dict.fromkeys((*was, *node.placements)):
            if was.get(topology) != node.placements.get(topology):
                yield NodeMove(name, topology, was.get(topology), node.placements.get(topology))
