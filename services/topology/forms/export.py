"""Writes a topology file that makes the same layout again on a fresh system.

`slots` and `slot` are written only where a fresh carving would choose otherwise, and `slot` never
without `slots`: else a file to which groups are added could quietly give the old ones other slots.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Final

import yaml

from services.common.errors import Violation
from services.common.model.description import output_only
from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import GroupPath, NodeName
from services.common.model.node import Node
from services.common.records.models import Plain, to_plain
from services.topology.layout.carving import carve
from services.topology.model.spec import GroupSpec, Spec, TopologySpec

try:
    from yaml import CSafeDumper as Dumper
except ImportError:  # PyYAML without libyaml
    from yaml import SafeDumper as Dumper  # type: ignore[assignment] # it writes the same

ROUNDS = 8
"""Each finds at least one level more that a fresh carving gets wrong; two are enough as a rule."""
_NOT_WRITTEN: Final = output_only(Node) | {"pins"}
"""Of nodes: what Romana says, and what follows from where they are written."""


def export_yaml(layout: Layout, nodes: Iterable[Node] = (), *, all_slots: bool = False) -> str:
    """The layout, with the nodes pinned to their groups, as YAML.

    In ASCII: PyYAML writes line breaks beyond it, such as U+0085, so that they are read as blanks.
    """
    return yaml.dump(
        _document(layout, nodes, all_slots=all_slots),
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=False,
        width=100,
    )


def export_json(layout: Layout, nodes: Iterable[Node] = (), *, all_slots: bool = False) -> str:
    """The same as JSON."""
    document = _document(layout, nodes, all_slots=all_slots)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def compact_json(layout: Layout) -> str:
    """The layout alone as JSON with all slots, in one line, always in the same spelling."""
    document = _document(layout, (), all_slots=True)
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def explicit_slots(layout: Layout) -> Spec:
    """A spec of which a fresh carving makes the layout, with as few explicit slots as may be."""
    levels: set[str] = set()
    for _ in range(ROUNDS):
        spec = _spec(layout, levels)
        problems: list[Violation] = []
        carved = carve(spec, Layout(), problems)
        if carved == layout:
            return spec
        fresh = dict(_levels(carved))
        levels |= {path for path, level in _levels(layout) if fresh.get(path) != level}
    return all_slots_of(layout)


def all_slots_of(layout: Layout) -> Spec:
    """A spec that makes the layout of any other one."""
    return _spec(layout, {path for path, _ in _levels(layout)})


def _levels(layout: Layout) -> list[tuple[str, tuple[int, ...]]]:
    """For each level: the number of its slots, and the slot of each group."""
    found: list[tuple[str, tuple[int, ...]]] = []
    for topology in layout.topologies:
        found.append((topology.name, _level(topology)))
        found.extend((group.path, _level(group)) for group in topology.walk() if group.groups)
    return found


def _level(parent: Topology | Group) -> tuple[int, ...]:
    return (parent.slots, *(group.slot for group in parent.groups))


def _spec(layout: Layout, levels: set[str]) -> Spec:
    def below(group: Group, networks: int, *, explicit: bool) -> GroupSpec:
        deeper = group.path in levels
        return GroupSpec(
            path=group.path,
            name=group.name,
            assignment=group.assignment,
            routing=group.routing,
            weight=group.weight,
            prefixes=group.pinned_prefixes,
            groups=tuple(below(child, networks, explicit=deeper) for child in group.groups),
            slots=group.slots if deeper else 0,
            slot=group.slot if explicit and len(group.pinned_prefixes) < networks else None,
        )

    return Spec(
        networks=layout.networks,
        topologies=tuple(
            TopologySpec(
                name=topology.name,
                networks=topology.networks,
                groups=tuple(
                    below(group, len(topology.networks), explicit=topology.name in levels)
                    for group in topology.groups
                ),
                slots=topology.slots if topology.name in levels else 0,
            )
            for topology in layout.topologies
        ),
    )


def _document(layout: Layout, nodes: Iterable[Node], *, all_slots: bool) -> dict[str, Plain]:
    writer = _Writer(layout, nodes)
    spec = all_slots_of(layout) if all_slots else explicit_slots(layout)
    return {
        "networks": [to_plain(network, seconds=_seconds) for network in layout.networks],
        "topologies": [writer.topology(topology) for topology in spec.topologies],
    }


class _Writer:
    """Writes the trees with their nodes; a node in several of them is described in the first."""

    def __init__(self, layout: Layout, nodes: Iterable[Node]) -> None:
        known = {network.name for network in layout.networks}
        self._written: set[NodeName] = set()
        self._members: dict[GroupPath, list[Node]] = {}
        for node in nodes:
            if node.attachments is not None:
                attachments = tuple(a for a in node.attachments if a.network in known)
                if not attachments:
                    continue  # what is listed in a group is on its networks
                node = replace(node, attachments=attachments)  # noqa: PLW2901 - as exported
            for path in node.placements.values():
                self._members.setdefault(path, []).append(node)

    def topology(self, topology: TopologySpec) -> Plain:
        groups: Plain = [self._group(group) for group in topology.groups]
        return {**to_plain(topology, without={"groups"}), "groups": groups}

    def _group(self, group: GroupSpec) -> Plain:
        value = to_plain(group, without={"groups"})
        _put(value, "groups", [self._group(child) for child in group.groups])
        _put(value, "nodes", [self._node(node) for node in self._members.get(group.path, ())])
        return value

    def _node(self, node: Node) -> Plain:
        if node.name in self._written:
            return node.name
        self._written.add(node.name)
        value = to_plain(node, without=_NOT_WRITTEN)
        return {name: item for name, item in value.items() if item != {}}


def _seconds(seconds: float) -> str:
    return f"{Decimal(str(seconds)).normalize():f}s"


def _put(value: dict[str, Plain], name: str, item: Plain) -> None:
    if item:
        value[name] = item
