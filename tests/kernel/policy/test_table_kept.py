"""The table is ours: others do not change it, and it outlives the agent until nobody wants it."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from pathlib import Path

import pytest

from services.agent.kernel.nftables.driver import Nft
from services.agent.rules.firewall import Firewall
from services.agent.rules.off import Off
from services.agent.rules.resources import NetworkRules
from services.agent.rules.spool import RuleSpool
from services.common.model.names import NetworkName
from services.common.model.rules import Protocol
from tests.kernel.policy.enforcing import Agent, remove_table, until
from tests.kernel.policy.rules import rules
from tests.kernel.policy.site import Site
from tests.support.netns import enter

HOSTS = 2
TCP = Protocol.TCP


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
        shared.node.call(remove_table)


async def test_the_table_stays_when_the_agent_ends(agent: Agent) -> None:
    a, b = agent.site.hosts
    agent.give(b, rules("none"))
    await agent.settle()
    await agent.stop()
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
        shared.node.call(remove_table)


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
    agent.take(NetworkRules(NetworkName("net"), ip_network("10.1.0.0/24"), masquerade=True))
    agent.start()
    await agent.settle()
    assert _foreign(shared) == before
    await agent.stop()
    shared.node.call(remove_table)
    assert shared.node.run("nft list ruleset") == before
    shared.node.run("nft flush ruleset")


def _foreign(site: Site) -> str:
    whole = site.node.run("nft list ruleset")
    ours = site.node.run("nft list table inet romana", check=False)
    return whole.replace(ours, "")
