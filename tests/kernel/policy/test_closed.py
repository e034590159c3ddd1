"""A connection that a policy ended stays ended, and goes on when it is allowed again."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading

import pytest

from services.agent.kernel.conntrack import Conntrack
from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.table import Element, Shape
from services.agent.rules import render
from services.agent.rules.ending import Ending
from services.common.model.network import Address
from services.common.model.rules import Direction, GroupId, PortMatch, Protocol, RuleSet
from tests.kernel.policy.enforcing import (
    AWHILE,
    Agent,
    Connection,
    Ends,
    remove_table,
    until,
)
from tests.kernel.policy.rules import allow, rules
from tests.kernel.policy.site import Host, Site, pages
from tests.support.waiting import PATIENCE

TCP, UDP = Protocol.TCP, Protocol.UDP
PORT = 7777


CLOSED = rules("closed")
OUT = rules("out", direction=Direction.EGRESS)
"""Nothing may be begun."""


@pytest.mark.parametrize(("host", "closing"), [(1, CLOSED), (0, OUT)])
async def test_neither_side_begins_it_anew_when_its_flow_is_forgotten(
    agent: Agent,
    connection: Connection,
    host: int,
    closing: RuleSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # as if none had been kept at all: the set is full, or nothing came of it for a long time
    monkeypatch.setattr("services.agent.rules.ending.Ending._keep", lambda *_: None)
    agent.give(agent.site.hosts[host], closing)
    await agent.settle()
    assert connection.is_cut(connection.far, connection.near)
    assert connection.is_cut(connection.near, connection.far)
    assert connection.is_cut(connection.far, connection.near)


async def test_one_with_the_node_is_not_begun_anew_by_the_node(agent: Agent) -> None:
    a = agent.site.hosts[0]
    made = NodeConnection(a, agent.site)
    try:
        assert made.passes(made.near, made.far)
        agent.give(a, OUT)
        await agent.settle()
        assert made.is_cut(made.far, made.near)
        assert made.is_cut(made.near, made.far)
    finally:
        made.close()


class NodeConnection(Connection):
    def __init__(self, source: Host, site: Site) -> None:
        self._connect(source.home, site.node, "192.0.2.1", PORT)


async def test_what_the_node_began_goes_on_whatever_the_rules(agent: Agent) -> None:
    b = agent.site.hosts[1]
    address = str(b.addresses[0])
    with contextlib.ExitStack() as closing:
        ear = closing.enter_context(b.home.call(lambda: socket.create_server((address, PORT))))
        near = closing.enter_context(
            agent.site.node.call(lambda: socket.create_connection((address, PORT), PATIENCE))
        )
        far, _ = ear.accept()
        closing.enter_context(far)
        agent.give(b, CLOSED, OUT)
        await agent.settle()
        for one in (near, far):
            one.settimeout(PATIENCE)
        far.sendall(b"x")
        assert near.recv(1) == b"x"
        near.sendall(b"y")
        assert far.recv(1) == b"y"


async def test_it_goes_on_both_ways_when_it_is_allowed_again(
    agent: Agent, connection: Connection
) -> None:
    a, b = agent.site.hosts[:2]
    agent.give(a, rules("a", allow(PortMatch(TCP, 1, 1))))  # so that its packets may be answers
    agent.give(b, CLOSED)
    await agent.settle()
    assert connection.is_cut(connection.far, connection.near)
    agent.give(b, rules("open", allow(PortMatch(TCP, PORT, PORT))))
    await agent.settle()
    connection.near.settimeout(PATIENCE)
    connection.far.settimeout(PATIENCE)
    assert connection.near.recv(1) == b"x"
    assert connection.passes(connection.near, connection.far)


async def test_it_goes_on_when_another_agent_allows_it(
    agent: Agent, connection: Connection
) -> None:
    a, b = agent.site.hosts[:2]
    agent.give(a, rules("a", allow(PortMatch(TCP, 1, 1))))
    agent.give(b, CLOSED)
    await agent.settle()
    assert connection.is_cut(connection.far, connection.near)
    await agent.stop()
    successor = Agent(agent.site)
    successor.put(*agent.site.hosts)
    successor.give(a, rules("a", allow(PortMatch(TCP, 1, 1))))
    successor.give(b, rules("open", allow(PortMatch(TCP, PORT, PORT))))
    successor.start()
    try:
        await successor.settle()
        connection.near.settimeout(PATIENCE)
        assert connection.near.recv(1) == b"x"
    finally:
        await successor.stop()


class Datagrams(Ends):
    """They speak by UDP."""

    def __init__(self, source: Host, target: Host) -> None:
        def bound(host: Host) -> socket.socket:
            def make() -> socket.socket:
                one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                one.bind((str(host.addresses[0]), PORT))
                return one

            return host.home.call(make)

        self.near, self.far = bound(source), bound(target)
        self.near.connect(self.far.getsockname())
        self.far.connect(self.near.getsockname())


async def test_datagrams_of_the_other_side_begin_it_not_anew_as_long_as_they_come(
    shared: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 4  # longer than a busy machine keeps a datagram waiting
    for name, element in (
        (table_names.ENDED_4, Element.FLOW_4),
        (table_names.ENDED_6, Element.FLOW_6),
    ):
        monkeypatch.setitem(
            render.FIXED_SETS,  # type: ignore[arg-type]
            name,
            Shape(element, timeout=seconds, size=render.ENDED_MOST),
        )
    agent = Agent(shared)
    agent.put(*shared.hosts)
    for host in shared.hosts:
        agent.give(host)
    agent.start()
    a, b = shared.hosts[:2]
    made = Datagrams(a, b)
    try:
        await agent.settle()
        assert made.passes(made.near, made.far)
        agent.give(b, CLOSED)
        await agent.settle()
        # for twice as long as a flow is kept from one packet to the next
        for _ in range(int(2 * seconds / AWHILE)):
            assert made.is_cut(made.far, made.near)
        agent.give(b)
        await agent.settle()
        assert made.passes(made.far, made.near)
    finally:
        made.close()
        await agent.stop()
        shared.node.call(remove_table)


FLOOD = range(10_000, 13_000)


def _flooded(site: Site, target: Host) -> int:
    """Connections to the ports of the flood."""

    def count() -> int:
        conntrack = Conntrack()
        found = {one.opening.port for one in conntrack.find({target.addresses[0]})}
        conntrack.close()
        return len(found & {*FLOOD})

    return site.node.call(count)


async def test_more_at_once_than_a_batch_are_ended(agent: Agent) -> None:
    a, b, c = agent.site.hosts

    def flood() -> None:
        for host in (b, c):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                for port in FLOOD:
                    with contextlib.suppress(OSError):
                        one.sendto(b"x", (str(host.addresses[0]), port))

    a.home.call(flood)
    before = _flooded(agent.site, c)
    assert before > 0.9 * len(FLOOD)
    agent.give(b, rules("closed", allow(PortMatch(TCP, 1, 1))))
    await agent.settle()
    assert _flooded(agent.site, b) == 0
    assert _flooded(agent.site, c) >= before  # whom nothing concerns


async def test_only_whom_a_change_concerns_is_asked_about(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = agent.site.hosts
    asked: list[set[Address]] = []
    find = Conntrack.find

    def noting(self: Conntrack, those: set[Address]) -> object:
        asked.append(set(those))
        return find(self, those)

    monkeypatch.setattr(Conntrack, "find", noting)
    agent.take(*pages("friends", [*a.addresses, *c.addresses]))
    agent.give(b, rules("friends", allow(groups=(GroupId("friends"),))))
    await agent.settle()
    assert asked == [set(b.addresses)]
    agent.take(*pages("friends", a.addresses))
    await agent.settle()
    assert asked[1:] == [set(c.addresses)]
    agent.take(*pages("friends", [*a.addresses, *c.addresses]))
    await agent.settle()
    assert len(asked) == 2  # who comes to be allowed loses nothing


@pytest.mark.parametrize("count", [1, 30])
async def test_connections_are_found_by_address(agent: Agent, count: int) -> None:
    a, b, c = agent.site.hosts
    for target in (b, c):
        for version in (4, 6):
            agent.site.arrives(a, target, UDP, 53, version=version)
    others = {ipaddress.ip_address(f"192.0.2.{100 + number}") for number in range(count - 1)}

    def ask() -> set[tuple[Address, Address]]:
        conntrack = Conntrack()
        found = {
            (one.opening.packet.source, one.opening.packet.destination)
            for one in conntrack.find({b.addresses[0], b.addresses[1], *others})
        }
        conntrack.close()
        return found

    found = agent.site.node.call(ask)
    assert {(a.addresses[0], b.addresses[0]), (a.addresses[1], b.addresses[1])} <= found
    assert not any(set(c.addresses) & {*pair} for pair in found)


def _serve_address(site: Site, target: Host) -> None:
    """Has the node translate a service's address, as kube-proxy does."""
    address = target.addresses[0]
    site.node.run(
        "nft -f -",
        stdin=f"""table ip services {{
          chain pre {{ type nat hook prerouting priority -100;
            ip daddr 10.96.0.1 tcp dport 80 dnat to {address}; }}
          chain post {{ type nat hook postrouting priority 100;
            ip saddr {address} ip daddr {address} masquerade; }}
        }}""",
    )


