"""What a request may ask for, and that it gets all of it or nothing."""

from __future__ import annotations

import pytest

from services.common.errors import (
    AlreadyExists,
    NotFound,
    RomanaError,
    WrongState,
    internal_error,
)
from services.common.model.names import NetworkName
from services.common.model.network import Mode, Placement
from services.ipam.deciding.batch import Batch
from services.ipam.deciding.commands import Allocated, Command, CreateReservation, Result
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ranges import stored_ranges
from services.ipam.model import AddressSpec, NoAddress, Why
from tests.support.ipam_world import World, allocate, terms, want
from tests.support.topologies import layout, network, node


def world(**rest: object) -> World:
    net = network("net", "10.0.0.0/28", 30, placement=Placement.SEQUENTIAL, **rest)
    return World(layout([net]), [node("h1"), node("h2")])


def dual() -> World:
    made = layout([network("four", "10.0.0.0/30", 32), network("six", "2001:db8::/126", 128)])
    return World(made, [node("h1"), node("h2")])


# One address by name.


def test_a_free_address_may_be_asked_for() -> None:
    it = world()
    assert it.allocate("a", "h1", "t", "", want(address="10.0.0.9")) == ["10.0.0.9"]
    assert it.blocks() == ["10.0.0.8/30"]
    assert it.one("b") == "10.0.0.8"


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.0.0.0", Why.ADDRESS_IN_USE),
        ("10.0.0.4", Why.BLOCK_HELD_BY_OTHER),
        ("10.0.0.5", Why.BLOCK_HELD_BY_OTHER),
        ("10.0.0.8", Why.ADDRESS_RESERVED),
        ("10.0.0.12", Why.ADDRESS_RESERVED),
        ("10.0.0.1", Why.ADDRESS_RESERVED),
        ("10.0.1.0", Why.ADDRESS_OUTSIDE),
    ],
)
def test_an_address_that_cannot_be_had_is_refused_with_the_reason(address: str, why: Why) -> None:
    it = world()
    it.one("mine", "h1")
    it.one("theirs", "h2")
    it.reserve("r", "net", "10.0.0.8", "10.0.0.12/30", "10.0.0.1")
    before = it.blocks()
    with pytest.raises(NoAddress) as refused:
        it.allocate("a", "h1", "t", "", want(address=address))
    assert it.why(refused.value) == {"net": why}
    assert it.blocks() == before


def test_an_address_of_another_group_is_outside() -> None:
    groups = {"one": {"net": "10.0.0.0/29"}, "two": {"net": "10.0.0.8/29"}}
    made = layout([network("net", "10.0.0.0/28", 30)], groups)
    it = World(made, [node("h1", "one")])
    with pytest.raises(NoAddress) as refused:
        it.allocate("a", "h1", "t", "", want(address="10.0.0.8"))
    assert it.why(refused.value) == {"net": Why.ADDRESS_OUTSIDE}
    assert refused.value.refusals[0].group == "dc/one"


def test_the_owner_may_ask_for_an_address_that_rests_others_may_not() -> None:
    it = world(reuse_delay=60.0)
    it.many(2)
    it.release("n1")
    with pytest.raises(NoAddress):
        it.allocate("other", "h2", "t", "", want(address="10.0.0.1"))
    assert it.allocate("x", "h1", "t", "", want(address="10.0.0.1")) == ["10.0.0.1"]
    assert it.ledger.networks["net"].areas["dc/all"].resting == 0


# Several addresses.


def test_dual_stack_in_one_request() -> None:
    it = dual()
    given = it.allocate("a", "h1", "t", "", want(family=6), want(family=4))
    assert given == ["2001:db8::", "10.0.0.0"]
    assert it.addresses("a") == given


def test_if_one_address_cannot_be_given_none_is() -> None:
    it = dual()
    for number in range(4):
        it.allocate(f"n{number}", "h2", "t", "", want(family=6))
    used, blocks = it.ledger.index.used, it.blocks()
    with pytest.raises(NoAddress) as refused:
        it.allocate("a", "h1", "t", "", want(family=4), want(family=6))
    assert refused.value.ordinal == 1
    assert it.addresses("a") == []
    assert (it.ledger.index.used, it.blocks()) == (used, blocks)
    assert it.allocate("b", "h1", "t", "", want(family=4)) == ["10.0.0.0"]


