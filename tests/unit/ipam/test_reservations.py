"""Addresses that are set aside, before and after they were given."""

from __future__ import annotations

import pytest

from services.common.errors import AlreadyExists, InvalidInput, NotFound
from services.common.model.names import NetworkName
from services.common.model.network import Mode, Placement
from services.ipam.deciding.commands import Command, CreateReservation, DeleteReservation
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.ranges import parse_range, stored_ranges
from services.ipam.model import NoAddress, Why
from tests.support.ipam_world import World, carry_out
from tests.support.topologies import layout, network, node


def world(cidr: str = "10.0.0.0/28", block_length: int = 30, **rest: object) -> World:
    net = network("net", cidr, block_length, placement=Placement.SEQUENTIAL, **rest)
    return World(layout([net]), [node("h1"), node("h2")])


def reservation(name: str, *ranges: str, net: str = "net") -> Reservation:
    return Reservation(name, NetworkName(net), stored_ranges(ranges), ranges)


def test_reserved_addresses_are_not_given() -> None:
    it = world()
    it.reserve("r", "net", "10.0.0.0/30", "10.0.0.5", "10.0.0.10-10.0.0.13")
    assert it.fill() == [f"10.0.0.{number}" for number in (4, 6, 7, 8, 9, 14, 15)]


def test_what_is_in_use_stays_in_use_and_is_not_given_again() -> None:
    it = world("10.0.0.0/30", 30)
    it.many(2)
    it.reserve("r", "net", "10.0.0.1")
    assert it.addresses("n1") == ["10.0.0.1"]
    it.release("n1")
    assert it.fill() == ["10.0.0.2", "10.0.0.3"]


def test_free_addresses_of_a_block_that_is_held_are_set_aside() -> None:
    it = world("10.0.0.0/30", 30)
    it.one("a")
    it.reserve("r", "net", "10.0.0.1-10.0.0.2")
    assert it.fill() == ["10.0.0.3"]


def test_an_address_that_rests_when_it_is_reserved_is_not_given() -> None:
    it = world("10.0.0.0/30", 30, reuse_delay=10.0)
    it.many(4)
    it.release("n1")
    it.reserve("r", "net", "10.0.0.1")
    it.wait(60)
    with pytest.raises(NoAddress) as refused:
        it.one("x")
    assert it.why(refused.value) == {"net": Why.GROUP_FULL}


def test_a_reserved_address_that_is_released_later_is_not_given() -> None:
    it = world("10.0.0.0/30", 30, reuse_delay=10.0)
    it.many(4)
    it.reserve("r", "net", "10.0.0.1")
    it.release("n1")
    it.wait(1)
    it.release("n2")
    it.wait(60)
    assert it.one("x") == "10.0.0.2"
    with pytest.raises(NoAddress):
        it.one("y")


def test_what_is_reserved_while_it_rests_does_not_count_as_room() -> None:
    it = world("10.0.0.0/30", 30, reuse_delay=10.0)
    it.many(4)
    it.release("n1")
    it.reserve("r", "net", "10.0.0.1")
    it.wait(60)
    assert not it.evaluate(nodes=["h1"])[0].fits


def test_an_ended_reservation_gives_its_addresses_back() -> None:
    it = world("10.0.0.0/30", 30)
    it.one("a")
    it.reserve("r", "net", "10.0.0.1")
    it.ledger.drop_reservation("r")
    assert it.fill() == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]


def test_an_address_that_rested_when_its_reservation_ended_is_given_after_its_rest() -> None:
    it = world("10.0.0.0/30", 30, reuse_delay=10.0)
    it.many(4)
    it.reserve("r", "net", "10.0.0.1")
    it.release("n1")
    it.ledger.drop_reservation("r")
    with pytest.raises(NoAddress):
        it.one("x")
    it.wait(10)
    assert it.one("x") == "10.0.0.1"


def test_what_two_reservations_hold_is_free_when_both_have_ended() -> None:
    it = world()
    it.reserve("one", "net", "10.0.0.0/29")
    it.reserve("two", "net", "10.0.0.4/30", "10.0.0.15")
    it.ledger.drop_reservation("one")
    assert it.fill() == [f"10.0.0.{number}" for number in (0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14)]
    it.ledger.drop_reservation("two")
    assert len(it.fill("g")) == 5


def test_a_block_reserved_piece_by_piece_is_not_opened() -> None:
    it = world("10.0.0.0/29", 30)
    it.reserve("one", "net", "10.0.0.0-10.0.0.1")
    it.reserve("two", "net", "10.0.0.2-10.0.0.3")
    assert it.one("a") == "10.0.0.4"


def test_an_emptied_block_that_is_reserved_is_not_opened_again() -> None:
    it = world("10.0.0.0/29", 30)
    it.one("a")
    it.reserve("r", "net", "10.0.0.0/30")
    it.release("a")
    assert it.one("b") == "10.0.0.4"


