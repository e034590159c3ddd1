"""What becomes of blocks when groups, networks and nodes change."""

from __future__ import annotations

import pytest

from services.common.errors import NotFound
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.model.network import Network, Placement
from services.ipam.deciding.commands import CloseRested
from services.ipam.deciding.release import names_on
from services.ipam.deciding.rested import PAGES_AT_ONCE
from services.ipam.model import NoAddress, Why
from tests.support.ipam_dump import dump
from tests.support.ipam_world import World, carry_out, want
from tests.support.topologies import layout, network, node


def net(
    cidr: str = "10.0.0.0/28", block_length: int = 30, name: str = "net", **rest: object
) -> Network:
    return network(name, cidr, block_length, placement=Placement.SEQUENTIAL, **rest)


def split(first: str, second: str) -> Layout:
    return layout([net()], {"one": {"net": first}, "two": {"net": second}})


def world(**rest: object) -> World:
    return World(layout([net(**rest)]), [node("h1"), node("h2")])


def stranded(it: World) -> list[str]:
    return [
        str(block)
        for _, block in sorted(it.ledger.index.blocks.items())
        if it.ledger.is_stranded(block)
    ]


def test_what_is_in_use_keeps_its_address_when_a_group_shrinks_around_it() -> None:
    it = World(layout([net()], {"one": {"net": "10.0.0.0/28"}}), [node("h1", "one")])
    it.many(2)
    it.ledger.set_layout(split("10.0.0.0/29", "10.0.0.8/29"))
    assert stranded(it) == []
    assert it.addresses("n1") == ["10.0.0.1"]
    assert it.fill() == [f"10.0.0.{number}" for number in range(2, 8)]


def test_blocks_that_a_group_left_behind_are_stranded_and_give_nothing_more() -> None:
    it = World(layout([net()], {"one": {"net": "10.0.0.0/28"}}), [node("h1", "one")])
    it.one("a")
    it.ledger.set_layout(split("10.0.0.8/29", "10.0.0.0/29"))
    assert stranded(it) == ["10.0.0.0/30"]
    assert it.one("b") == "10.0.0.8"
    with pytest.raises(NoAddress) as refused:
        it.allocate("c", "h1", "t", "", want(address="10.0.0.1"))
    assert it.why(refused.value) == {"net": Why.ADDRESS_OUTSIDE}


@pytest.mark.parametrize("owner", [("h1", "t"), ("h2", "u")])
@pytest.mark.parametrize("address", ["10.0.0.0", "10.0.0.1", "10.0.0.3"])
@pytest.mark.parametrize("length", [29, 31])
def test_no_address_of_a_stranded_block_can_be_had_by_its_number(
    length: int, address: str, owner: tuple[str, str]
) -> None:
    it = World(layout([net()]), [node("h1"), node("h2")])
    it.one("a")
    it.ledger.set_layout(layout([net(block_length=length)]))
    before = dump(it.ledger)
    with pytest.raises(NoAddress) as refused:
        it.allocate("b", *owner, "", want(address=address))
    assert it.why(refused.value)["net"] in {Why.STRANDED, Why.ADDRESS_RESERVED}
    assert dump(it.ledger) == before


def test_a_node_that_moved_leaves_its_blocks_stranded() -> None:
    it = World(split("10.0.0.0/29", "10.0.0.8/29"), [node("h1", "one"), node("h2", "one")])
    it.one("a")
    it.ledger.set_node(node("h1", "two"))
    assert stranded(it) == ["10.0.0.0/30"]
    assert it.one("b") == "10.0.0.8"
    assert it.one("c", "h2") == "10.0.0.4"
    it.release("a")
    assert it.blocks() == ["10.0.0.4/30", "10.0.0.8/30"]
    assert it.one("d", "h2", "u") == "10.0.0.0"


def test_a_node_that_came_back_goes_on_with_its_blocks() -> None:
    it = World(split("10.0.0.0/29", "10.0.0.8/29"), [node("h1", "one")])
    it.one("a")
    it.ledger.set_node(node("h1", "two"))
    it.ledger.set_node(node("h1", "one"))
    assert stranded(it) == []
    assert it.one("b") == "10.0.0.1"


def test_a_node_that_left_a_network_gets_nothing_there() -> None:
    it = world()
    it.one("a")
    it.ledger.set_node(node("h1", on=["elsewhere"]))
    assert stranded(it) == ["10.0.0.0/30"]
    with pytest.raises(NoAddress) as refused:
        it.one("b")
    assert it.why(refused.value) == {"net": Why.NODE_NOT_ATTACHED}


