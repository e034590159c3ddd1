"""The routes of a lab's routers: one a rack at the core router, one a node in the node's rack.

They are static. They follow from how the topology is carved, which is known before anything is
allocated, and no endpoint that comes or goes changes them. Every node of a rack is therefore in a
leaf group of its own: what a leaf's nodes share, the rack's router could only learn block by block.

The layout is worked out by topology's own pure functions, so that a file that cannot be built is
refused before there is anything to undo. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network

from lab.file import topology_document
from lab.spec import Address, Lab, Network, Node, Prefix, Rack
from services.common.errors import InvalidInput, Violation
from services.common.model import node as model
from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import GroupPath, NetworkName, NodeName, TopologyName
from services.topology.forms.file import read_document
from services.topology.layout.carving import carve
from services.topology.layout.node_index import NodeIndex

CORE_INTERFACE, NODES_INTERFACE = "core", "nodes"
"""Of a rack's router: to the core router, to the nodes. The core router's has the rack's name."""
EVERYTHING: Mapping[int, Prefix] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
"""By family."""


@dataclass(frozen=True, slots=True)
class Route:
    prefix: Prefix
    via: Address | None = None
    """None: unreachable, unless there is a longer prefix. Without it, what no node has would go
    back and forth between two routers until its hop limit ends it."""
    interface: str = ""


@dataclass(frozen=True, slots=True)
class Routing:
    """Everything that the routers of racks make necessary."""

    core: Sequence[Route] = ()
    racks: Mapping[str, Sequence[Route]] = field(default_factory=dict)
    """By the rack's name."""
    prefixes: Mapping[str, Mapping[str, Prefix]] = field(default_factory=dict)
    """By rack and network: what is behind its router."""


def routing(lab: Lab, text: str) -> Routing:
    """Works out all routes of a lab that was checked; none without racks.

    Args:
        lab: The lab.
        text: The file that it was read from.

    Raises:
        InvalidInput: The topology is wrong, or its groups are not those of racks and nodes.
    """
    if not lab.racks:
        return Routing()
    return _Planner(lab, _layout(topology_document(text))).planned()


def _layout(topology: str) -> Layout:
    request = read_document(topology)
    problems = request.findings.problems
    layout = carve(request.spec, Layout(), problems)
    if problems:
        raise InvalidInput.of(problems)
    return layout


class _Planner:
    """Collects problems while it finds the groups of racks and nodes."""

    def __init__(self, lab: Lab, layout: Layout) -> None:
        self._lab = lab
        self._problems: list[Violation] = []
        self._topologies: dict[str, Topology] = {
            network: topology for topology in layout.topologies for network in topology.networks
        }
        self._groups: dict[GroupPath, Group] = {
            group.path: group for topology in layout.topologies for group in topology.walk()
        }
        self._placements = self._placed(layout)

    def planned(self) -> Routing:
        lab = self._lab
        behind: dict[str, dict[str, Group]] = {rack.name: {} for rack in lab.racks}
        for number, rack in enumerate(lab.racks):
            versions = {own.version for own in rack.router}
            for network in lab.routed:
                if network.cidr.version not in versions:
                    continue
                group = self._group_of(rack, network, f"racks[{number}].name")
                if group is not None:
                    behind[rack.name][network.name] = group
        tables = {rack.name: [*self._in_rack(rack, behind[rack.name])] for rack in lab.racks}
        if self._problems:
            raise InvalidInput.of(self._problems)
        prefixes = {
            rack: {name: group.prefixes[NetworkName(name)] for name, group in groups.items()}
            for rack, groups in behind.items()
        }
        return Routing([*self._at_core(prefixes)], tables, prefixes)

    def _placed(self, layout: Layout) -> Mapping[str, Mapping[TopologyName, GroupPath]]:
        """Where topology puts the nodes, registered in the file's order."""
        node_index = NodeIndex(layout)
        placements: dict[str, Mapping[TopologyName, GroupPath]] = {}
        for node in self._lab.nodes:
            made = model.Node(
                NodeName(node.name),
                self._lab.management(node.name),
                labels=node.labels,
                attachments=tuple(model.Attachment(NetworkName(name)) for name in node.addresses),
            )
            placements[node.name] = node_index.place(made)
            node_index.add(replace(made, placements=placements[node.name]))
        return placements

    def _group_of(self, rack: Rack, network: Network, at: str) -> Group | None:
        """The prefix group of a rack, which has its name."""
        topology = self._topologies[network.name]
        named = [group for group in topology.walk() if group.name == rack.name]
        if len(named) == 1:
            return named[0]
        self._problems.append(
            Violation(
                at,
                f"topology {topology.name}, which has network {network.name}, has "
                f"{len(named) or 'no'} groups named {rack.name!r}; it has to have one, whose "
                "prefix is what the core router's route to this rack is for",
            )
        )
        return None

    def _in_rack(self, rack: Rack, behind: Mapping[str, Group]) -> Iterator[Route]:
        lab = self._lab
        held: dict[GroupPath, str] = {}
        found: set[Prefix] = set()
        for number, node in enumerate(lab.nodes):
            if node.rack != rack.name:
                continue
            for name in node.addresses:
                if name not in behind or not lab.network(name).is_routed:
                    continue
                at = f"nodes[{number}].labels"
                leaf = self._leaf_of(node, lab.network(name), behind[name], at)
                if leaf is None:
                    continue
                owner = held.setdefault(leaf.path, node.name)
                if owner != node.name:
                    message = (
                        f"{node.name} and {owner} are both in group {leaf.path}: the router of "
                        f"{rack.name} has no route for one of them; give each node a group, such "
                        f"as `groups: [{{name: {owner}}}, {{name: {node.name}}}]`"
                    )
                    self._problems.append(Violation(at, message))
                    continue
                prefix = leaf.prefixes[NetworkName(name)]
                found.add(prefix)
                yield Route(prefix, node.addresses[name], NODES_INTERFACE)
        for name, group in behind.items():
            prefix = group.prefixes[NetworkName(name)]
            if prefix not in found:
                yield Route(prefix)
        for version in {own.version for own in rack.router}:
            core, _ = lab.transfer(rack.name, version)
            yield Route(EVERYTHING[version], core, CORE_INTERFACE)

    def _leaf_of(self, node: Node, network: Network, rack: Group, at: str) -> Group | None:
        """The group of a node, if it is in that of its rack."""
        topology = self._topologies[network.name]
        path = self._placements[node.name].get(topology.name)
        if path is not None and path in {group.path for group in rack.walk()}:
            return self._groups[path]
        where = f"are for group {path}" if path else f"fit no group of topology {topology.name}"
        self._problems.append(
            Violation(
                at, f"{where}, but the node is in rack {node.rack}, whose group is {rack.path}"
            )
        )
        return None

    def _at_core(self, prefixes: Mapping[str, Mapping[str, Prefix]]) -> Iterator[Route]:
        """The core router's table: where racks are, and what is behind them."""
        lab = self._lab
        for rack in lab.racks:
            for prefix in (*rack.subnets, *prefixes[rack.name].values()):
                _, via = lab.transfer(rack.name, prefix.version)
                yield Route(prefix, via, rack.name)
        known = {prefix for behind in prefixes.values() for prefix in behind.values()}
        for network in lab.routed:
            if network.cidr not in known:  # a single group has all of it
                yield Route(network.cidr)