def test_several_addresses_of_one_network() -> None:
    it = world()
    assert it.allocate("a", "h1", "t", "", *[want("net")] * 5) == [
        f"10.0.0.{number}" for number in range(5)
    ]


def test_the_same_address_twice_in_one_request_is_refused() -> None:
    it = world()
    with pytest.raises(NoAddress) as refused:
        it.allocate("a", "h1", "t", "", *[want(address="10.0.0.1")] * 2)
    assert refused.value.ordinal == 1
    assert it.blocks() == []


# Names.


def test_the_same_request_again_gives_the_same_addresses() -> None:
    it = dual()
    wants = (want(family=6), want("four"))
    given = it.allocate("a", "h1", "t", "s", *wants)
    assert it.allocate("a", "h1", "t", "s", *wants) == given
    assert it.ledger.index.used == 2


def test_a_repeated_request_for_one_address_by_name_gives_it_again() -> None:
    it = world()
    it.one("a")
    assert it.allocate("a", "h1", "t", "", want(address="10.0.0.0")) == ["10.0.0.0"]


@pytest.mark.parametrize(
    "asked",
    [
        ("h2", "t", "s"),
        ("h1", "u", "s"),
        ("h1", "t", "z"),
        ("h1", "t", "s", want("six")),
        ("h1", "t", "s", want(family=6)),
        ("h1", "t", "s", want(address="10.0.0.1")),
        ("h1", "t", "s", want(), want()),
    ],
)
def test_a_different_request_for_a_taken_name_is_refused(asked: tuple[str, str, str]) -> None:
    it = dual()
    it.one("a", "h1", "t", "s")
    with pytest.raises(AlreadyExists) as refused:
        it.allocate("a", *asked)
    assert refused.value.reason == "NAME_TAKEN"
    assert it.addresses("a") == ["10.0.0.0"]
    assert it.ledger.index.used == 1


def test_a_released_name_may_be_used_by_anybody() -> None:
    it = world()
    it.one("a", "h1", "t")
    it.release("a")
    assert it.one("a", "h2", "u") == "10.0.0.0"


# Release.


def test_release_gives_all_addresses_of_a_name_back() -> None:
    it = dual()
    given = it.allocate("a", "h1", "t", "", want(family=4), want(family=6))
    assert it.release("a") == given
    assert it.blocks() == []
    assert it.ledger.index.used == 0


def test_release_of_an_unknown_name_succeeds() -> None:
    assert world().release("nobody") == []


def test_release_twice_succeeds_and_takes_nothing_more() -> None:
    it = world()
    it.many(2)
    it.release("n0")
    assert it.release("n0") == []
    assert it.addresses("n1") == ["10.0.0.1"]


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        ({"tenant": "u", "segment": "s"}, "OTHER_OWNER"),
        ({"tenant": "t", "segment": "z"}, "OTHER_OWNER"),
        ({"tenant": "t"}, "OTHER_OWNER"),
        ({"node": "h2"}, "OTHER_NODE"),
        ({"tenant": "t", "segment": "s", "node": "h2"}, "OTHER_NODE"),
    ],
)
def test_release_on_behalf_of_another_is_refused(claim: dict[str, str], reason: str) -> None:
    it = world()
    it.one("a", "h1", "t", "s")
    with pytest.raises(WrongState) as refused:
        it.release("a", **claim)
    assert refused.value.reason == reason
    assert it.addresses("a") == ["10.0.0.0"]


def test_release_by_the_owner() -> None:
    it = world()
    it.one("a", "h1", "t", "s")
    assert it.release("a", "t", "s", "h1") == ["10.0.0.0"]


# Who and where.


def test_an_unknown_node() -> None:
    with pytest.raises(NotFound) as refused:
        world().one("a", "nowhere")
    assert refused.value.reason == "NODE_NOT_FOUND"


def test_an_unknown_network() -> None:
    with pytest.raises(NotFound) as refused:
        world().allocate("a", "h1", "t", "", want("nowhere"))
    assert refused.value.reason == "NETWORK_NOT_FOUND"


