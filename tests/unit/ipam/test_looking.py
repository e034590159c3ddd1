"""Evaluation of nodes, utilization and listings."""

from __future__ import annotations

import random

import pytest

from services.common.errors import NotFound
from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import EndpointName, GroupPath, NodeName, TopologyName
from services.common.model.network import Placement
from services.ipam.api.messages_out import node_releases
from services.ipam.deciding.commands import (
    ActivateMove,
    ForgetNode,
    NodeReleased,
    PlanNodeRelease,
    PrepareMove,
    ReleaseNode,
    ReportReady,
)
from services.ipam.deciding.evaluate import Agents, Presence
from services.ipam.deciding.execute import execute
from services.ipam.ledger.listing import BlockFilter, list_addresses, list_blocks
from services.ipam.ledger.unsaved import NodeRelease
from services.ipam.ledger.utilization import detail, utilization
from services.ipam.model import Why
from tests.support.ipam_world import World, terms, want
from tests.support.topologies import layout, network, node


def world(**rest: object) -> World:
    net = network("net", "10.0.0.0/28", 30, placement=Placement.SEQUENTIAL, **rest)
    return World(layout([net]), [node(name) for name in ("h1", "h2", "h3")])


# Evaluation.


def test_nodes_with_room_in_a_block_first_then_most_free_then_by_name() -> None:
    groups = {"one": {"net": "10.0.0.0/29"}, "two": {"net": "10.0.0.16/28"}}
    it = World(
        layout([network("net", "10.0.0.0/27", 30)], groups),
        [node("a", "one"), node("b", "one"), node("c", "two"), node("d", None), node("e", "two")],
    )
    it.one("x", "b")
    found = it.evaluate()
    assert [(item.node, item.fits, item.free, item.free_in_blocks) for item in found] == [
        ("b", True, 7, 3),
        ("c", True, 16, 0),
        ("e", True, 16, 0),
        ("a", True, 4, 0),
        ("d", False, 0, 0),
    ]
    assert [(item.network, item.why) for item in found[-1].refusals] == [("net", Why.NO_GROUP)]


def test_what_is_evaluated_as_free_can_be_had_and_no_more() -> None:
    it = world(gateway="10.0.0.1", reuse_delay=60.0)
    it.reserve("r", "net", "10.0.0.4/30", "10.0.0.9")
    it.many(2, "mine")
    it.one("theirs", "h2")
    it.release("mine0")
    free = {item.node: item.free for item in it.evaluate()}
    assert len(it.fill()) == free["h1"]
    assert not it.evaluate(nodes=["h1"])[0].fits


def test_the_first_network_with_room_counts_and_those_before_say_why_not() -> None:
    made = layout(
        [network("small", "10.0.0.0/32", 32), network("large", "10.0.1.0/30", 32)],
    )
    it = World(made, [node("h1")])
    it.one("a")
    (found,) = it.evaluate()
    assert (found.network, found.free) == ("large", 4)
    assert [(item.network, item.why) for item in found.refusals] == [("small", Why.GROUP_FULL)]


def test_only_the_nodes_asked_for() -> None:
    assert [item.node for item in world().evaluate(nodes=["h2"])] == ["h2"]


def test_evaluation_of_what_does_not_exist() -> None:
    for asked in ({"nodes": ["nowhere"]}, {"want": want("nowhere")}):
        with pytest.raises(NotFound):
            world().evaluate(**asked)


def dual_stack(*sizes: str) -> World:
    nets = [network("four", sizes[0], 32), network("six", sizes[1], 128)]
    return World(layout(nets), [node("h1"), node("h2")])


def test_a_node_fits_if_it_can_give_all_addresses_of_both_families() -> None:
    it = dual_stack("10.0.0.0/31", "fd00::/125")
    both = [want(family=4), want(family=6)]
    found = it.evaluate(want=both, nodes=["h1"])[0]
    assert [(room.network, room.free) for room in found.rooms] == [("four", 2), ("six", 8)]
    assert (found.fits, found.network, found.free) == (True, "four", 2)
    for name in "xy":
        it.one(name)
    (found,) = it.evaluate(want=both, nodes=["h1"])
    assert (found.fits, len(found.rooms)) == (False, 0)
    (found,) = it.evaluate(want=both[::-1], nodes=["h1"])
    assert (found.fits, len(found.rooms)) == (False, 1)
    assert {item.network: item.why for item in found.refusals}["four"] is Why.GROUP_FULL


