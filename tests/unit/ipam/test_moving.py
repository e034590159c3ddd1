"""Addresses go along to another node of their group, or stay and say why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.common.errors import NotFound, WrongState
from services.common.model.names import EndpointName, NodeName
from services.common.model.network import Placement
from services.ipam.deciding.commands import Move, Moved
from services.ipam.deciding.execute import is_alone
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import AddressSpec
from tests.support.ipam_dump import dump, recount
from tests.support.ipam_world import World, allocate, carry_out
from tests.support.topologies import layout, network, node

ONE, OTHER = {"n": "10.0.0.0/26", "m": "10.1.0.0/26"}, {"n": "10.0.0.64/26", "m": "10.1.0.64/26"}


def world(
    block_length: int = 32, delay: float = 0.0, placement: Placement = Placement.AGGREGATE
) -> World:
    networks = [
        network(name, cidr, block_length, reuse_delay=delay, placement=placement)
        for name, cidr in (("n", "10.0.0.0/25"), ("m", "10.1.0.0/25"))
    ]
    parts = layout(networks, {"one": ONE, "other": OTHER})
    nodes = [node("h1", "one"), node("h2", "one"), node("far", "other"), node("off", None)]
    nodes.append(replace(node("closed", "one"), cordoned=True))
    return World(parts, nodes)


def order(name: str, to: str) -> Move:
    return Move(EndpointName(name), NodeName(to))


def move(it: World, name: str, to: str) -> Moved:
    result = it.carry_out(order(name, to))
    assert isinstance(result, Moved)
    return result


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("delay", [0.0, 10.0])
def test_addresses_go_along_within_their_group(delay: float, placement: Placement) -> None:
    it = world(30, delay, placement)
    both = (AddressSpec("n"), AddressSpec("m"))  # type: ignore[arg-type]
    before = it.allocate("web", "h1", "t", "", *both)
    moved = move(it, "web", "h2")
    assert moved.from_node == "h1"
    assert [item.address.text for item in moved.allocations] == before
    assert {item.owner.node for item in moved.allocations} == {"h2"}
    assert it.allocate("web", "h2", "t", "", *both) == before
    assert move(it, "web", "h2").from_node == "h2"
    assert move(it, "web", "h1").from_node == "h2"
    recount(it.ledger)


def test_what_rests_in_the_block_goes_along() -> None:
    it = world(30, 10.0)
    it.one("old")
    address = it.one("web")
    it.release("old")
    move(it, "web", "h2")
    assert it.one("next", "h2") not in {address, "10.0.0.0"}
    recount(it.ledger)


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("far", "is in group 'dc/other'"),
        ("off", "is not on network"),
        ("closed", "is cordoned"),
        ("h2", "'beside' has an address in their block"),
    ],
)
def test_what_cannot_go_along_stays_and_says_why(to: str, why: str) -> None:
    it = world(30)
    it.one("web")
    it.one("beside")
    before = dump(it.ledger)
    with pytest.raises(WrongState) as caught:
        move(it, "web", to)
    assert why in caught.value.message
    assert caught.value.reason == "NOT_MOVABLE"
    assert dump(it.ledger) == before


def test_who_and_where_have_to_be_known() -> None:
    it = world()
    with pytest.raises(NotFound):
        move(it, "web", "h2")
    it.one("web")
    with pytest.raises(NotFound):
        move(it, "web", "nowhere")


@pytest.mark.parametrize("placement", list(Placement))
def test_a_move_that_is_undone_leaves_no_trace(placement: Placement) -> None:
    it = world(30, 10.0, placement)
    it.one("web")
    before = dump(it.ledger)
    carry_out(it.ledger, order("web", "h2"), it.now)
    it.ledger.rollback()
    assert dump(it.ledger) == before
    recount(it.ledger)
    it.release("web")
    recount(it.ledger)


def test_a_replica_that_follows_comes_to_the_same() -> None:
    it = world(30)
    follower = Ledger()
    follower.set_layout(it.ledger.layout)
    for one in it.ledger.nodes.values():
        follower.set_node(one)

    def write(command: object) -> None:
        carry_out(it.ledger, command, it.now)  # type: ignore[arg-type]
        revision = it.revision + 1
        for change in it.ledger.pending().pages:
            assert change.record is not None
            follower.put_page(change.place, change.bits, change.page, change.record, revision)
        it.save()

    write(allocate("web"))
    write(order("web", "h2"))
    assert dump(follower) == dump(it.ledger)
    recount(follower)


def test_it_has_a_transaction_of_its_own() -> None:
    assert is_alone(order("web", "h2"))
