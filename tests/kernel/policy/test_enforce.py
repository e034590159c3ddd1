"""What the agent's part does with rules over time, on a real kernel."""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import ip_network

import pytest

from services.agent.kernel.codec import ACK, attribute, message
from services.agent.kernel.nftables import table_names
from services.agent.rules.render_rules import Logging
from services.agent.rules.resources import NetworkRules
from services.common.errors import WrongState
from services.common.model.failsafe import Failsafe, parse_ports
from services.common.model.names import EndpointName, NetworkName, NodeName
from services.common.model.rules import (
    Action,
    CompiledRule,
    Direction,
    EndpointRules,
    NodeRules,
    PolicyName,
    PortMatch,
    Protocol,
    Tier,
)
from tests.kernel.policy.enforcing import AWHILE, Agent, remove_table, until
from tests.kernel.policy.rules import allow, rules
from tests.kernel.policy.site import Host, Site, addresses, identity, profile
from tests.support.ipam_process import poll
from tests.support.waiting import PATIENCE

HOSTS = 2
TCP, UDP = Protocol.TCP, Protocol.UDP


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


async def test_an_agent_without_rules_leaves_the_table_as_it_is(agent: Agent) -> None:
    a, b = agent.site.hosts
    agent.give(b, rules("some", allow(PortMatch(TCP, 80, 80))))
    await agent.settle()
    await agent.stop()
    next_one = Agent(agent.site)
    next_one.put(a, b)
    next_one.start()
    try:
        async with asyncio.timeout(PATIENCE):
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
        async with asyncio.timeout(PATIENCE):
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
        shared.node.call(remove_table)


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

        def reaches(host: Host, port: int, seconds: float = PATIENCE) -> bool:
            def connect() -> bool:
                try:
                    socket.create_connection(("192.0.2.1", port), seconds).close()
                except TimeoutError:
                    return False
                return True

            return host.home.call(connect)

        assert reaches(shared.outside, 22)
        assert not reaches(shared.outside, 23, AWHILE)
        assert not reaches(a, 23, AWHILE)
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
        shared.node.call(remove_table)


async def test_what_leaves_all_networks_has_the_address_of_the_node(shared: Site) -> None:
    a, b = shared.hosts
    agent = Agent(shared)
    agent.put(a, b)
    agent.give(a)
    agent.give(b)
    agent.take(NetworkRules(NetworkName("net"), ip_network("10.1.0.0/25"), masquerade=True))
    agent.start()
    try:
        await agent.settle()
        assert _source(a, shared.outside) == "192.0.2.1"
        assert _source(a, b) == str(addresses(1)[0])
    finally:
        await agent.stop()
        shared.node.call(remove_table)


def _source(source: Host, target: Host) -> str:
    """The address that a target sees."""
    ear = target.home.call(lambda: socket.create_server((str(target.addresses[0]), 7070)))
    with (
        ear,
        source.home.call(
            lambda: socket.create_connection((str(target.addresses[0]), 7070), PATIENCE)
        ),
    ):
        ear.settimeout(PATIENCE)
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

    async def are_counted() -> bool:
        counts = await agent.firewall.run(agent.firewall.counts)
        return counts[counted][0] == counts[table_names.DENIED[Direction.INGRESS]][0] == 1

    await poll(are_counted, PATIENCE)


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
        shared.node.call(remove_table)


def _log(group: int) -> socket.socket:
    """Listens to a group of nflog: see linux/netfilter/nfnetlink_log.h."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    made.bind((0, 0))
    made.settimeout(PATIENCE)
    for kind, value in ((1, b"\x01"), (2, struct.pack("!IBx", 0xFFFF, 2))):
        body = struct.pack("!BBH", 0, 0, group) + attribute(kind, value)
        made.send(message(4 << 8 | 1, ACK, kind, body))
        (code,) = struct.unpack_from("=i", made.recv(4096), 16)
        assert code == 0
    return made
