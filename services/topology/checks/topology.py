"""Makes a spec of a document and says everything that is wrong with it.

Whatever is wrong is left out or replaced by its default, so that the rest can be checked and carved
without the same mistake being reported twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from services.common.document.fields import Fields
from services.common.document.models import ignore_output, read
from services.common.document.tree import Scalar, Table
from services.common.model.names import (
    GroupPath,
    NetworkName,
    NodeName,
    TopologyName,
    group_name,
    labels,
    resource_name,
)
from services.common.model.network import Prefix
from services.topology.checks.networks import Networks, read_networks
from services.topology.checks.nodes import read_node
from services.topology.model.spec import GroupSpec, NodeSpec, Spec, TopologySpec, is_power_of_two

MAX_DEPTH = 32
MAX_GROUPS = 20_000
MAX_SLOTS = 1 << 16
"""At one level. Carving keeps a byte for each."""
MAX_TEXT = 1024
"""Characters of a routing hint."""
DEFAULT_GROUP = "all"


def read_spec(document: Fields) -> Spec:
    """The spec as far as it is sound. Do not use it if there are findings."""
    networks = read_networks(document)
    reader = _TopologyReader(networks)
    topologies: dict[str, TopologySpec] = {}
    for part in document.parts("topologies"):
        topology = reader.read(part)
        if topology.name in topologies:
            part.wrong("name", f"there is another topology {topology.name!r}")
        topologies.setdefault(topology.name, topology)
    document.end()
    for name, fields in networks.fields.items():
        if name and name not in reader.topology_of:
            fields.wrong("name", f"network {name[:80]!r} is in no topology")
    if reader.group_count > MAX_GROUPS:
        document.wrong("topologies", f"there are more than {MAX_GROUPS} groups")
    _check_addresses_differ(reader.nodes.values(), document)
    return Spec(networks.sound, tuple(topologies.values()), tuple(reader.nodes.values()))


class _TopologyReader:
    """Reads topologies one after the other, with the nodes that they list."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks.by_name
        self.topology_of: dict[str, str] = {}
        """The topology of each network that is in one."""
        self.nodes: dict[NodeName, NodeSpec] = {}
        self.group_count = 0

    def read(self, fields: Fields) -> TopologySpec:
        groups = list(fields.parts("groups")) or [_default_group(fields)]
        topology = read(TopologySpec, fields, groups=())
        name = topology.name or TopologyName(next(iter(topology.networks), ""))
        if topology.name:
            fields.add(resource_name(name, fields.path("name")))
        networks = self._use_networks(topology, name, fields)
        return TopologySpec(
            name,
            networks,
            _slots(topology.slots, fields),
            self._groups(groups, GroupPath(name), name, networks, {}, 1),
            groups_at=fields.path("groups"),
        )

    def _use_networks(
        self, topology: TopologySpec, name: TopologyName, fields: Fields
    ) -> tuple[NetworkName, ...]:
        """The topology's networks, as far as they are sound."""
        if not topology.networks:
            fields.wrong("networks", "there is no network in it")
        sound: list[NetworkName] = []
        for number, network in enumerate(topology.networks):
            place = f"networks[{number}]"
            other = self.topology_of.get(network)
            if network not in self._networks:
                fields.wrong(place, f"there is no network {network[:80]!r}")
            elif other is not None:
                fields.wrong(place, f"network {network!r} is in topology {other!r} already")
            else:
                self.topology_of[network] = name
                if self._networks[network] is not None:
                    sound.append(network)
        return tuple(sound)

    def _groups(
        self,
        parts: list[Fields],
        parent: GroupPath,
        topology: TopologyName,
        networks: tuple[NetworkName, ...],
        inherited: Mapping[str, str],
        depth: int,
    ) -> tuple[GroupSpec, ...]:
        if parts and depth > MAX_DEPTH:
            parts[0].findings.wrong(parts[0].at, f"groups are nested more than {MAX_DEPTH} deep")
            return ()
        groups: list[GroupSpec] = []
        seen: set[str] = set()
        for number, fields in enumerate(parts, 1):
            self.group_count += 1
            below, nodes = (
                list(fields.parts("groups")),
                list(fields.parts("nodes", scalar_is="name")),
            )
            ignore_output(fields, "path", "carved_prefixes", "node_count")
            group = read(GroupSpec, fields, groups=())
            name = group.name or f"group-{number}"
            wrong = list(group_name(name, fields.path("name")))
            fields.add(wrong)
            if name in seen:
                fields.wrong("name", f"there is another group {name!r} beside it")
            path = GroupPath(f"{parent}/{name}")
            _check_assignment(group, inherited, fields)
            assignment = {**inherited, **group.assignment}
            groups_below = self._groups(below, path, topology, networks, assignment, depth + 1)
            if nodes and below:
                fields.wrong("nodes", "a group with groups below takes no nodes itself")
            else:
                self._list_nodes(nodes, topology, path)
            if not wrong and name not in seen:
                groups.append(
                    replace(
                        group,
                        path=path,
                        name=name,
                        at=fields.at,
                        weight=_weight(group, fields),
                        prefixes=self._prefixes(group, networks, fields),
                        groups=groups_below,
                        slots=_slots(group.slots, fields),
                        slot=_slot(group, fields),
                    )
                )
            seen.add(name)
            if group.slots and not below:
                fields.wrong("slots", "there are no groups below to divide it for")
            if len(group.routing) > MAX_TEXT:
                fields.wrong("routing", f"has more than {MAX_TEXT} characters")
        return tuple(groups)

    def _prefixes(
        self, group: GroupSpec, networks: tuple[NetworkName, ...], fields: Fields
    ) -> dict[NetworkName, Prefix]:
        found: dict[NetworkName, Prefix] = {}
        for name in map(NetworkName, fields.keys("prefixes")):
            prefix = group.prefixes.get(name)
            at = fields.key_path("prefixes", name)
            network = self._networks.get(name)
            if name not in self._networks:
                fields.findings.wrong(at, f"there is no network {name[:80]!r}")
            elif network is not None and name not in networks:
                fields.findings.wrong(at, f"network {name!r} is not in this topology")
            elif network is not None and prefix is not None:
                if prefix.version == network.cidr.version:
                    found[name] = prefix
                else:
                    fields.findings.wrong(at, f"{prefix} is not of the family of network {name!r}")
        return found

    def _list_nodes(self, parts: list[Fields], topology: TopologyName, path: GroupPath) -> None:
        for fields in parts:
            listed = read_node(fields, self._networks, listed=True)
            node = listed.node
            if node.pins.get(topology, path) != path:
                fields.wrong("pins", f"pins the node elsewhere, but it is listed in {path!r}")
            listed = replace(listed, node=replace(node, pins={**node.pins, topology: path}))
            other = self.nodes.get(node.name)
            if other is None:
                self.nodes[node.name] = listed
            elif topology not in other.node.pins:
                self.nodes[node.name] = _merge(other, listed, fields)
            elif other.node.pins[topology] != path:
                fields.wrong(
                    "name",
                    f"node {node.name!r} is in group {other.node.pins[topology]!r} already",
                )
            else:
                fields.wrong("name", f"there is another node {node.name!r}")