async def test_an_endpoint_reaches_itself_by_the_address_of_a_service(agent: Agent) -> None:
    a, b = agent.site.hosts[:2]
    _serve_address(agent.site, a)

    def dial(host: Host, seconds: float = PATIENCE) -> bool:
        def connect() -> bool:
            try:
                socket.create_connection(("10.96.0.1", 80), seconds).close()
            except TimeoutError:
                return False
            return True

        return host.home.call(connect)

    try:
        with a.home.call(lambda: socket.create_server((str(a.addresses[0]), 80))) as ear:
            assert dial(a)
            standing = a.home.call(lambda: socket.create_connection(("10.96.0.1", 80), PATIENCE))
            ear.accept()[0].close()
            agent.give(a, CLOSED, OUT)
            await agent.settle()
            assert dial(a)
            assert not dial(b, AWHILE)
            standing.close()
    finally:
        agent.site.node.run("nft delete table ip services")


async def test_a_packet_from_the_middle_of_a_connection_begins_none(agent: Agent) -> None:
    a, b, c = agent.site.hosts
    connection = Connection(a, b, PORT)
    try:
        agent.give(b, rules("open", allow(PortMatch(TCP, PORT, PORT))))
        agent.give(c, CLOSED)
        await agent.settle()

        def lose() -> None:
            conntrack = Conntrack()
            conntrack.end(list(conntrack.find({b.addresses[0]})))
            conntrack.close()

        agent.site.node.call(lose)  # as when the kernel has no room for it
        assert connection.is_cut(connection.far, connection.near)
        # but who began it, and may, goes on
        connection.far.settimeout(PATIENCE)
        connection.near.settimeout(PATIENCE)
        assert connection.passes(connection.near, connection.far)
        assert connection.near.recv(16) == b"x"
    finally:
        connection.close()


async def test_endpoints_come_and_go_while_connections_are_judged(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, c = agent.site.hosts
    begun, go_on = threading.Event(), threading.Event()
    sweep = Ending.sweep

    def slow(self: Ending, *asked: object) -> int:
        begun.set()
        assert go_on.wait(2 * PATIENCE)
        return sweep(self, *asked)  # type: ignore[arg-type]

    monkeypatch.setattr(Ending, "sweep", slow)
    try:
        agent.give(a, CLOSED)
        await until(begun.is_set, "nothing is judged")
        agent.enforcement.put(c.name, None)
        agent.enforcement.forget(c.name)
        async with asyncio.timeout(PATIENCE):
            await agent.enforcement.close_to(c.name, c.interface)
            agent.put(c)
            await agent.enforcement.opened(c.name)
        assert agent.site.arrives(b, c, UDP, 53)
    finally:
        go_on.set()
    await agent.settle()