def test_a_network_that_is_gone_stays_listed_and_can_be_released() -> None:
    it = world()
    it.many(5)
    it.ledger.set_layout(layout([]))
    assert stranded(it) == ["10.0.0.0/30", "10.0.0.4/30"]
    assert it.addresses("n4") == ["10.0.0.4"]
    assert it.one("n4") == "10.0.0.4"
    assert it.release("n4") == ["10.0.0.4"]
    assert it.blocks() == ["10.0.0.0/30"]


def test_a_new_network_never_gives_what_a_gone_one_still_has() -> None:
    it = world()
    it.many(5)
    it.ledger.set_layout(layout([net("10.0.0.0/28", 29, "new")]))
    assert it.fill() == [f"10.0.0.{number}" for number in range(8, 16)]
    for number in range(5):
        it.release(f"n{number}")
    assert it.fill("g") == [f"10.0.0.{number}" for number in range(8)]


def test_smaller_blocks_beside_what_is_left_of_larger_ones() -> None:
    it = world()
    it.many(5)
    it.ledger.set_layout(layout([net(block_length=32)]))
    assert it.fill() == [f"10.0.0.{number}" for number in range(8, 16)]
    it.release("n4")
    assert it.one("x") in {"10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7"}


def test_a_network_that_came_back_goes_on_with_its_blocks() -> None:
    it = world()
    it.many(5)
    it.ledger.set_layout(layout([]))
    it.ledger.set_layout(layout([net()]))
    assert stranded(it) == []
    assert it.fill()[0] == "10.0.0.5"


def test_a_network_without_a_topology_gives_nothing_and_does_no_harm() -> None:
    lonely = layout([net()])
    it = World(Layout(lonely.networks, ()), [node("h1")])
    with pytest.raises(NoAddress):
        it.one("a")
    with pytest.raises(NotFound):
        it.allocate("a", "h1", "t", "", want("net"))


def test_a_removed_node_leaves_no_names() -> None:
    it = world()
    it.many(6, "gone", "h2")
    it.many(2, "kept", "h1")
    it.ledger.drop_node("h2")
    for name in list(names_on(it.ledger, NodeName("h2"))):
        it.release(name, node="h2")
    assert it.blocks() == ["10.0.0.8/30"]
    assert it.ledger.index.used == 2
    assert it.release("gone0") == []
    assert it.one("gone0", "h1") == "10.0.0.10"


def test_a_removed_nodes_blocks_with_rests_come_back_in_time() -> None:
    it = world(reuse_delay=10.0)
    it.one("a", "h2")
    it.ledger.drop_node("h2")
    it.release("a")
    it.wait(10)
    it.close_rested()
    assert it.blocks() == []


def test_a_shorter_delay_counts_for_what_rests_already() -> None:
    it = world(reuse_delay=3600.0)
    it.one("a")
    it.release("a")
    it.ledger.set_layout(layout([net()]))
    it.close_rested()
    assert it.blocks() == []


def test_a_stranded_large_block_leaves_no_pages() -> None:
    large = net("10.0.0.0/23", 23, reuse_delay=3600.0)
    it = World(layout([large]), [node("h1")])
    it.allocate("a", "h1", "t", "", want(address="10.0.1.250"), want(address="10.0.0.3"))
    it.release("a")
    it.ledger.set_layout(layout([]))
    carry_out(it.ledger, CloseRested(1000), it.now)
    written = {change.page: change.record for change in it.ledger.pending().pages}
    assert written == {0: None, 7: None}


def test_tidying_of_large_blocks_fits_into_a_transaction() -> None:
    large = net("10.0.0.0/16", 21, reuse_delay=1.0)
    it = World(layout([large]), [node("h1")])
    for number in range(32):
        wants = [
            want(address=f"10.0.{number * 8 + page // 4}.{page % 4 * 64}") for page in range(32)
        ]
        it.allocate(f"n{number}", "h1", "t", "", *wants)
        it.release(f"n{number}")
    it.wait(60)
    rounds = 0
    while it.blocks():
        carry_out(it.ledger, CloseRested(32), it.now)
        assert 0 < it.ledger.unsaved.operations <= 32 + PAGES_AT_ONCE
        it.save()
        rounds += 1
    assert rounds >= 16


def test_four_blocks_in_a_group_of_three_give_no_address_twice() -> None:
    """A block larger than its group is refused by topology; a group is never given another's."""
    it = World(split("10.0.0.0/29", "10.0.0.8/29"), [node("h1", "one"), node("h2", "two")])
    given = it.fill("a", "h1") + it.fill("b", "h2")
    assert len(given) == len(set(given)) == 16
