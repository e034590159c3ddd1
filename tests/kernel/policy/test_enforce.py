"""What the agent's part does with the table over time, on a real kernel."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from services.agent.kernel.codec import ACK, attribute, message
from services.agent.kernel.nftables import table_names
from services.agent.kernel.nftables.driver import Nft
from services.agent.model import EndpointAddress, LocalEndpoint
from services.agent.rules.ending import Ending
from services.agent.rules.enforce import Enforcement
from services.agent.rules.firewall import Firewall
from services.agent.rules.off import Off
from services.agent.rules.render_rules import Logging
from services.agent.rules.resources import NetworkRules, Resource
from services.agent.rules.spool import RuleSpool
from services.common.errors import WrongState
from services.common.model.failsafe import Failsafe, parse_ports
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.rules import (
    Action,
    CompiledRule,
    Direction,
    EndpointRules,
    GroupId,
    NodeRules,
    PolicyName,
    PortMatch,
    Protocol,
    RuleSet,
    Tier,
)
from tests.kernel.policy.rules import allow, rules
from tests.kernel.policy.site import Host, Site, addresses, identity, pages, profile
from tests.support.ipam_process import poll
from tests.support.netns import Namespaces, enter, missing

TCP, UDP = Protocol.TCP, Protocol.UDP


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    lack = missing()
    if lack:
        pytest.skip(f"needs {lack}")
    with Namespaces() as made:
        site = Site(made, 2)
        yield site
        site.close()


class Agent:
    """The part of an agent that enforces, on a site."""

    def __init__(
        self, site: Site, failsafe: Failsafe | None = None, logging: Logging | None = None
    ) -> None:
        self.site = site
        self.firewall = Firewall(enter=lambda: enter(site.node.path))
        self.enforcement = Enforcement(
            self.firewall,
            Ending(self.firewall, enter=lambda: enter(site.node.path)),
            failsafe or Failsafe(),
            logging,
            quick=0.3,
            check=0.3,
        )
        self.task: asyncio.Task[None] | None = None

    def put(self, *hosts: Host) -> None:
        for host in hosts:
            endpoint = LocalEndpoint(
                host.name,
                Tenant("t"),
                Segment(""),
                host.interface,
                tuple(EndpointAddress(one, NetworkName("net")) for one in host.addresses),
            )
            self.enforcement.put(host.name, endpoint)

    def take(self, *resources: Resource, removed: tuple[str, ...] = ()) -> None:
        found: Mapping[str, Resource] = {identity(one): one for one in resources}
        self.enforcement.update(found, removed, whole=True)

    def give(self, host: Host, *sets: RuleSet) -> None:
        ordered = sorted(sets, key=lambda one: one.order)
        self.take(*sets, EndpointRules(host.name, host.addresses, profile(ordered)))

    def start(self) -> None:
        self.task = asyncio.create_task(self.enforcement.run())

    async def settle(self) -> None:
        async with asyncio.timeout(10):
            await self.enforcement.reached()

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
            self.task = None


@pytest.fixture
async def agent(shared: Site) -> AsyncIterator[Agent]:
    """One with both endpoints open to everything."""
    made = Agent(shared)
    made.put(*shared.hosts)
    made.take(*(EndpointRules(one.name, one.addresses, profile([])) for one in shared.hosts))
    made.start()
    await made.settle()
    yield made
    await made.stop()
    shared.node.call(_remove)


def _remove() -> None:
    nft = Nft()
    nft.remove()
    nft.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    async def holds() -> bool:
        return condition()

    try:
        await poll(holds, 10)
    except TimeoutError:
        raise AssertionError(what) from None


class Connection:
    """A real TCP connection from one host to another."""

    def __init__(self, source: Host, target: Host, port: int) -> None:
        self.ear = target.home.call(lambda: socket.create_server((str(target.addresses[0]), port)))
        self.near = source.home.call(
            lambda: socket.create_connection((str(target.addresses[0]), port), 5)
        )
        self.far, _ = self.ear.accept()
        for one in (self.near, self.far):
            one.settimeout(0.3)

    def passes(self, sender: socket.socket, receiver: socket.socket) -> bool:
        sender.sendall(b"x")
        try:
            return bool(receiver.recv(16))
        except TimeoutError:
            return False

    def close(self) -> None:
        for one in (self.near, self.far, self.ear):
            one.close()


@pytest.fixture
def connection(agent: Agent) -> Iterator[Connection]:
    a, b = agent.site.hosts
    made = Connection(a, b, 7777)
    yield made
    made.close()


async def test_what_is_established_and_forbidden_is_cut(
    agent: Agent, connection: Connection
) -> None:
    assert connection.passes(connection.near, connection.far)
    agent.give(agent.site.hosts[1], rules("none"))
    await agent.settle()
    assert not connection.passes(connection.near, connection.far)


async def test_the_other_side_does_not_begin_a_cut_connection_anew(
    agent: Agent, connection: Connection
) -> None:
    agent.give(agent.site.hosts[1], rules("none"))  # which may send to whom it likes
    await agent.settle()
    assert not connection.passes(connection.far, connection.near)
    assert not connection.passes(connection.near, connection.far)


async def test_what_stays_allowed_is_not_cut(agent: Agent, connection: Connection) -> None:
    agent.give(agent.site.hosts[1], rules("some", allow(PortMatch(TCP, 7777, 7777))))
    await agent.settle()
    assert connection.passes(connection.near, connection.far)
    assert connection.passes(connection.far, connection.near)


async def test_what_was_cut_goes_on_when_it_is_allowed_again(
    agent: Agent, connection: Connection
) -> None:
    b = agent.site.hosts[1]
    agent.give(b, rules("none"))
    await agent.settle()
    connection.near.sendall(b"x")
    agent.give(b)
    await agent.settle()
    connection.near.settimeout(5)
    connection.far.settimeout(5)
    assert connection.far.recv(1) == b"x"


async def test_a_member_that_leaves_a_group_is_cut(agent: Agent) -> None:
    a, b = agent.site.hosts
    agent.take(*pages("friends", a.addresses))
    agent.give(b, rules("friends", allow(groups=(GroupId("friends"),))))
    await agent.settle()
    connection = Connection(a, b, 7778)
    try:
        assert connection.passes(connection.near, connection.far)
        agent.take(removed=tuple(identity(page) for page in pages("friends", a.addresses)))
        await agent.settle()
        assert not connection.passes(connection.near, connection.far)
    finally:
        connection.close()


async def test_connections_of_an_address_end_with_its_endpoint(
    agent: Agent, connection: Connection
) -> None:
    b = agent.site.hosts[1]
    agent.enforcement.put(b.name, None)
    await agent.settle()
    assert "7777" not in _connections(agent.site)


def _connections(site: Site) -> str:
    """All connections to b, as text: by the driver, for want of a command."""

    def read() -> str:
        from services.agent.kernel.conntrack import Conntrack

        conntrack = Conntrack()
        found = list(conntrack.find({site.hosts[1].addresses[0]}))
        conntrack.close()
        return " ".join(str(one.opening.port) for one in found)

    return site.node.call(read)


async def test_an_endpoint_that_left_stays_closed_until_its_interface_is_gone(
    agent: Agent,
) -> None:
    a, b = agent.site.hosts
    agent.enforcement.put(a.name, None)
    await agent.settle()
    assert not agent.site.arrives(a, b, UDP, 53)
    agent.enforcement.forget(a.name)
    await agent.settle()
    assert agent.site.arrives(a, b, UDP, 53)  # somebody else's interface now


async def test_flushing_all_rules_leaves_ours(agent: Agent) -> None:
    a, b = agent.site.hosts
    agent.give(b, rules("none"))
    await agent.settle()
    agent.site.node.run("nft flush ruleset")
    assert not agent.site.arrives(a, b, TCP, 80)


async def test_nobody_else_changes_the_table(agent: Agent) -> None:
    for command in ("flush table", "delete table", "flush chain", "add chain"):
        chain = " forward" if "chain" in command else ""
        assert not agent.site.node.succeeds(f"nft {command} inet romana{chain}")


@pytest.mark.parametrize(
    "damage",
    [
        "delete table inet romana",
        "flush table inet romana",
        "flush set inet romana interfaces",
        "insert rule inet romana forward accept",
        "flush map inet romana to4",
    ],
)
async def test_a_table_that_anybody_may_change_is_put_right(
    shared: Site, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # as with a kernel before 6.9, which knows no owners that persist
    monkeypatch.setattr(Nft, "_takes", lambda *_: False)
    agent = Agent(shared)
    a, b = shared.hosts
    agent.put(a, b)
    agent.give(a)
    agent.give(b, rules("none"))
    agent.start()
    try:
        await agent.settle()
        before = shared.node.run("nft -s list table inet romana")
        shared.node.run(f"nft {damage}")

        def repaired() -> bool:
            listed = shared.node.run("nft -s list table inet romana", check=False)
            return sorted(listed.split("\n")) == sorted(before.split("\n"))

        await until(repaired, "the table was not put right")
        assert not shared.arrives(a, b, TCP, 80)
    finally:
        await agent.stop()
        shared.node.call(_remove)


async def test_the_table_stays_when_the_agent_ends(agent: Agent) -> None:
    a, b = agent.site.hosts
    agent.give(b, rules("none"))
    await agent.settle()
    await agent.stop()
    assert not agent.site.arrives(a, b, TCP, 80)


async def test_an_agent_without_rules_leaves_the_table_as_it_is(agent: Agent) -> None:
    a, b = agent.site.hosts
    agent.give(b, rules("some", allow(PortMatch(TCP, 80, 80))))
    await agent.settle()
    await agent.stop()
    next_one = Agent(agent.site)
    next_one.put(a, b)
    next_one.start()
    try:
        async with asyncio.timeout(10):
            await next_one.enforcement.close_to(a.name, "romzzzzzzzzzzzz")
        assert agent.site.arrives(a, b, TCP, 80)
        assert not agent.site.arrives(a, b, TCP, 81)
        assert "romzzzzzzzzzzzz" in agent.site.node.run("nft list set inet romana interfaces")
        assert "no rules from policy yet" in next_one.enforcement.reasons[0]
    finally:
        await next_one.stop()


async def test_an_agent_that_lost_its_rules_enforces_those_that_it_is_told(agent: Agent) -> None:
    a, b = agent.site.hosts
    await agent.stop()
    next_one = Agent(agent.site)
    next_one.put(a, b)
    next_one.start()
    try:
        async with asyncio.timeout(10):
            await next_one.enforcement.close_to(a.name, a.interface)
        assert agent.site.arrives(b, a, TCP, 80)  # as it was before
        next_one.put(a)
        next_one.give(a)
        next_one.give(b, rules("none"))
        await next_one.settle()
        assert not agent.site.arrives(a, b, TCP, 80)
        assert next_one.enforcement.ready
    finally:
        await next_one.stop()


async def test_a_part_of_a_change_is_not_in_force_whatever_else_is_asked(agent: Agent) -> None:
    a, b = agent.site.hosts
    none = rules("none")
    agent.enforcement.update(
        {
            identity(none): none,
            f"endpoint/{b.name}": EndpointRules(b.name, b.addresses, profile([none])),
        },
        (),
        whole=False,
    )
    await agent.enforcement.close_to(EndpointName("another"), "romzzzzzzzzzzzz")
    assert agent.site.arrives(a, b, TCP, 80)
    agent.take()
    await agent.settle()
    assert not agent.site.arrives(a, b, TCP, 80)


async def test_endpoints_that_come_and_go_while_rules_change_are_no_trouble(agent: Agent) -> None:
    a, b = agent.site.hosts
    one, two = rules("one"), rules("two", allow(PortMatch(TCP, 80, 80)))
    for turn in range(200):
        agent.put(a, b)
        agent.give(b, one if turn % 2 else two)
        await asyncio.sleep(0)
        agent.enforcement.put(b.name, None)
        agent.take(removed=(identity(one if turn % 2 else two),))
        await asyncio.sleep(0.001 * (turn % 5))
        agent.enforcement.forget(b.name)
        assert not agent.enforcement.error
    agent.put(a, b)
    agent.give(b, two)
    await agent.settle()
    assert agent.enforcement.ready
    assert agent.site.arrives(a, b, TCP, 80)
    assert not agent.site.arrives(a, b, TCP, 81)


async def test_a_defect_is_shown_and_what_is_asked_for_is_done_after_it(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = agent.site.hosts
    monkeypatch.setattr("services.agent.rules.compose.render", lambda *_: 1 // 0)
    agent.give(b, rules("none"))
    await until(lambda: bool(agent.enforcement.error), "nothing is said of it")
    assert "defect" in agent.enforcement.reasons[0]
    assert agent.site.arrives(a, b, TCP, 80)
    monkeypatch.undo()
    await until(lambda: agent.enforcement.ready, "it did not recover")
    assert not agent.site.arrives(a, b, TCP, 80)


async def test_an_agent_that_shall_enforce_nothing_removes_the_table(
    agent: Agent, tmp_path: Path
) -> None:
    a, b = agent.site.hosts
    agent.give(b, rules("none"))
    await agent.settle()
    assert not agent.site.arrives(a, b, TCP, 80)
    (tmp_path / "rules.bin").write_bytes(b"old")
    path = agent.site.node.path
    off = Off(Firewall(enter=lambda: enter(path)), RuleSpool(tmp_path).forget)
    task = asyncio.create_task(off.run())
    try:
        await until(lambda: "belongs to another process" in off.reasons[0], "nothing is said of it")
        await agent.stop()
        await until(lambda: not off.reasons, "the table is still there")
        assert not agent.site.node.succeeds("nft list table inet romana")
        assert agent.site.arrives(a, b, TCP, 80)
        assert not (tmp_path / "rules.bin").exists()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_restart_changes_nothing(agent: Agent) -> None:
    a, b = agent.site.hosts
    one = rules("some", allow(PortMatch(TCP, 80, 80)))
    agent.give(b, one)
    await agent.settle()
    assert agent.site.arrives(a, b, TCP, 80)
    await agent.stop()
    before = agent.site.node.run("nft -as list table inet romana")
    next_one = Agent(agent.site)
    next_one.put(b, a)
    next_one.give(b, one)
    next_one.give(a)
    next_one.start()
    try:
        await next_one.settle()
        # handles, too: no rule was made anew
        after = agent.site.node.run("nft -as list table inet romana")
        assert sorted(_plain(after)) == sorted(_plain(before))
    finally:
        await next_one.stop()


def _plain(listing: str) -> list[str]:
    return [line for line in listing.split("\n") if "progname" not in line and "flags" not in line]


async def test_new_endpoints_without_any_rules_known_are_closed(shared: Site) -> None:
    a, b = shared.hosts
    agent = Agent(shared)
    agent.put(a, b)
    agent.start()
    try:
        await until(lambda: shared.node.succeeds("nft list table inet romana"), "there is no table")
        assert not shared.arrives(a, b, TCP, 80)
    finally:
        await agent.stop()
        shared.node.call(_remove)


async def test_what_the_kernel_refuses_leaves_the_rules_as_they_were(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = agent.site.hosts
    agent.give(b, rules("none"))
    await agent.settle()
    monkeypatch.setattr(
        "services.agent.kernel.nftables.messages.number",
        lambda *_: b"\x08\x00\xff\xff" + bytes(4),
    )
    agent.give(b, rules("some", allow(PortMatch(TCP, 80, 80))))
    await until(lambda: bool(agent.enforcement.error), "nothing is said of it")
    assert "nf_tables" in agent.enforcement.reasons[0]
    assert not agent.enforcement.ready
    assert not agent.site.arrives(a, b, TCP, 80)
    with pytest.raises(WrongState, match="cannot be closed"):
        await agent.enforcement.close_to(a.name, "romzzzzzzzzzzzz")
    monkeypatch.undo()
    await until(lambda: agent.enforcement.ready, "it did not recover")
    assert agent.site.arrives(a, b, TCP, 80)


async def test_the_table_of_another_process_is_told_and_kept(shared: Site) -> None:
    def take() -> Nft:
        from services.agent.kernel.nftables.table import Changes

        made = Nft()
        made.apply(Changes(counters={"other"}))
        return made

    other = shared.node.call(take)
    agent = Agent(shared)
    agent.take()
    agent.start()
    try:
        await until(lambda: bool(agent.enforcement.error), "nothing is said of it")
        assert "belongs to another process" in agent.enforcement.reasons[0]
        other.close()
        await until(lambda: agent.enforcement.ready, "it was not taken over")
    finally:
        await agent.stop()
        shared.node.call(_remove)


async def test_tables_of_others_are_the_same_afterwards(shared: Site) -> None:
    shared.node.run(
        "nft -f -",
        stdin="""
        table inet foreign {
            set many { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.7 } }
            chain forward { type filter hook forward priority 5; ip saddr @many counter drop; }
        }
        table ip nat {
            chain post { type nat hook postrouting priority 90; }
        }
        """,
    )
    shared.node.run("iptables-nft -A FORWARD -s 203.0.113.9 -j DROP", check=False)
    before = _foreign(shared)
    assert "foreign" in before
    agent = Agent(shared)
    agent.put(*shared.hosts)
    agent.give(shared.hosts[0], rules("none"))
    agent.take(NetworkRules(NetworkName("net"), _network("10.1.0.0/24"), masquerade=True))
    agent.start()
    await agent.settle()
    assert _foreign(shared) == before
    await agent.stop()
    shared.node.call(_remove)
    assert shared.node.run("nft list ruleset") == before
    shared.node.run("nft flush ruleset")


def _foreign(site: Site) -> str:
    whole = site.node.run("nft list ruleset")
    ours = site.node.run("nft list table inet romana", check=False)
    return whole.replace(ours, "")


def _network(text: str):  # type: ignore[no-untyped-def]
    import ipaddress

    return ipaddress.ip_network(text)


async def test_a_policy_on_the_node_protects_it_and_opens_no_endpoint(shared: Site) -> None:
    a, b = shared.hosts
    agent = Agent(shared, Failsafe(inbound=parse_ports(["tcp/22"])))
    agent.put(a, b)
    agent.give(a)
    agent.give(b, rules("none"))
    deny = rules("node", CompiledRule(0, Action.DENY, any_peer=True), tier=Tier.ADMIN)
    agent.take(deny, NodeRules(NodeName("node"), profile([deny])))
    agent.start()
    servers = [
        shared.node.call(lambda port=port: socket.create_server(("192.0.2.1", port)))  # type: ignore[misc]
        for port in (22, 23)
    ]
    try:
        await agent.settle()

        def reaches(host: Host, port: int) -> bool:
            def connect() -> bool:
                try:
                    socket.create_connection(("192.0.2.1", port), 0.3).close()
                except TimeoutError:
                    return False
                return True

            return host.home.call(connect)

        assert reaches(shared.outside, 22)
        assert not reaches(shared.outside, 23)
        assert not reaches(a, 23)
        assert shared.node.pings(str(b.addresses[0]))
        assert not shared.arrives(a, b, TCP, 80)
        assert shared.arrives(b, a, TCP, 80)
        agent.take(removed=(f"node/{NodeName('node')}",))
        await agent.settle()
        assert reaches(shared.outside, 23)
    finally:
        for server in servers:
            server.close()
        await agent.stop()
        shared.node.call(_remove)


async def test_what_leaves_all_networks_has_the_address_of_the_node(shared: Site) -> None:
    a, b = shared.hosts
    agent = Agent(shared)
    agent.put(a, b)
    agent.give(a)
    agent.give(b)
    agent.take(NetworkRules(NetworkName("net"), _network("10.1.0.0/25"), masquerade=True))
    agent.start()
    try:
        await agent.settle()
        assert _source(a, shared.outside) == "192.0.2.1"
        assert _source(a, b) == str(addresses(1)[0])
    finally:
        await agent.stop()
        shared.node.call(_remove)


def _source(source: Host, target: Host) -> str:
    """The address that a target sees."""
    ear = target.home.call(lambda: socket.create_server((str(target.addresses[0]), 7070)))
    with (
        ear,
        source.home.call(lambda: socket.create_connection((str(target.addresses[0]), 7070), 5)),
    ):
        ear.settimeout(5)
        far, where = ear.accept()
        far.close()
        return str(where[0])


async def test_counters_say_what_rules_decided(agent: Agent) -> None:
    a, b = agent.site.hosts
    agent.give(b, rules("web", allow(PortMatch(UDP, 80, 80))))
    await agent.settle()
    assert agent.site.arrives(a, b, UDP, 80)
    assert not agent.site.arrives(a, b, UDP, 81)
    counted = table_names.counter(PolicyName("web"), Direction.INGRESS, "0")
    counts = await agent.firewall.run(agent.firewall.counts)
    assert counts[counted][0] == 1
    assert counts[table_names.DENIED[Direction.INGRESS]][0] == 1


async def test_denied_packets_are_logged_with_the_name_of_the_policy(shared: Site) -> None:
    a, b = shared.hosts
    agent = Agent(shared, logging=Logging(7, 100))
    agent.put(a, b)
    agent.give(a)
    deny = rules("no-web", CompiledRule(0, Action.DENY, any_peer=True), tier=Tier.ADMIN)
    agent.give(b, deny)
    log = shared.node.call(lambda: _log(7))
    agent.start()
    try:
        await agent.settle()
        assert not shared.arrives(a, b, UDP, 80)
        assert b"romana deny ingress no-web 0: " in log.recv(65536)
    finally:
        log.close()
        await agent.stop()
        shared.node.call(_remove)


def _log(group: int) -> socket.socket:
    """Listens to a group of nflog: see linux/netfilter/nfnetlink_log.h."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    made.bind((0, 0))
    made.settimeout(5)
    for kind, value in ((1, b"\x01"), (2, struct.pack("!IBx", 0xFFFF, 2))):
        body = struct.pack("!BBH", 0, 0, group) + attribute(kind, value)
        made.send(message(4 << 8 | 1, ACK, kind, body))
        (code,) = struct.unpack_from("=i", made.recv(4096), 16)
        assert code == 0
    return made
