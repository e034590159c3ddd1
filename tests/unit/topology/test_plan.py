from dataclasses import replace
from ipaddress import ip_address

import pytest

from services.common.errors import WrongState
from services.common.model.layout import Layout
from services.common.model.names import GroupPath, NetworkName, NodeName, TopologyName
from services.common.model.node import Attachment, Node, NodeAllowance
from services.topology.forms.file import read_document
from services.topology.layout.diff import Kind
from services.topology.layout.leaf_counts import LeafCounts
from services.topology.layout.node_index import NodeIndex
from services.topology.layout.placement import Placer, networks_of
from services.topology.layout.plan import Plan, placed_anew, plan_node
from services.topology.layout.usage import BlockUse, PageUse, Usage

N = NetworkName("n")
T = TopologyName("n")
ZONES = (
    "[{name: z1, assignment: {zone: z1}, groups: [{name: a}, {name: b}, {name: c}]},"
    " {name: z2, assignment: {zone: z2}}]"
)


def plan(
    groups: str,
    before: Plan | None = None,
    nodes: dict[NodeName, Node] | None = None,
    usage: Usage | None = None,
    network: str = "",
) -> Plan:
    request = read_document(
        f"networks: [{{name: n, cidr: 10.0.0.0/16{network}}}]\n"
        f"topologies: [{{networks: [n], groups: {groups}}}]"
    )
    return request.plan(before.layout if before else Layout(), nodes or {}, usage or Usage(), 0)


def node(name: str, **labels: str) -> Node:
    return Node(NodeName(name), ip_address("192.0.2.1"), labels=labels)


def join(layout: Layout, nodes: dict[NodeName, Node], new: Node) -> Node:
    known = nodes.get(new.name)
    (placed,) = plan_node(new, known, layout, NodeIndex(layout, nodes.values()), ()).nodes
    nodes[placed.name] = placed
    return placed


def in_use(base: str, owner: str, length: int = 29, used: int = 3) -> Usage:
    usage = Usage()
    usage.put(N, int(ip_address(base)), 0, PageUse(length, 32, NodeName(owner), (1 << used) - 1))
    return usage


def test_the_ninth_node_of_a_zone_of_three_groups_stays_in_its_zone() -> None:
    layout = plan(ZONES).layout
    nodes: dict[NodeName, Node] = {}
    where = [join(layout, nodes, node(f"node-{i}", zone="z1")).placements[T] for i in range(9)]
    assert where == ["n/z1/a", "n/z1/b", "n/z1/c"] * 3


def test_labels_match_exactly_with_those_above() -> None:
    layout = plan("[{name: z, assignment: {zone: a}, groups: [{name: r, assignment: {rack: r}}]}]")
    placer = Placer(layout.layout)
    assert placer.place(node("x", zone="a", rack="r", more="m"), LeafCounts()) == {T: "n/z/r"}
    assert placer.place(node("x", rack="r"), LeafCounts()) == {}
    assert placer.place(node("x", zone="A", rack="r"), LeafCounts()) == {}


def test_a_node_that_fits_nothing_is_told_what_is_missing() -> None:
    layout = plan(ZONES).layout
    with pytest.raises(WrongState, match="zone=z1") as caught:
        plan_node(node("x"), None, layout, NodeIndex(layout), ())
    assert caught.value.reason == "NODE_FITS_NOWHERE"


def test_a_pin_goes_before_labels() -> None:
    layout = plan(ZONES).layout
    pinned = Node(NodeName("x"), ip_address("192.0.2.1"), pins={T: GroupPath("n/z2")})
    assert Placer(layout).place(pinned, LeafCounts()) == {T: "n/z2"}


