"""An index that is kept up node by node places as a plain search over all nodes and leaves does."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import GroupPath, NetworkName, NodeName, TopologyName
from services.common.model.node import Attachment, Node
from services.topology.layout.node_index import NodeIndex

LABELS = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3)
ADDRESSES = [ip_address(f"192.0.2.{number}") for number in range(1, 6)]
TOPOLOGIES = ("t", "u")
ATTACHMENTS = st.none() | st.sets(st.sampled_from(TOPOLOGIES)).map(
    lambda names: tuple(Attachment(NetworkName(f"net-{name}")) for name in names)
)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    def groups(parent: str, depth: int) -> tuple[Group, ...]:
        return tuple(
            Group(
                GroupPath(f"{parent}/{name}"),
                name,
                draw(LABELS),
                groups=groups(f"{parent}/{name}", depth - 1)
                if depth and draw(st.booleans())
                else (),
            )
            for name in draw(st.lists(st.sampled_from("pqrs"), max_size=3, unique=True))
        )

    return Layout(
        topologies=tuple(
            Topology(TopologyName(name), (NetworkName(f"net-{name}"),), groups(name, 2))
            for name in draw(st.sampled_from([TOPOLOGIES, TOPOLOGIES[:1]]))
        )
    )


def leaves_of(layout: Layout) -> list[tuple[Topology, Group, dict[str, str]]]:
    found: list[tuple[Topology, Group, dict[str, str]]] = []

    def below(topology: Topology, group: Group, inherited: dict[str, str]) -> None:
        requires = {**inherited, **group.assignment}
        if not group.groups:
            found.append((topology, group, requires))
        for child in group.groups:
            below(topology, child, requires)

    for topology in layout.topologies:
        for group in topology.groups:
            below(topology, group, {})
    return found


def eligible(node: Node, layout: Layout, name: str) -> list[GroupPath]:
    """As DESIGN.md says it: a pin first, else every leaf whose labels the node carries."""
    mine = [item for item in leaves_of(layout) if item[0].name == name]
    if not any(any(map(node.is_attached, topology.networks)) for topology, _, _ in mine):
        return []
    pin = node.pins.get(TopologyName(name))
    if pin in [group.path for _, group, _ in mine]:
        return [group.path for _, group, _ in mine if group.path == pin]
    return [
        group.path for _, group, requires in mine if requires.items() <= dict(node.labels).items()
    ]


def expected(node: Node, layout: Layout, others: list[Node]) -> dict[str, str]:
    counts = Counter(
        path
        for other in others
        for name, path in other.placements.items()
        if path in eligible(other, layout, name)
    )
    found: dict[str, str] = {}
    for topology in layout.topologies:
        may = eligible(node, layout, topology.name)
        held = node.placements.get(topology.name)
        if held in may:
            found[topology.name] = str(held)
        elif may:
            found[topology.name] = min(may, key=lambda path: counts[path])
    return found


@given(st.data(), layouts())
def test_it_places_as_a_search_over_everything_does(data: st.DataObject, layout: Layout) -> None:
    node_index = NodeIndex(layout)
    nodes: dict[NodeName, Node] = {}
    paths = [group.path for _, group, _ in leaves_of(layout)] + [GroupPath("t/gone")]
    for _ in range(data.draw(st.integers(1, 25))):
        name = NodeName(data.draw(st.sampled_from("uvwxyz")))
        known = nodes.get(name)
        if known is not None and data.draw(st.booleans()):
            node_index.remove(nodes.pop(name))
            continue
        node = Node(
            name,
            data.draw(st.sampled_from(ADDRESSES)),
            labels=data.draw(LABELS),
            attachments=data.draw(ATTACHMENTS),
            pins={
                TopologyName(path.split("/")[0]): path
                for path in data.draw(st.lists(st.sampled_from(paths), max_size=1))
            },
            placements=known.placements if known is not None else {},
        )
        others = [other for other in nodes.values() if other.name != name]
        placements = node_index.place(node)
        assert placements == expected(node, layout, others)
        if data.draw(st.integers(0, 9)) == 0:  # a node that a new layout left where it may not be
            placements[TopologyName("t")] = GroupPath("t/gone")
        if known is not None:
            node_index.remove(known)
        nodes[name] = replace(node, placements=placements)
        node_index.add(nodes[name])
    assert node_index.unplaced == sum(not node.placements for node in nodes.values())
    for address in ADDRESSES:
        holders = [node.name for node in nodes.values() if address in node.addresses]
        for name in map(NodeName, "uvwxyz"):
            found = node_index.holder(address, but=name)
            assert (found is None) == (set(holders) <= {name})
            assert found is None or found in holders
