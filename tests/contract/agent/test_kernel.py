"""What reconciliation relies on: the same of the kernel and of the fake."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import pytest

from services.agent.kernel import route_bytes
from services.agent.kernel.diff import KindChange, diff
from services.agent.kernel.drivers import KernelDrivers
from services.agent.kernel.marking import TABLE
from services.agent.kernel.marks import WAYS
from services.agent.kernel.netlink import Problem
from services.agent.kernel.nftables import table as nf
from services.agent.kernel.nftables.contents import Contents
from services.agent.kernel.numbers import FIRST_NEXTHOP, FIRST_TABLE, INCOMING_PRIORITY
from services.agent.kernel.state import (
    Action,
    Interface,
    KernelState,
    Key,
    Kind,
    Look,
    Nexthop,
    Objects,
    Proxy,
    Rule,
)
from tests.fakes.kernel import FakeKernel
from tests.support.netns import Namespaces, enter, missing

SIDES = {
    4: ("192.168.0.2/24", "192.168.0.3", "192.168.0.4", "10.1.0.0/24", "10.1.0.7"),
    6: ("fd00::2/64", "fd00::3", "fd00::4", "fd01::/64", "fd01::7"),
}


class Real:
    """The kernel of a namespace, called as the fake is."""

    def __init__(self, kernel: KernelDrivers) -> None:
        self._kernel = kernel
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(kernel.start())

    def _run(self, work: Callable[[], object]) -> object:
        return self._loop.run_until_complete(self._kernel.run(work))

    def interfaces(self, look: Look | None = None, /) -> Mapping[str, Interface]:
        return self._run(lambda: self._kernel.interfaces(look))  # type: ignore[return-value]

    def read(self, state: KernelState, kinds: Collection[Kind]) -> KernelState:
        return self._run(lambda: self._kernel.read(state, kinds))  # type: ignore[return-value]

    def apply(self, step: KindChange) -> Mapping[Key, Problem]:
        return self._run(lambda: self._kernel.apply(step))  # type: ignore[return-value]

    def close(self) -> None:
        self._loop.run_until_complete(self._kernel.close())
        self._loop.close()


@pytest.fixture(params=["fake", "real"])
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeKernel | Real]:
    """With one interface, `e0`."""
    if request.param == "fake":
        addresses = tuple(ipaddress.ip_interface(side[0]) for side in SIDES.values())
        yield FakeKernel([Interface("lo", 1), Interface("e0", 2, addresses=addresses)])
        return
    if missing():
        pytest.skip(f"needs {missing()}")
    with Namespaces() as made:
        namespace = made.new("k")
        namespace.link(made.new("peer"), "e0", "e0")
        for side in SIDES.values():
            namespace.run(f"ip addr add {side[0]} dev e0" + (" nodad" if ":" in side[0] else ""))
        real = Real(KernelDrivers(tmp_path, enter=lambda: enter(namespace.path)))
        yield real
        real.close()


def marking(*chains: str) -> Contents:
    """A table with these chains, each with a rule."""
    rule = nf.Rule((nf.In(nf.Key.INPUT, "some"), nf.MarkConnection(0x10000, WAYS)))
    return Contents.of(
        nf.Image(
            {name: nf.Chain((rule,), nf.Base(nf.Hook.PREROUTING, -90)) for name in chains},
            {"some": nf.Shape(nf.Element.INTERFACE)},
            elements={"some": {nf.interface_key("e0"): ""}},
        )
    )


class World:
    """One of everything."""

    def __init__(self, kernel: FakeKernel | Real, version: int) -> None:
        self.kernel = kernel
        _, gateway, moved, prefix, host = SIDES[version]
        self.index = kernel.interfaces()["e0"].index
        self.gateway, self.moved = ipaddress.ip_address(gateway), ipaddress.ip_address(moved)
        self.prefix, self.host = ipaddress.ip_network(prefix), ipaddress.ip_address(host)
        self.number = FIRST_NEXTHOP + 5
        everything = self.prefix.supernet(new_prefix=0)
        self.by_node = route_bytes.route_key(FIRST_TABLE, self.prefix)
        self.to_host = route_bytes.host_key(FIRST_TABLE, self.host)
        self.state = KernelState(
            nexthops={self.number: Nexthop(self.index, self.gateway)},
            routes={
                self.by_node: route_bytes.by_nexthop(self.number),
                self.to_host: route_bytes.on_link(version, self.index),
                route_bytes.host_key(route_bytes.MAIN_TABLE, self.host): route_bytes.on_link(
                    version, self.index
                ),
                route_bytes.route_key(FIRST_TABLE, everything): route_bytes.by_gateway(
                    self.index, self.gateway
                ),
                route_bytes.host_key(FIRST_TABLE, self.host + 1): route_bytes.unreachable(),
            },
            rules={
                Rule(version, INCOMING_PRIORITY, FIRST_TABLE, interface="e0"): None,
                Rule(version, INCOMING_PRIORITY + 1, FIRST_TABLE, source=self.prefix): None,
                Rule(version, INCOMING_PRIORITY + 1, FIRST_TABLE, None, self.prefix, "e0"): None,
                Rule(
                    version,
                    INCOMING_PRIORITY + 2,
                    route_bytes.MAIN_TABLE,
                    source=self.prefix,
                    suppressed=0,
                ): None,
                Rule(
                    version,
                    INCOMING_PRIORITY - 1,
                    destination=self.prefix,
                    action=Action.GOTO,
                    target=INCOMING_PRIORITY + 3,
                ): None,
                Rule(version, INCOMING_PRIORITY + 3, action=Action.NOP): None,
                Rule(
                    version, INCOMING_PRIORITY + 4, interface="e0", action=Action.UNREACHABLE
                ): None,
                Rule(
                    version,
                    INCOMING_PRIORITY + 5,
                    route_bytes.MAIN_TABLE,
                    interface="e0",
                    suppressed=31 if version == 4 else 127,
                    mark=0x110000,
                    mask=WAYS,
                ): None,
            },
            proxies={Proxy(self.index, self.host): None},
            marking={TABLE: marking("a")},
        )

    def reach(self, state: KernelState) -> Mapping[Key, Problem]:
        """Brings the kernel there; returns what was refused."""
        problems: dict[Key, Problem] = {}
        for step in diff(state, self.read()):
            problems.update(self.kernel.apply(step))
        return problems

    def read(self) -> KernelState:
        return self.kernel.read(KernelState(), tuple(Kind))

    def put(self, kind: Kind, objects: Objects) -> Mapping[Key, Problem]:
        return self.kernel.apply(KindChange(kind, objects, {}, {}))

    def replace(self, kind: Kind, objects: Objects) -> Mapping[Key, Problem]:
        return self.kernel.apply(KindChange(kind, {}, objects, {}))


@pytest.fixture(params=[4, 6])
def world(kernel: FakeKernel | Real, request: pytest.FixtureRequest) -> World:
    return World(kernel, request.param)


def test_what_is_written_is_read_back(world: World) -> None:
    assert not world.reach(world.state)
    assert world.read() == world.state


def test_what_is_removed_is_gone(world: World) -> None:
    world.reach(world.state)
    assert not world.reach(KernelState())
    assert world.read() == KernelState()


def test_a_nexthop_is_replaced_under_its_routes(world: World) -> None:
    world.reach(world.state)
    moved = {world.number: Nexthop(world.index, world.moved)}
    assert not world.replace(Kind.NEXTHOP, moved)
    assert world.read() == world.state.having(Kind.NEXTHOP, moved)


def test_a_route_is_replaced_by_one_of_another_kind_and_back(world: World) -> None:
    world.reach(world.state)
    ways = (
        route_bytes.unreachable(),
        route_bytes.by_gateway(world.index, world.gateway),
        route_bytes.on_link(world.prefix.version, world.index),
        route_bytes.by_nexthop(world.number),
    )
    for before in ways:
        for after in ways:
            assert not world.replace(Kind.ROUTE, {world.by_node: before})
            assert not world.replace(Kind.ROUTE, {world.by_node: after})
            assert world.read().routes[world.by_node] == after


def test_marking_is_changed_in_place(world: World) -> None:
    world.reach(world.state)
    for after in (marking("a", "b"), marking("b")):
        assert not world.replace(Kind.MARKING, {TABLE: after})
        assert world.read() == world.state.having(Kind.MARKING, {TABLE: after})


def test_a_route_that_is_there_is_not_added(world: World) -> None:
    world.reach(world.state)
    problems = world.put(Kind.ROUTE, {world.to_host: route_bytes.unreachable()})
    assert problems[world.to_host].number == errno.EEXIST
    assert world.read() == world.state


def test_one_refusal_does_not_stop_the_others(world: World) -> None:
    without = route_bytes.by_nexthop(FIRST_NEXTHOP + 99)
    keys = [route_bytes.host_key(FIRST_TABLE, world.host + number) for number in range(5)]
    routes = {key: route_bytes.unreachable() for key in keys} | {keys[2]: without}
    assert list(world.put(Kind.ROUTE, routes)) == [keys[2]]
    assert list(world.read().routes) == [key for key in keys if key != keys[2]]


def test_a_removed_nexthop_takes_its_routes_with_it(world: World) -> None:
    world.reach(world.state)
    world.kernel.apply(KindChange(Kind.NEXTHOP, {}, {}, world.state.nexthops))
    assert world.by_node not in world.read().routes


def test_removing_what_is_gone_succeeds(world: World) -> None:
    for kind in (Kind.PROXY, Kind.RULE, Kind.ROUTE, Kind.NEXTHOP):
        assert not world.kernel.apply(KindChange(kind, {}, {}, world.state.of(kind)))


def test_an_interface_that_is_not_there_is_refused(world: World) -> None:
    proxy = Proxy(9999, world.host)
    assert list(world.put(Kind.PROXY, {proxy: None})) == [proxy]
    assert list(world.put(Kind.NEXTHOP, {world.number: Nexthop(9999, world.gateway)})) == [
        world.number
    ]
    route = {world.to_host: route_bytes.on_link(world.host.version, 9999)}
    assert list(world.put(Kind.ROUTE, route)) == [world.to_host]
    assert world.read() == KernelState()


def test_many_routes_of_every_kind_are_read_back(world: World) -> None:
    ways = (
        route_bytes.unreachable(),
        route_bytes.by_nexthop(world.number),
        route_bytes.on_link(world.host.version, world.index),
    )
    routes = {
        route_bytes.host_key(FIRST_TABLE + number % 3, world.host + number): ways[number // 700]
        for number in range(2100)
    }
    state = KernelState(nexthops=world.state.nexthops, routes=routes)
    assert not world.reach(state)
    assert world.read() == state