def test_a_node_is_only_in_topologies_of_networks_it_is_attached_to() -> None:
    request = read_document(
        "networks: [{name: n, cidr: 10.0.0.0/16}, {name: m, cidr: 10.1.0.0/16}]\n"
        "topologies: [{networks: [n]}, {networks: [m]}]"
    )
    layout = request.plan(Layout(), {}, Usage(), 0).layout
    attached = Node(
        NodeName("x"), ip_address("192.0.2.1"), attachments=(Attachment(NetworkName("m")),)
    )
    (placed,) = plan_node(attached, None, layout, NodeIndex(layout), ()).nodes
    assert placed.placements == {"m": "m/all"}
    assert networks_of(placed, layout) == ("m",)


def test_a_node_that_still_fits_stays() -> None:
    before = plan("[{name: a}, {name: b}]")
    nodes: dict[NodeName, Node] = {}
    for name in "xyz":
        join(before.layout, nodes, node(name))
    after = plan("[{name: new}, {name: a}, {name: b}]", before, nodes)
    assert not after.moves
    assert not after.nodes


def test_a_removed_groups_nodes_move() -> None:
    before = plan("[{name: a}, {name: b}]")
    nodes: dict[NodeName, Node] = {}
    join(before.layout, nodes, node("x"))
    after = plan("[{name: b}]", before, nodes)
    assert [(move.before, move.after) for move in after.moves] == [("n/a", "n/b")]
    assert [(change.group, change.kind) for change in after.groups] == [("n/a", Kind.REMOVED)]


def test_a_block_in_use_outside_its_nodes_group_is_stranded() -> None:
    before = plan("[{name: a}, {name: b}]")
    nodes: dict[NodeName, Node] = {}
    join(before.layout, nodes, node("x"))
    usage = in_use("10.0.0.0", "x")
    after = plan("[{name: b}]", before, nodes, usage)
    assert after.stranded == (BlockUse(N, int(ip_address("10.0.0.0")), 29, NodeName("x"), 3),)
    assert after.stranded_addresses == 3


def test_a_group_that_shrinks_around_its_blocks_strands_nothing() -> None:
    before = plan("[{name: a}, {name: b}]")
    nodes: dict[NodeName, Node] = {}
    join(before.layout, nodes, node("x"))
    assert not plan(
        "[{name: a}, {name: b}, {name: c}]", before, nodes, in_use("10.0.63.248", "x")
    ).stranded
    assert plan(
        "[{name: a}, {name: b}, {name: c}]", before, nodes, in_use("10.0.64.0", "x")
    ).stranded


def test_another_block_length_strands_blocks() -> None:
    before = plan("[]")
    nodes: dict[NodeName, Node] = {}
    join(before.layout, nodes, node("x"))
    after = plan("[]", before, nodes, in_use("10.0.0.0", "x"), ", block_length: 28")
    assert after.stranded_addresses == 3
    assert [(c.kind, c.fields) for c in after.networks] == [(Kind.UPDATED, ("block_length",))]


def test_what_is_stranded_already_is_not_stranded_again() -> None:
    before = plan("[{name: a}, {name: b}]")
    nodes: dict[NodeName, Node] = {}
    join(before.layout, nodes, node("x"))
    assert not plan("[{name: b}]", before, nodes, in_use("10.9.0.0", "x")).stranded


def test_pins_to_groups_that_are_gone_are_dropped() -> None:
    before = plan("[{name: a}, {name: b}]")
    pinned = Node(NodeName("x"), ip_address("192.0.2.1"), pins={T: GroupPath("n/a")})
    nodes: dict[NodeName, Node] = {}
    join(before.layout, nodes, pinned)
    (after,) = plan("[{name: b}]", before, nodes).nodes
    assert after.pins == {}
    assert after.placements == {T: "n/b"}


def test_a_node_in_a_group_that_is_gone_counts_for_none_until_it_is_settled() -> None:
    layout = plan("[{name: a}, {name: b}]").layout
    lost = Node(NodeName("x"), ip_address("192.0.2.9"), placements={T: GroupPath("n/gone")})
    (settled,) = placed_anew(layout, {lost.name: lost}).values()
    assert settled.placements == {T: "n/a"}
    assert placed_anew(layout, {settled.name: settled}) == {}