def test_a_tenant_that_no_network_is_for() -> None:
    with pytest.raises(NotFound) as refused:
        world(tenants=["t"]).one("a", "h1", "stranger")
    assert refused.value.reason == "TENANT_NOT_FOUND"


def test_unknown_things_leave_nothing_behind() -> None:
    it = world(tenants=["t"])
    for asked in (("nowhere", "t"), ("h1", "stranger")):
        with pytest.raises(NotFound):
            it.one("a", *asked)
    assert not it.ledger.unsaved.operations
    assert it.blocks() == []


# Networks.


def several() -> World:
    made = layout(
        [
            network("open-1", "10.0.1.0/31", 32),
            network("other", "10.0.2.0/31", 32, tenants=["u"]),
            network("mine-1", "10.0.3.0/31", 32, tenants=["t", "u"]),
            network("open-2", "10.0.4.0/31", 32),
            network("mine-2", "10.0.5.0/31", 32, tenants=["t"]),
        ]
    )
    return World(made, [node("h1")])


def test_networks_that_name_the_tenant_first_then_open_ones_in_file_order() -> None:
    assert several().fill() == [
        "10.0.3.0",
        "10.0.3.1",
        "10.0.5.0",
        "10.0.5.1",
        "10.0.1.0",
        "10.0.1.1",
        "10.0.4.0",
        "10.0.4.1",
    ]


def test_a_network_may_be_asked_for() -> None:
    assert several().allocate("a", "h1", "t", "", want("open-2")) == ["10.0.4.0"]


def test_exhaustion_names_every_network_in_the_order_tried_and_then_the_others() -> None:
    it = several()
    it.fill()
    with pytest.raises(NoAddress) as refused:
        it.one("a")
    assert [(item.network, item.why) for item in refused.value.refusals] == [
        ("mine-1", Why.GROUP_FULL),
        ("mine-2", Why.GROUP_FULL),
        ("open-1", Why.GROUP_FULL),
        ("open-2", Why.GROUP_FULL),
        ("other", Why.NOT_THIS_TENANT),
    ]


def test_why_not_the_network_asked_for() -> None:
    made = layout(
        [
            network("four", "10.0.0.0/30", 32),
            network("theirs", "10.0.1.0/30", 32, tenants=["u"]),
            network("apart", "10.0.2.0/30", 32),
            network("groupless", "10.0.3.0/30", 32),
        ],
        {"all": {"four": "10.0.0.0/30", "theirs": "10.0.1.0/30", "apart": "10.0.2.0/30"}},
    )
    it = World(made, [node("h1", on=["four", "theirs", "groupless"]), node("h2", None)])
    expected = {
        ("h1", "theirs"): Why.NOT_THIS_TENANT,
        ("h1", "apart"): Why.NODE_NOT_ATTACHED,
        ("h1", "groupless"): Why.NO_GROUP,
        ("h2", "four"): Why.NO_GROUP,
    }
    for (name, asked), why in expected.items():
        with pytest.raises(NoAddress) as refused:
            it.allocate("a", name, "t", "", want(asked))
        assert it.why(refused.value) == {asked: why}
    with pytest.raises(NoAddress) as refused:
        it.allocate("a", "h1", "t", "", want("four", family=6))
    assert it.why(refused.value) == {"four": Why.OTHER_FAMILY}


def test_all_reserved_is_told_from_full() -> None:
    it = world()
    it.reserve("r", "net", "10.0.0.0/28")
    with pytest.raises(NoAddress) as refused:
        it.one("a")
    assert it.why(refused.value) == {"net": Why.RESERVED}


def test_the_message_says_who_where_and_why() -> None:
    it = world()
    it.fill()
    with pytest.raises(NoAddress, match=r"tenant 'u' on node 'h2': net \(group dc/all\): every"):
        it.one("a", "h2", "u")


# What is never handed out.


def test_the_gateway_is_not_given() -> None:
    it = world(gateway="10.0.0.1")
    assert "10.0.0.1" not in it.fill()
    assert it.ledger.index.used == 15


def test_network_and_broadcast_address_of_an_onlink_network_are_not_given() -> None:
    it = world(mode=Mode.ONLINK)
    assert {"10.0.0.0", "10.0.0.15"}.isdisjoint(it.fill())
    assert it.ledger.index.used == 14


