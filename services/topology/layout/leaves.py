"""The leaves of one topology, found by the labels of a node without looking at all of them.

Leaves that require the same labels are of one kind. A kind is filed under one of its labels, the
one that fewest kinds share, so that only kinds filed under a label of the node need be looked at:
one, where each rack has a label of its own, however many racks there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from services.common.model.layout import Group, Topology
from services.common.model.names import GroupPath, TopologyName
from services.common.model.node import Node

Label = tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A leaf group, with what a node needs to fit it."""

    group: Group
    requires: Mapping[str, str]
    """Its labels and those of all groups above."""
    order: int
    """Its place among the topology's leaves, in file order."""
    kind: Kind = field(repr=False)
    member: int
    """Its place among those of its kind."""

    def fits(self, node: Node) -> bool:
        """Says whether the node carries the labels."""
        return all(node.labels.get(key) == value for key, value in self.requires.items())


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """Leaves that require the same labels, in file order."""

    topology: TopologyName
    leaves: list[Leaf]


class Leaves:
    def __init__(self, topology: Topology) -> None:
        kinds: dict[frozenset[Label], Kind] = {}
        self.by_path: dict[GroupPath, Leaf] = {}
        for group, requires in _leaves(topology):
            kind = kinds.setdefault(frozenset(requires.items()), Kind(topology.name, []))
            leaf = Leaf(group, requires, len(self.by_path), kind, len(kind.leaves))
            kind.leaves.append(leaf)
            self.by_path[group.path] = leaf
        shared = Counter(label for labels in kinds for label in labels)
        self._undemanding: list[Kind] = []
        self._filed: dict[Label, list[Kind]] = {}
        for labels, kind in kinds.items():
            if labels:
                rarest = min(sorted(labels), key=shared.__getitem__)
                self._filed.setdefault(rarest, []).append(kind)
            else:
                self._undemanding.append(kind)

    def fitting(self, node: Node) -> Iterator[Kind]:
        """The kinds of leaves that the node's labels fit."""
        yield from self._undemanding
        for label in node.labels.items():
            for kind in self._filed.get(label, ()):
                if kind.leaves[0].fits(node):
                    yield kind


def _leaves(topology: Topology) -> Iterator[tuple[Group, Mapping[str, str]]]:
    def below(
        group: Group, inherited: Mapping[str, str]
    ) -> Iterator[tuple[Group, Mapping[str, str]]]:
        requires = {**inherited, **group.assignment}
        if not group.groups:
            yield group, requires
        for child in group.groups:
            yield from below(child, requires)

    for group in topology.groups:
        yield from below(group, {})