def attached(*attachments: Attachment) -> dict[NodeName, Node]:
    before = plan("[{name: g}]", network=", vlan: 30").layout
    nodes: dict[NodeName, Node] = {}
    join(before, nodes, replace(node("x"), attachments=attachments))
    return nodes


def link(interface: str, parent: str = "eth1", vlan_id: int = 30) -> Attachment:
    return Attachment(N, interface, ip_address("10.0.127.2"), vlan_id, parent)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (link("eth1.30"), link("eth1.31", vlan_id=31)),
        (link("vlan30"), link("vlan31", vlan_id=31)),
        (link("back"), link("back", vlan_id=31)),
        (link("v130"), link("v130", vlan_id=31)),  # of 130, or of nothing
        (link("eth1.30", parent=""), link("eth1.30", parent="", vlan_id=31)),  # somebody else's
        (link("eth1", parent="", vlan_id=0), link("eth1", parent="", vlan_id=0)),
    ],
)
def test_a_network_with_another_vlan_takes_attachments_along(
    before: Attachment, after: Attachment
) -> None:
    first, nodes = plan("[{name: g}]", network=", vlan: 30"), attached(before)
    made = plan("[{name: g}]", first, nodes, network=", vlan: 31")
    (change,) = made.networks
    assert [(one.field, one.before, one.after) for one in change.values] == [
        ("vlan_id", "30", "31")
    ]
    (concerned,) = made.attachments
    assert (concerned.node, concerned.before, concerned.after) == ("x", before, after)
    assert [one.attachments for one in made.nodes] == ([(after,)] if after != before else [])
    # and what was left unfinished is completed at the next start
    settled = placed_anew(made.layout, nodes)
    assert [one.attachments for one in settled.values()] == ([(after,)] if after != before else [])
    again = plan("[{name: g}]", made, {**nodes, **settled}, network=", vlan: 31")
    assert (again.nodes, again.networks, again.attachments) == ((), (), ())


@pytest.mark.parametrize(
    ("then", "values"),
    [
        (", vlan: 30, mtu: 1400", [("mtu", "", "1400")]),
        (", vlan: 30, gateway: 10.0.0.1", [("gateway", "", "10.0.0.1")]),
        (", vlan: 30, mode: onlink", [("mode", "routed", "onlink")]),
    ],
)
def test_attachments_that_a_change_concerns_are_named(
    then: str, values: list[tuple[str, str, str]]
) -> None:
    first, nodes = plan("[{name: g}]", network=", vlan: 30"), attached(link("eth1.30"))
    made = plan("[{name: g}]", first, nodes, network=then)
    (change,) = made.networks
    assert [(one.field, one.before, one.after) for one in change.values] == values
    assert [one.before == one.after for one in made.attachments] == [True]
    assert not made.nodes


@pytest.mark.parametrize(
    ("said", "changed"),
    [
        ("{name: x}", {}),
        ("x", {}),
        ("{name: x, address: '', labels: {}}", {}),
        ("{name: x, createTime: 2020-01-01T00:00:00Z, placements: [], selfReported: []}", {}),
        ("{name: x, cordoned: false}", {"cordoned": False}),
        ("{name: x, allowance: {addresses: 7}}", {"allowance": NodeAllowance(addresses=7)}),
        ("{name: x, empty_attachments: every_network}", {"attachments": None}),
    ],
)
def test_what_a_file_leaves_out_of_a_node_stays(said: str, changed: dict[str, object]) -> None:
    x = NodeName("x")
    known = Node(
        x,
        ip_address("192.0.2.1"),
        labels={"zone": "a"},
        attachments=(Attachment(N, "eth0"),),
        pins={T: GroupPath("n/a")},
        placements={T: GroupPath("n/a")},
        create_time=7,
        allowance=NodeAllowance(names=("web-*",)),
        cordoned=True,
        self_reported=("address",),
    )
    made = plan(f"[{{name: a, nodes: [{said}]}}]", nodes={x: known})
    assert made.nodes == ((replace(known, **changed),) if changed else ())  # type: ignore[arg-type]