def _default_group(topology: Fields) -> Fields:
    return Fields(Table({"name": Scalar(DEFAULT_GROUP)}), topology.at, topology.findings)


def _check_assignment(group: GroupSpec, inherited: Mapping[str, str], fields: Fields) -> None:
    fields.add(labels(group.assignment, fields.path("assignment")))
    for key, value in group.assignment.items():
        if inherited.get(key, value) != value:
            fields.findings.wrong(
                fields.key_path("assignment", key),
                f"{value[:80]!r} contradicts {inherited[key][:80]!r} of a group above: no node can "
                "carry both",
            )


def _weight(group: GroupSpec, fields: Fields) -> int:
    if 0 <= group.weight <= MAX_SLOTS:
        return group.weight or 1
    fields.wrong("weight", f"{group.weight} is not between 0 and {MAX_SLOTS}")
    return 1


def _slots(slots: int, fields: Fields) -> int:
    if slots == 0 or (is_power_of_two(slots) and slots <= MAX_SLOTS):
        return slots
    fields.wrong("slots", f"{slots} is not a power of two up to {MAX_SLOTS}")
    return 0


def _slot(group: GroupSpec, fields: Fields) -> int | None:
    if group.slot is None or 0 <= group.slot < MAX_SLOTS:
        return group.slot
    fields.wrong("slot", f"{group.slot} is not between 0 and {MAX_SLOTS - 1}")
    return None


def _merge(one: NodeSpec, other: NodeSpec, fields: Fields) -> NodeSpec:
    """A node that is listed in several topologies; what is left out there counts here.

    `fields` are those of the other.
    """
    mine, theirs = one.node, other.node
    for name in sorted(one.said & other.said):
        if getattr(mine, name) != getattr(theirs, name):
            fields.wrong(name, f"node {mine.name!r} is listed with another value before")
    return replace(one, node=one.over(other.over(mine)), said=one.said | other.said)


def _check_addresses_differ(nodes: Iterable[NodeSpec], document: Fields) -> None:
    holders: dict[object, NodeSpec] = {}
    for listed in nodes:
        for address in sorted(listed.node.addresses, key=str):
            other = holders.setdefault(address, listed)
            if other is not listed:
                document.findings.wrong(
                    listed.address_at,
                    f"{address} is the address of node {other.node.name!r} already",
                )