def test_a_reservation_across_groups() -> None:
    groups = {"one": {"net": "10.0.0.0/30"}, "two": {"net": "10.0.0.4/30"}}
    made = layout([network("net", "10.0.0.0/29", 32)], groups)
    it = World(made, [node("h1", "one"), node("h2", "two")])
    it.reserve("r", "net", "10.0.0.2-10.0.0.5")
    assert sorted(it.fill()) == ["10.0.0.0", "10.0.0.1"]
    assert sorted(it.fill("g", "h2")) == ["10.0.0.6", "10.0.0.7"]


def test_a_reservation_is_kept_for_a_network_that_comes_later() -> None:
    it = World(layout([]), [node("h1")])
    it.reserve("r", "net", "10.0.0.0/31")
    it.ledger.set_layout(layout([network("net", "10.0.0.0/30", 32)]))
    assert sorted(it.fill()) == ["10.0.0.2", "10.0.0.3"]


# Whether one may be made.


def changes(ledger: Ledger, command: Command) -> bool:
    """Says whether a command changes anything, which it must not; raises what it is refused for."""
    try:
        carry_out(ledger, command)
        return bool(ledger.unsaved.operations)
    finally:
        ledger.rollback()


def test_the_same_reservation_again_changes_nothing() -> None:
    it = world()
    it.reserve("r", "net", "10.0.0.1")
    assert not changes(it.ledger, CreateReservation(reservation("r", "10.0.0.1")))


def test_another_reservation_of_that_name_is_refused() -> None:
    it = world()
    it.reserve("r", "net", "10.0.0.1")
    with pytest.raises(AlreadyExists) as refused:
        changes(it.ledger, CreateReservation(reservation("r", "10.0.0.2")))
    assert refused.value.reason == "RESERVATION_EXISTS"


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.0/29", "10.0.0.1-10.0.0.9"])
def test_a_reservation_of_what_is_in_use_is_refused_with_the_name_that_has_it(text: str) -> None:
    it = world()
    it.many(2)
    wanted = reservation("r", "10.0.0.12", text)
    with pytest.raises(AlreadyExists) as refused:
        changes(it.ledger, CreateReservation(wanted))
    assert refused.value.reason == "ADDRESS_IN_USE"
    assert refused.value.metadata["name"] in {"n0", "n1"}
    assert refused.value.metadata["field"] == "reservation.ranges[1]"
    assert changes(it.ledger, CreateReservation(wanted, allow_in_use=True))
    for name in ("n0", "n1"):
        it.release(name)
    assert changes(it.ledger, CreateReservation(wanted))


def test_a_reservation_of_what_is_in_use_in_a_stranded_block_is_refused() -> None:
    it = world()
    it.one("a")
    it.ledger.set_layout(layout([network("net", "10.0.0.0/28", 31)]))
    with pytest.raises(AlreadyExists) as refused:
        changes(it.ledger, CreateReservation(reservation("r", "10.0.0.0")))
    assert refused.value.metadata["name"] == "a"


@pytest.mark.parametrize(("cidr", "given"), [("fd62::/124", 15), ("fd62::/127", 2)])
def test_the_address_that_every_router_answers_for_is_not_given(cidr: str, given: int) -> None:
    net = network("net", cidr, 128, mode=Mode.ONLINK)
    it = World(layout([net]), [node("h1")])
    found = it.fill()
    assert len(found) == given
    assert ("fd62::" in found) == (given == 2)


def test_ending_what_is_not_there_changes_nothing() -> None:
    assert not changes(world().ledger, DeleteReservation("r"))


def test_a_reservation_of_an_unknown_network_is_refused() -> None:
    with pytest.raises(NotFound):
        changes(world().ledger, CreateReservation(reservation("r", "10.0.0.1", net="nowhere")))


@pytest.mark.parametrize(
    "text", ["10.0.0.16", "10.0.0.0/27", "10.0.0.8-10.0.0.16", "9.255.255.255-10.0.0.1", "::1"]
)
def test_ranges_outside_of_the_network_are_refused_with_their_place(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        changes(world().ledger, CreateReservation(reservation("r", "10.0.0.1", text)))
    assert [item.path for item in refused.value.violations] == ["reservation.ranges[1]"]


@pytest.mark.parametrize(
    ("text", "start", "stop", "bits"),
    [
        ("10.0.0.4", 0x0A000004, 0x0A000005, 32),
        ("10.0.0.4/30", 0x0A000004, 0x0A000008, 32),
        ("10.0.0.4 - 10.0.0.9", 0x0A000004, 0x0A00000A, 32),
        ("10.0.0.4-10.0.0.4", 0x0A000004, 0x0A000005, 32),
        ("::/0", 0, 1 << 128, 128),
        ("::1-::ff", 1, 0x100, 128),
    ],
)
def test_ranges_as_people_write_them(text: str, start: int, stop: int, bits: int) -> None:
    assert parse_range(text) == ((start, stop), bits)


@pytest.mark.parametrize(
    "text",
    ["", "x", "10.0.0.1/24", "10.0.0.9-10.0.0.4", "10.0.0.1-::1", "10.0.0.1-", "-", "1-2-3"],
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is ipaddress' own
        parse_range(text)