def test_every_address_of_a_routed_network_is_given() -> None:
    assert len(world().fill()) == 16


def test_all_of_an_onlink_network_of_two_addresses_is_given() -> None:
    it = World(layout([network("net", "10.0.0.0/31", 32, mode=Mode.ONLINK)]), [node("h1")])
    assert len(it.fill()) == 2


def test_addresses_of_nodes_inside_a_network_are_not_given() -> None:
    it = World(
        layout([network("net", "10.0.0.0/28", 30)]),
        [
            node("h1", address="10.0.0.2"),
            node("h2", on={"net": "10.0.0.5"}),
            node("h3", address="192.0.2.1"),
        ],
    )
    assert {"10.0.0.2", "10.0.0.5"}.isdisjoint(it.fill())
    assert it.ledger.index.used == 14


def test_an_address_of_a_node_that_is_gone_is_given_again() -> None:
    it = World(
        layout([network("net", "10.0.0.0/30", 32)]), [node("h1"), node("h2", address="10.0.0.2")]
    )
    assert len(it.fill()) == 3
    it.ledger.drop_node("h2")
    assert it.one("x") == "10.0.0.2"


def test_an_address_that_a_node_changed_to_is_not_given() -> None:
    it = World(
        layout([network("net", "10.0.0.0/30", 32)]), [node("h1"), node("h2", address="10.0.0.2")]
    )
    it.ledger.set_node(node("h2", address="10.0.0.1"))
    assert sorted(it.fill()) == ["10.0.0.0", "10.0.0.2", "10.0.0.3"]


def test_who_is_refused_together_is_told_the_same() -> None:
    """Why nothing has room is found out once, and anew after anything else."""
    it = World(layout([network("net", "10.0.0.0/30", 30)]), [node("h1")])
    results: list[Result] = []
    batch = Batch(it.ledger, terms(0), no_defect)
    assert batch.execute([allocate(f"n{number}") for number in range(8)], results)
    assert [type(result) for result in results] == [Allocated] * 4 + [NoAddress] * 4
    assert len({id(result) for result in results[4:]}) == 1
    others: list[Result] = []
    assert batch.execute([allocate("n0"), allocate("o", tenant="u"), allocate("p")], others)
    assert isinstance(others[0], Allocated)
    assert others[0].existed
    assert len({id(result) for result in (*others[1:], results[-1])}) == 3


def test_what_does_not_fit_into_a_transaction_is_left_for_the_next() -> None:
    it = World(layout([network("net", "10.0.0.0/24", 30)]), [node("h1")])
    commands: list[Command] = [allocate(f"n{number}", tenant=f"t{number}") for number in range(9)]
    results: list[Result] = []
    for executed in (5, 9):
        assert Batch(it.ledger, terms(0, 9), no_defect).execute(commands, results) == (executed > 8)
        assert len(results) == executed
        it.save()


def test_a_reservation_has_a_transaction_of_its_own() -> None:
    it = World(layout([network("net", "10.0.0.0/24", 30)]), [node("h1")])
    made = Reservation("r", NetworkName("net"), stored_ranges(["10.0.0.1"]), ["10.0.0.1"])
    commands: list[Command] = [allocate("a"), CreateReservation(made), allocate("b")]
    results: list[Result] = []
    for executed in (1, 2, 3):
        assert Batch(it.ledger, terms(0), no_defect).execute(commands, results) == (executed > 2)
        assert len(results) == executed
        it.save()
    assert it.addresses("b") == ["10.0.0.2"]


def test_a_command_that_fails_by_a_defect_is_undone_and_the_others_are_not() -> None:
    it = World(layout([network("net", "10.0.0.0/24", 30)]), [node("h1")])
    results: list[Result] = []
    broken = allocate("x", addresses=(AddressSpec(), None))  # type: ignore[arg-type]
    batch = Batch(it.ledger, terms(0), lambda *_: internal_error())
    assert batch.execute([allocate("a"), broken, allocate("b")], results)
    assert [isinstance(result, Allocated) for result in results] == [True, False, True]
    assert it.ledger.index.used == 2


def no_defect(command: Command, error: Exception) -> RomanaError:
    raise AssertionError(command) from error