def test_addresses_of_one_request_do_not_count_twice() -> None:
    it = dual_stack("10.0.0.0/31", "fd00::/125")
    four = want(family=4)
    assert it.evaluate(want=[four, four])[0].fits
    assert not it.evaluate(want=[four, four, four])[0].fits


def test_nodes_whose_agent_is_away_come_after_the_others_that_fit() -> None:
    it = World(
        layout([network("net", "10.0.0.0/28", 30)], {"one": {"net": "10.0.0.0/29"}}),
        [node(name, "one") for name in "abc"] + [node("d", None)],
    )
    it.one("x", "a")
    there = Agents(frozenset({"b", "d"}), complete=True)
    found = it.evaluate(agents=there)
    assert [(item.node, item.fits, item.agent) for item in found] == [
        ("b", True, Presence.CONNECTED),
        ("a", True, Presence.ABSENT),
        ("c", True, Presence.ABSENT),
        ("d", False, Presence.CONNECTED),
    ]
    unknown = it.evaluate(agents=Agents(frozenset({"b"})))
    assert [(item.node, item.agent) for item in unknown[:2]] == [
        ("a", Presence.UNKNOWN),
        ("b", Presence.CONNECTED),
    ]


def test_evaluation_changes_nothing() -> None:
    it = world()
    it.evaluate()
    assert not it.ledger.unsaved.operations
    assert it.blocks() == []


# Utilization.


def tree() -> World:
    leaves = [
        Group(GroupPath(f"dc/zone/r{number}"), f"r{number}", prefixes=prefixes)
        for number, prefixes in enumerate(
            [
                {"net": network("x", "10.0.0.0/29").cidr},
                {"net": network("x", "10.0.0.8/29").cidr},
            ]
        )
    ]
    zone = Group(
        GroupPath("dc/zone"),
        "zone",
        prefixes={"net": network("x", "10.0.0.0/28").cidr},
        groups=tuple(leaves),
    )
    net = network("net", "10.0.0.0/27", 30, gateway="10.0.0.1", reuse_delay=60.0)
    # h1 takes the block without the gateway first, so that five addresses are two blocks
    made = Layout((net,), (Topology(TopologyName("dc"), (net.name,), (zone,)),))
    return World(made, [node("h1", "zone/r0"), node("h2", "zone/r1")])


def test_utilization_adds_up_from_leaves_to_the_network() -> None:
    it = tree()
    it.many(5)
    it.one("b", "h2", "u")
    it.release("n0")
    (net,) = utilization(it.ledger)
    detail(it.ledger, [net])
    found = {item.path: item.usage for item in net.groups}
    assert list(found) == ["dc/zone", "dc/zone/r0", "dc/zone/r1"]
    assert [(item.nodes) for item in net.groups] == [2, 1, 1]
    leaf, other, zone = found["dc/zone/r0"], found["dc/zone/r1"], found["dc/zone"]
    assert (leaf.size, leaf.used, leaf.resting, leaf.reserved) == (8, 4, 1, 1)
    assert (leaf.blocks, leaf.held) == (2, 8)
    assert (other.size, other.used, other.blocks) == (8, 1, 1)
    assert (zone.size, zone.used, zone.resting, zone.blocks, zone.held) == (16, 5, 1, 3, 12)
    assert (net.usage.size, net.usage.used, net.usage.held) == (32, 5, 12)
    for parts in (net.nodes.values(), net.owners.values()):
        assert sum(item.used for item in parts) == net.usage.used
        assert sum(item.resting for item in parts) == net.usage.resting
        assert sum(item.blocks for item in parts) == net.usage.blocks
    assert set(net.owners) == {("t", ""), ("u", "")}


def test_stranded_blocks_of_a_network_count_for_it() -> None:
    it = world()
    it.many(5)
    it.ledger.set_layout(layout([network("net", "10.0.0.0/28", 29)]))
    (net,) = utilization(it.ledger)
    assert (net.usage.size, net.usage.used, net.usage.blocks, net.usage.held) == (16, 5, 2, 8)


def test_a_release_of_a_node_that_is_gone_says_how_many_addresses_will_be_released() -> None:
    """Not those that its endpoints took along to other nodes."""
    it = world()
    for name, home, to in (("a", "h1", "h2"), ("b", "h1", "h1"), ("c", "h2", "h1")):
        it.one(name, home)
        if home != to:
            it.carry_out(PrepareMove(EndpointName(name), NodeName(to)))
            it.carry_out(ActivateMove(EndpointName(name), NodeName(to), force=True))
    it.carry_out(PrepareMove(EndpointName("b"), NodeName("h3")))
    it.one("d", "h1")
    gone = NodeName("h1")
    it.ledger.drop_node(gone)
    it.carry_out(PlanNodeRelease(gone, NodeRelease(1, 1, asked=False)))
    (said,) = node_releases(it.ledger)
    done = it.carry_out(ReleaseNode(gone))
    assert isinstance(done, NodeReleased)
    assert said.addresses == len(done.allocations) == 3


