"""Carving, planning and export hold for whatever topology somebody may draw up."""

from __future__ import annotations

import itertools

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from services.common.document.tree import Json, from_json
from services.common.errors import InvalidInput
from services.common.model.layout import Group, Layout
from services.common.model.names import NodeName
from services.common.model.node import Node
from services.topology.forms.apply_request import ApplyRequest
from services.topology.forms.export import export_json, export_yaml
from services.topology.forms.file import read_document
from services.topology.layout.plan import Plan
from services.topology.layout.usage import Usage

names = st.text("abcyn01-", min_size=1, max_size=6).filter(lambda text: text[0] != "-")
labels = st.dictionaries(
    st.sampled_from(["zone", "rack", "on", "1e3"]),
    st.sampled_from(["no", "1", "010", "x"]),
    max_size=2,
)


@st.composite
def groups(draw: st.DrawFn, depth: int = 3) -> list[Json]:
    return [
        {
            "name": name,
            "routing": draw(st.text("a:#'\" \n\té\x85\x07-", max_size=5)),
            "weight": draw(st.integers(0, 5)),
            "groups": draw(groups(depth - 1)) if depth > 1 else [],
        }
        for name in draw(st.lists(names, max_size=5 if depth > 1 else 3, unique=True))
    ]


def spec(tree: list[Json]) -> Json:
    four: Json = {
        "name": "four",
        "cidr": "10.0.0.0/12",
        "reuse_delay": "0.25s",
        "isolation": "segment",
        "masquerade": True,
        "dns": {"nameservers": ["10.0.0.53", "fd00::53"], "search": ["corp.example", "example"]},
    }
    six: Json = {"name": "six", "cidr": "fd00:1::/64", "block_length": 120}
    topology: Json = {"name": "t", "networks": ["four", "six"], "groups": tree}
    return {"networks": [four, six], "topologies": [topology]}


def plan(
    document: Json, before: Layout | None = None, nodes: dict[NodeName, Node] | None = None
) -> Plan:
    return ApplyRequest.of(from_json(document)).plan(before or Layout(), nodes or {}, Usage(), 0)


def fits(document: Json, before: Layout | None = None) -> Plan:
    try:
        return plan(document, before)
    except InvalidInput as error:
        assume("no room" not in str(error))
        raise


def check_levels(layout: Layout) -> None:
    by_name = {network.name: network for network in layout.networks}

    def level(parents: dict[str, object], below: tuple[Group, ...]) -> None:
        for name, parent in parents.items():
            prefixes = sorted(group.prefixes[name] for group in below)  # type: ignore[index]
            for prefix in prefixes:
                assert prefix.subnet_of(parent)  # type: ignore[arg-type]
                assert prefix.prefixlen <= by_name[name].block_length  # type: ignore[index]
            for one, other in itertools.pairwise(prefixes):
                assert not one.overlaps(other)
        for group in below:
            if group.groups:
                level(dict(group.prefixes.items()), group.groups)

    for topology in layout.topologies:
        level({name: by_name[name].cidr for name in topology.networks}, topology.groups)


@given(groups())
def test_groups_are_disjoint_and_inside_their_parent(tree: list[Json]) -> None:
    check_levels(fits(spec(tree)).layout)


@given(groups(2), st.lists(st.tuples(names, st.integers(0, 4)), max_size=4), st.randoms())
def test_what_there_is_keeps_the_start_of_its_prefix_when_groups_are_added(
    tree: list[Json], added: list[tuple[str, int]], random: object
) -> None:
    before = fits(spec(tree)).layout
    taken = {group["name"] for group in tree}  # type: ignore[index, call-overload]
    new = {name: weight for name, weight in added if name not in taken}
    grown: list[Json] = [*tree, *({"name": name, "weight": weight} for name, weight in new.items())]
    random.shuffle(grown)  # type: ignore[attr-defined]
    assume(tree)
    after = fits(spec(grown), before).layout
    check_levels(after)
    held = {group.path: group for group in after.topologies[0].walk()}
    for group in before.topologies[0].groups:
        for name, prefix in group.prefixes.items():
            assert held[group.path].prefixes[name].network_address == prefix.network_address
    if before.topologies[0].slots == after.topologies[0].slots:
        assert all(held[g.path].prefixes == g.prefixes for g in before.topologies[0].groups)


@given(st.lists(groups(2), min_size=1, max_size=4))
@settings(max_examples=60)
def test_export_and_import_make_the_same_whatever_came_before(
    history: list[list[Json]],
) -> None:
    layout = Layout()
    for tree in history:
        layout = fits(spec(tree), layout).layout
        check_levels(layout)
    for text in (export_yaml(layout), export_json(layout)):
        request = read_document(text)
        assert not request.findings.problems
        assert request.plan(Layout(), {}, Usage(), 0).layout == layout


@given(groups(2), groups(2), st.lists(labels, max_size=6))
def test_a_plan_applied_leaves_nothing_to_do(
    first: list[Json], second: list[Json], machines: list[dict[str, str]]
) -> None:
    nodes = {
        NodeName(f"n{i}"): Node(NodeName(f"n{i}"), labels=machine)
        for i, machine in enumerate(machines)
    }
    layout = Layout()
    for tree in (first, second):
        fits(spec(tree), layout)
        made = plan(spec(tree), layout, nodes)
        layout = made.layout
        nodes |= {node.name: node for node in made.nodes}
        again = plan(spec(tree), layout, nodes)
        assert again == Plan(layout)
