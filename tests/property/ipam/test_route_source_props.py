"""What agents are told, kept up to date by what changed, equals what is told from scratch."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.model.layout import Layout
from services.common.model.names import EndpointName, NetworkName, NodeName
from services.common.sync.source import Source
from services.ipam.deciding.commands import ActivateMove, PrepareMove, Release
from services.ipam.deciding.execute import execute
from services.ipam.ledger.areas import Interval
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ledger import Ledger
from services.ipam.routes.source import Encoding, RouteSource
from services.ipam.routes.view import RoutesView
from tests.support.ipam_world import allocate, terms
from tests.support.topologies import layout, network, node


def encoded(*parts: object) -> bytes:
    return repr(parts).encode()


ENCODING = Encoding(encoded, encoded, encoded, encoded)
LAYOUTS: list[Layout] = [
    layout([network("net", "10.0.0.0/26", 29), network("more", "10.1.0.0/27", 29)]),
    layout(
        [network("net", "10.0.0.0/26", 29)],
        {"a": {"net": "10.0.0.0/27"}, "b": {"net": "10.0.0.32/27"}},
    ),
    layout([network("net", "10.0.0.0/25", 29)]),
    layout([]),
]
NODES = [
    node("h1", address="192.0.2.1"),
    node("h1", address="10.0.0.33"),
    node("h1", "a", address="192.0.2.1"),
    node("h2", address="192.0.2.2"),
    node("h2", "b", address="192.0.2.2"),
    node("h2", address="192.0.2.2", on=["net"]),
    node("h3", address="10.0.0.9"),
]
NAMES = ["h1", "h2", "h3"]


class World:
    def __init__(self) -> None:
        self.ledger = Ledger()
        self.source = Source("epoch")
        self.view = RoutesView()
        self.routes = RouteSource(self.source, self.view, ENCODING)
        self.ledger.set_layout(LAYOUTS[0])
        self.revision = 0

    def update(self, *nodes: str) -> None:
        self.revision += 1
        places = self.ledger.saved(self.revision)
        changed = [*places, *self.ledger.drain_moved()]
        self.view.changed(changed)
        self.routes.update(self.ledger, [NodeName(name) for name in nodes], changed)
        self.source.flush(self.revision, 0.0)

    def allocate(self, name: str, where: str, segment: str) -> None:
        if where not in self.ledger.nodes:
            return
        execute(self.ledger, allocate(name, where, segment=segment), terms(0))
        self.update()

    def release(self, name: str) -> None:
        execute(self.ledger, Release(EndpointName(name)), terms(0))
        self.update()

    def migrate(self, name: str, where: str, *, arrives: bool) -> None:
        if name not in self.ledger.index:
            self.allocate(name, "h1", "x")
        endpoint, to = EndpointName(name), NodeName(where)
        execute(self.ledger, PrepareMove(endpoint, to), terms(0))
        if arrives:
            execute(self.ledger, ActivateMove(endpoint, to, force=True), terms(0))
        self.update()

    def set_layout(self, number: int) -> None:
        self.ledger.set_layout(LAYOUTS[number])
        self.update()

    def set_node(self, number: int) -> None:
        self.ledger.set_node(NODES[number])
        self.update(NODES[number].name)

    def drop_node(self, name: str) -> None:
        self.ledger.drop_node(NodeName(name))
        self.update(name)

    def reserve(self, first: int) -> None:
        start = int(ip_address("10.0.0.0")) + first
        intervals = (Interval(start, start + 2),)
        self.ledger.set_reservation(Reservation(f"r{first}", NetworkName("net"), intervals, ("x",)))
        self.update()

    def unreserve(self, first: int) -> None:
        self.ledger.drop_reservation(f"r{first}")
        self.update()

    def check(self) -> None:
        fresh = Source("epoch")
        view = RoutesView()
        RouteSource(fresh, view, ENCODING).update(self.ledger, (), None)
        fresh.flush(1, 0.0)
        assert set(self.source.topics) == set(fresh.topics)
        for topic in fresh.topics:
            assert self.source.values(topic) == fresh.values(topic)
        assert self.source.nodes == fresh.nodes
        every = frozenset(fresh.topics)
        assert self.source.position(every).digest == fresh.position(every).digest


def steps() -> st.SearchStrategy[Callable[[World], None]]:
    names, firsts = st.sampled_from("abcd"), st.sampled_from([0, 9, 16, 40])
    return st.one_of(
        st.builds(
            lambda name, where, segment: lambda world: world.allocate(name, where, segment),
            names,
            st.sampled_from(NAMES),
            st.sampled_from("xyz"),
        ),
        st.builds(lambda name: lambda world: world.release(name), names),
        st.builds(
            lambda name, where, arrives: lambda world: world.migrate(name, where, arrives=arrives),
            names,
            st.sampled_from(NAMES),
            st.booleans(),
        ),
        st.builds(lambda n: lambda world: world.set_node(n), st.integers(0, len(NODES) - 1)),
        st.builds(lambda name: lambda world: world.drop_node(name), st.sampled_from(NAMES)),
        st.builds(lambda n: lambda world: world.set_layout(n), st.integers(0, len(LAYOUTS) - 1)),
        st.builds(lambda first: lambda world: world.reserve(first), firsts),
        st.builds(lambda first: lambda world: world.unreserve(first), firsts),
    )


@settings(deadline=None, max_examples=200)
@given(st.lists(steps(), min_size=10, max_size=30))
def test_incremental_equals_from_scratch(taken: list[Callable[[World], None]]) -> None:
    world = World()
    world.set_node(0)
    world.set_node(3)
    for step in taken:
        step(world)
    world.check()


def test_addresses_that_visit_are_encoded_again_only_when_their_block_changes() -> None:
    encoded_visits: list[object] = []

    def visit(*parts: object) -> bytes:
        encoded_visits.append(parts[0])
        return encoded(*parts)

    world = World()
    world.routes = RouteSource(world.source, world.view, Encoding(encoded, encoded, encoded, visit))
    for number in (0, 3):
        world.set_node(number)
    for name, segment in (("a", "x"), ("b", "y")):
        world.allocate(name, "h1", segment)
    world.migrate("a", "h2", arrives=True)
    assert encoded_visits == ["visit/net/10.0.0.0"]
    world.allocate("c", "h1", "y")
    world.set_node(3)
    assert len(encoded_visits) == 1
    world.allocate("d", "h1", "x")
    assert len(encoded_visits) == 2