def test_a_node_that_is_gone_is_ready_for_nothing_however_much_was_to_move_there() -> None:
    """In as many transactions as it takes."""
    it = world()
    gone = NodeName("h2")
    for number in range(4):
        it.one(f"n{number}", "h1", f"t{number}")
        name = EndpointName(f"n{number}")
        it.carry_out(PrepareMove(name, gone))
        it.carry_out(ReportReady(name, gone))
    it.ledger.drop_node(gone)
    rounds, is_done = 0, False
    while not is_done:
        result = execute(it.ledger, ForgetNode(gone), terms(it.now, keys_most=5))
        assert isinstance(result, NodeReleased)
        assert it.ledger.unsaved.operations <= 5
        it.save()
        rounds, is_done = rounds + 1, result.is_done
    assert rounds > 1
    blocks = it.ledger.index.visited.values()
    visits = [visit for block in blocks for visit in (block.visits or {}).values()]
    assert [visit.ready for visit in visits] == [False] * 4


# Listings.


def walk(it: World, wanted: BlockFilter, most: int, meanwhile: object = None) -> list[str]:
    """All names, page by page."""
    names: list[str] = []
    after = None
    while True:
        page, after = list_addresses(it.ledger, wanted, after, most)
        assert len(page) <= most
        names += [str(block.names[offset]) for block, offset in page]
        if after is None:
            return names
        if meanwhile is not None:
            meanwhile()  # type: ignore[operator]


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
def test_pages_are_complete_and_in_the_order_of_addresses(most: int) -> None:
    it = world()
    it.many(10)
    assert walk(it, BlockFilter(), most) == [f"n{number}" for number in range(10)]


@pytest.mark.parametrize("seed", range(30))
def test_what_stays_is_listed_exactly_once_while_other_things_come_and_go(seed: int) -> None:
    chance = random.Random(seed)
    it = World(
        layout([network("net", "10.0.0.0/24", 30), network("six", "2001:db8::/120", 124)]),
        [node("h1"), node("h2")],
    )
    stay = [f"stay{number}" for number in range(20)]
    gone = [f"go{number}" for number in range(20)]
    for name in chance.sample(stay + gone, 40):
        family = chance.choice((4, 6))
        it.allocate(name, chance.choice(("h1", "h2")), "t", "", want(family=family))

    def churn() -> None:
        if gone:
            it.release(gone.pop(chance.randrange(len(gone))))
        it.one(f"new{chance.random()}", "h2", "u")

    names = walk(it, BlockFilter(), chance.randint(1, 5), churn)
    assert sorted(name for name in names if name.startswith("stay")) == sorted(stay)


def test_filters() -> None:
    it = world()
    it.one("a", "h1", "t", "s")
    it.one("b", "h1", "t", "z")
    it.one("c", "h2", "u", "s")
    for wanted, names in (
        (BlockFilter(node="h1"), ["a", "b"]),
        (BlockFilter(tenant="t", segment="z"), ["b"]),
        (BlockFilter(segment="s"), ["a", "c"]),
        (BlockFilter(network="nowhere"), []),
        (BlockFilter(node="nowhere"), []),
        (BlockFilter(prefix="10.0.0.4/30"), ["b"]),
        (BlockFilter(prefix="10.0.0.4/29"), []),
    ):
        assert walk(it, wanted, 1) == names


def test_blocks_in_pages() -> None:
    it = world()
    it.many(10)
    page, after = list_blocks(it.ledger, BlockFilter(), None, 2)
    assert [str(block) for block in page] == ["10.0.0.0/30", "10.0.0.4/30"]
    for number in range(4, 8):
        it.release(f"n{number}")
    page, after = list_blocks(it.ledger, BlockFilter(), after, 2)
    assert ([str(block) for block in page], after) == (["10.0.0.8/30"], None)


def test_blocks_of_a_node() -> None:
    it = world()
    it.one("a", "h1")
    it.one("b", "h2")
    page, _ = list_blocks(it.ledger, BlockFilter(node=NodeName("h2")), None, 10)
    assert [str(block) for block in page] == ["10.0.0.4/30"]
