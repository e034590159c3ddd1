"""Random life of a ledger: decisions, failed transactions, changes of topology, a follower.

The leader's ledger is compared with a follower's, that is fed with what the transactions write, and
with one that is read from the store anew; and with itself before a transaction that failed.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.errors import RomanaError
from services.common.model.layout import Layout
from services.common.model.names import EndpointName, NetworkName, NodeName
from services.common.model.network import Mode, Placement
from services.common.model.node import Node
from services.common.records.blocks import BlockPage, decode_page, encode
from services.ipam.deciding.batch import Batch
from services.ipam.deciding.commands import (
    AbortMove,
    ActivateMove,
    Allocated,
    CloseRested,
    Command,
    CreateReservation,
    DeleteReservation,
    Move,
    PrepareMove,
    Release,
    ReportReady,
    Result,
)
from services.ipam.deciding.execute import execute
from services.ipam.deciding.release import names_on
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.index import Place
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.ranges import stored_ranges
from services.ipam.model import ANY, AllocatedAddress
from tests.support.ipam_dump import after_closing, choices, dump, recount
from tests.support.ipam_world import World, allocate, terms, want
from tests.support.topologies import layout, network, node

DELAY = 5.0
NODES = ("h0", "h1", "h2")


def variant(number: int) -> Layout:
    """Layouts of which each strands something of the others."""
    seq = network(
        "seq",
        "10.0.0.0/28",
        30,
        placement=Placement.SEQUENTIAL,
        reuse_delay=DELAY,
        gateway="10.0.0.1",
    )
    agg = network("agg", "10.0.1.0/27", 30, tenants=["t0"])
    big = network("big", "10.0.2.0/24", 25, reuse_delay=DELAY, placement=Placement.SEQUENTIAL)
    six = network("six", "2001:db8::/124", 126, placement=Placement.SEQUENTIAL)
    halves = {
        "one": {
            "seq": "10.0.0.0/29",
            "agg": "10.0.1.0/28",
            "big": "10.0.2.0/25",
            "six": "2001:db8::/125",
        },
        "two": {
            "seq": "10.0.0.8/29",
            "agg": "10.0.1.16/28",
            "big": "10.0.2.128/25",
            "six": "2001:db8::8/125",
        },
    }
    match number:
        case 0:
            return layout([seq, agg, big, six], halves)
        case 1:
            return layout([seq, agg, big, six], {"one": halves["two"], "two": halves["one"]})
        case 4:
            onlink = replace(seq, gateway=ip_address("10.0.0.6"), mode=Mode.ONLINK)
            open_ = replace(agg, gateway=ip_address("10.0.1.9"), tenants=())
            at_once = replace(big, reuse_delay=0.0)
            return layout([onlink, open_, at_once, replace(six, mode=Mode.ONLINK)], halves)
        case 5:
            wide = {**halves["one"], "seq": "10.0.0.0/28"}
            narrow = {name: text for name, text in halves["two"].items() if name != "seq"}
            return layout([seq, agg, big, six], {"one": wide, "two": narrow})
        case 2:
            without = {
                group: {name: text for name, text in prefixes.items() if name != "seq"}
                for group, prefixes in halves.items()
            }
            return layout([agg, big, six], without)
        case _:
            new = network("new", "10.0.0.0/28", 31, placement=Placement.SEQUENTIAL)
            more = network("agg", "10.0.1.0/27", 30, placement=Placement.SEQUENTIAL)
            whole = {"new": "10.0.0.0/28", "agg": "10.0.1.0/27", "six": "2001:db8::/124"}
            return layout([new, more, six], {"one": whole})


def node_variant(name: str, number: int) -> Node:
    """One group or the other, none, or an address inside of a network."""
    match number:
        case 0 | 1:
            return node(name, ("one", "two")[number])
        case 2:
            return node(name, None)
        case 3:
            return node(name, "one", on={"seq": "10.0.0.2", "agg": "", "big": "", "six": ""})
        case _:
            return node(name, "two", on={"agg": "10.0.1.17", "big": "10.0.2.100", "six": ""})


WANTS = (
    want(),
    want(),
    want(),
    want("agg"),
    want("seq"),
    want("big"),
    want(family=6),
    want(address="10.0.0.3"),
    want(address="10.0.1.21"),
    want(address="10.0.2.0"),
    want(address="10.0.2.100"),
    want(address="10.0.2.127"),
)
RESERVED = (
    ("seq", ("10.0.0.4/30",)),
    ("seq", ("10.0.0.3", "10.0.0.9-10.0.0.12")),
    ("agg", ("10.0.1.0-10.0.1.5",)),
    ("big", ("10.0.2.100-10.0.2.200",)),
    ("seq", ("10.0.0.0-10.0.0.2", "10.0.0.2-10.0.0.5", "10.0.0.4")),
    ("agg", ("10.0.1.16-10.0.1.22", "10.0.1.18-10.0.1.23")),
)


@dataclass
class Life:
    """A leader, its store and a follower."""

    leader: Ledger = field(default_factory=Ledger)
    follower: Ledger = field(default_factory=Ledger)
    store: dict[tuple[Place, int], tuple[int, bytes]] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    now: int = 1_000_000_000
    revision: int = 1
    marks: list[int] = field(default_factory=list)

    def both(self, change: Callable[[Ledger], None]) -> None:
        """A change of topology or reservations: never while something is pending."""
        self.commit()
        change(self.leader)
        change(self.follower)

    def commit(self) -> None:
        """A transaction that comes through."""
        self.revision += 1
        for change in self.leader.pending().pages:
            key = (change.place, change.page)
            if change.record is None:
                self.store.pop(key, None)
                self.follower.drop_page(change.place, change.page, self.revision)
            else:
                document = encode(change.record)
                self.store[key] = (change.bits, document)
                self.follower.put_page(
                    change.place, change.bits, change.page, decode_page(document), self.revision
                )
        self.leader.saved(self.revision)
        self.marks.clear()

    def fail(self) -> None:
        """A transaction that does not."""
        self.leader.rollback()
        self.marks.clear()

    def reread(self) -> Ledger:
        """A ledger made of the store."""
        made = Ledger()
        made.nodes = {NodeName(name): item for name, item in self.nodes.items()}
        made.set_layout(self.leader.layout)
        for item in self.reservations.values():
            made.set_reservation(item)
        for (place, page), (bits, document) in sorted(self.store.items()):
            made.put_page(place, bits, page, decode_page(document), 1)
        return made

    def check(self) -> None:
        """All three are the same."""
        assert not self.leader.unsaved.operations
        recount(self.leader)
        expected = dump(self.leader)
        expected_choices = choices(self.leader, self.now, 5)
        expected_end = after_closing(self.leader, self.now)
        for other in (self.follower, self.reread()):
            assert dump(other) == expected
            assert choices(other, self.now, 5) == expected_choices
            assert after_closing(other, self.now) == expected_end
        pages = {
            (place, 0): BlockPage(length=length, returned=number)
            for place, (length, number) in self.leader.returned.items()
        }
        for place, page in self.store:
            assert place in self.leader.index.blocks or (place, page) in pages, "orphan page"


decisions = st.one_of(
    st.tuples(
        st.just("allocate"),
        st.integers(0, 5),
        st.sampled_from(NODES),
        st.sampled_from(("t0", "t1")),
        st.sampled_from(("", "s")),
        st.lists(st.sampled_from(WANTS), min_size=1, max_size=3),
    ),
    st.tuples(st.just("allocate"), st.integers(0, 15), st.sampled_from(NODES)),
    st.tuples(st.just("release"), st.integers(0, 15)),
    st.tuples(st.just("release"), st.integers(0, 5)),
    st.tuples(st.just("wait"), st.sampled_from((1.0, 4.0, 6.0))),
    st.tuples(st.just("tidy"), st.integers(1, 8)),
    st.tuples(st.just("mark")),
    st.tuples(st.just("rollback")),
)
MOVES: dict[str, Callable[[EndpointName, NodeName], Command]] = {
    "move": Move,
    "prepare": PrepareMove,
    "ready": ReportReady,
    "activate": ActivateMove,
    "force": lambda name, to: ActivateMove(name, to, force=True),
    "abort": lambda name, _: AbortMove(name),
    "let go": lambda name, node: Release(name, node=node),
}
moves = st.tuples(
    st.sampled_from([*MOVES, "prepare", "force"]),
    st.integers(0, 5),
    st.sampled_from(NODES),
    st.booleans(),
)
"""Each has a transaction of its own, which comes through or does not."""
steps = st.one_of(
    decisions,
    decisions,
    decisions,
    moves,
    st.tuples(st.just("commit")),
    st.tuples(st.just("commit")),
    st.tuples(st.just("fail")),
    st.tuples(st.just("reserve"), st.integers(0, len(RESERVED) - 1)),
    st.tuples(st.just("unreserve"), st.integers(0, len(RESERVED) - 1)),
    st.tuples(st.just("layout"), st.integers(0, 5)),
    st.tuples(st.just("node"), st.sampled_from(NODES), st.integers(0, 4)),
    st.tuples(st.just("drop node"), st.sampled_from(NODES)),
)


def perform(life: Life, step: tuple[object, ...]) -> None:  # noqa: C901 - a table
    match step:
        case ("allocate", int(number), str(name), *rest):
            command = allocate(f"n{number}", name, *(rest or ("t0", "", ANY)))  # type: ignore[arg-type]
            before = dump(life.leader)
            result = execute(life.leader, command, terms(life.now))
            if isinstance(result, RomanaError):
                assert dump(life.leader) == before
            else:
                assert isinstance(result, Allocated)
                assert result.existed or not _forbidden(life, result.addresses)
        case ("release", int(number)):
            execute(life.leader, Release(EndpointName(f"n{number}")), terms(life.now))
        case (str(kind), int(number), str(to), bool(comes_through)):
            life.commit()
            before = dump(life.leader)
            order = MOVES[kind](EndpointName(f"n{number}"), NodeName(to))
            execute(life.leader, order, terms(life.now))
            if comes_through:
                life.commit()
            else:
                life.fail()
                assert dump(life.leader) == before
        case ("wait", float(seconds)):
            life.now += int(seconds * 1000)
        case ("tidy", int(most)):
            execute(life.leader, CloseRested(most), terms(life.now))
        case ("mark",):
            life.marks.append(life.leader.undo.mark())
        case ("rollback",) if life.marks:
            life.leader.rollback(life.marks.pop())
        case ("commit",):
            life.commit()
        case ("fail",):
            life.fail()
        case ("reserve", int(number)):
            net, ranges = RESERVED[number]
            made = Reservation(f"r{number}", NetworkName(net), stored_ranges(ranges), ranges)
            life.both(lambda ledger: ledger.set_reservation(made))
            life.reservations[made.name] = made
        case ("unreserve", int(number)):
            life.both(lambda ledger: ledger.drop_reservation(f"r{number}"))
            life.reservations.pop(f"r{number}", None)
        case ("layout", int(number)):
            life.both(lambda ledger: ledger.set_layout(variant(number)))
        case ("node", str(name), int(number)):
            changed = node_variant(name, number)
            life.both(lambda ledger: ledger.set_node(changed))
            life.nodes[name] = changed
        case ("drop node", str(name)):
            life.both(lambda ledger: ledger.drop_node(NodeName(name)))
            life.nodes.pop(name, None)
            for held in list(names_on(life.leader, NodeName(name))):
                execute(life.leader, Release(held), terms(life.now))
            life.commit()
            assert not list(names_on(life.leader, NodeName(name)))
    life.now += 1


def _forbidden(life: Life, given: Sequence[AllocatedAddress]) -> list[str]:
    """Addresses that were given and must not have been."""
    found = []
    for item in given:
        reserved = [
            interval
            for reservation in life.reservations.values()
            if reservation.network == item.network
            for interval in reservation.intervals
        ]
        if any(start <= item.address < stop for start, stop in reserved):
            found.append(item.text)
    own = {str(item.address) for node in life.nodes.values() for item in node.declared}
    texts = {(item.network, item.text) for item in given}
    for net in life.leader.layout.networks:
        fixed = {(net.name, str(address)) for address in net.own_addresses()}
        found += [text for place, text in texts if (place, text) in fixed]
    found += [text for network, text in texts if text in own]
    return found


def begin() -> Life:
    life = Life()
    life.both(lambda ledger: ledger.set_layout(variant(0)))
    for place, name in enumerate(NODES):
        perform(life, ("node", name, place % 2))
    return life


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, min_size=20, max_size=60))
def test_leader_follower_and_store_agree_through_any_life(
    life_steps: list[tuple[object, ...]],
) -> None:
    life = begin()
    for step in life_steps:
        perform(life, step)
    life.commit()
    life.check()


def test_blocks_that_emptied_at_once_come_back_in_one_order_at_every_replica() -> None:
    """That in which they came into use, wherever they lie."""
    life = begin()
    for number, name in ((0, "h0"), (1, "h2")):
        perform(life, ("allocate", number, name, "t0", "", [want("seq")]))
    perform(life, ("move", 0, "h2", True))
    perform(life, ("drop node", "h2"))
    life.check()


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, min_size=10, max_size=40), st.lists(decisions, min_size=6, max_size=15))
def test_a_failed_transaction_leaves_no_trace(
    life_steps: list[tuple[object, ...]], failing: list[tuple[object, ...]]
) -> None:
    life = begin()
    for step in life_steps:
        perform(life, step)
    life.commit()
    before, would = dump(life.leader), choices(life.leader, life.now, 5)
    end, now = after_closing(life.leader, life.now), life.now
    for step in failing:
        perform(life, step)
    life.fail()
    assert dump(life.leader) == before
    assert choices(life.leader, now, 5) == would
    assert after_closing(life.leader, now) == end
    recount(life.leader)


batches = st.lists(
    st.one_of(
        st.builds(
            lambda number, node, tenant: allocate(f"b{number}", node, tenant),
            st.integers(0, 40),
            st.sampled_from(NODES),
            st.sampled_from(("t0", "t0", "t0", "t1")),
        ),
        st.builds(
            lambda number, specs: allocate(f"b{number}", "h0", "t0", addresses=specs),
            st.integers(0, 40),
            st.lists(st.sampled_from(WANTS), min_size=1, max_size=3),
        ),
        st.builds(lambda number: Release(EndpointName(f"b{number}")), st.integers(0, 40)),
        st.just(CloseRested()),
    ),
    min_size=20,
    max_size=80,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, max_size=30), batches)
def test_requests_in_a_row_get_what_each_would_get_by_itself(
    life_steps: list[tuple[object, ...]], commands: list[Command]
) -> None:
    life = begin()
    for step in life_steps:
        perform(life, step)
    life.commit()
    before = dump(life.leader)
    alone = copy.deepcopy(life.leader)
    expected = [execute(alone, command, terms(life.now)) for command in commands]

    results: list[Result] = []
    assert Batch(life.leader, terms(life.now), no_defect).execute(commands, results)

    assert [_words(item) for item in results] == [_words(item) for item in expected]
    assert dump(life.leader) == dump(alone)
    recount(life.leader)
    assert life.leader.unsaved.operations == alone.unsaved.operations
    assert life.leader.pending().pages == alone.pending().pages
    life.leader.rollback()
    assert dump(life.leader) == before
    recount(life.leader)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(steps, max_size=30),
    st.integers(0, len(RESERVED) - 1),
    st.sampled_from(("create", "delete")),
)
def test_a_reservation_that_failed_leaves_no_trace(
    life_steps: list[tuple[object, ...]], number: int, change: str
) -> None:
    life = begin()
    for step in life_steps:
        perform(life, step)
    life.commit()
    if change == "delete":
        perform(life, ("reserve", number))
    before, would = dump(life.leader), choices(life.leader, life.now, 5)
    end = after_closing(life.leader, life.now)
    net, ranges = RESERVED[number]
    made = Reservation(f"r{number}", NetworkName(net), stored_ranges(ranges), ranges)
    command = (
        CreateReservation(made, allow_in_use=True)
        if change == "create"
        else DeleteReservation(made.name)
    )
    execute(life.leader, command, terms(life.now))
    life.fail()
    assert dump(life.leader) == before
    assert choices(life.leader, life.now, 5) == would
    assert after_closing(life.leader, life.now) == end
    recount(life.leader)


def no_defect(command: Command, error: Exception) -> RomanaError:
    raise AssertionError(command) from error


def _words(result: Result) -> str:
    return str(result) if isinstance(result, RomanaError) else repr(result)


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(list(Placement)))
def test_capacity_comes_back_after_any_churn(chance: random.Random, placement: Placement) -> None:
    net = network("net", "10.0.0.0/26", 29, placement=placement)
    it = World(layout([net]), [node("h1"), node("h2")])
    names: list[str] = []
    for number in range(200):
        if names and chance.random() < 0.5:
            it.release(names.pop(chance.randrange(len(names))))
        else:
            try:
                it.one(f"n{number}", chance.choice(["h1", "h2"]), chance.choice("tu"))
            except RomanaError:
                continue
            names.append(f"n{number}")
    for name in names:
        it.release(name)
    assert it.blocks() == []
    assert len(set(it.fill())) == 64


@pytest.mark.parametrize("placement", list(Placement))
def test_two_thousand_runs_of_releases_out_of_order_lose_no_address(placement: Placement) -> None:
    net = network("net", "10.0.0.0/29", 31, placement=placement)
    chance = random.Random(7)
    it = World(layout([net]), [node("h1"), node("h2")])
    for _ in range(1000):
        names = []
        while True:
            owner = (chance.choice(["h1", "h2"]), chance.choice("tu"))
            try:
                it.one(f"n{len(names)}", *owner)
            except RomanaError:
                break
            names.append(f"n{len(names)}")
        chance.shuffle(names)
        for name in names:
            assert len(it.release(name)) == 1
        assert it.ledger.index.used == 0
        assert it.blocks() == []
    assert len(set(it.fill())) == 8
