"""Rules that name owners' blocks, against what the kernel does with packets."""

from __future__ import annotations

import ipaddress
import random

import pytest

from services.agent.kernel.nftables.table_diff import diff
from services.common.model.judging import judge
from services.common.model.network import Prefix
from services.common.model.rules import (
    Action,
    CompiledRule,
    GroupBlock,
    GroupId,
    OwnedPeers,
    Packet,
    Protocol,
    Tier,
)
from tests.kernel.policy.rules import rules
from tests.kernel.policy.site import Site, identity, pages

TCP = Protocol.TCP
OTHERS, KNOWN = GroupId("others"), GroupId("known")


def block(text: str) -> GroupBlock:
    return GroupBlock(OTHERS, ipaddress.ip_network(text))


def denying(known: GroupId | None = None) -> CompiledRule:
    return CompiledRule(0, Action.DENY, owned=(OwnedPeers(OTHERS, known),))


@pytest.mark.parametrize("version", [4, 6])
def test_who_is_not_known_is_denied_by_its_block(site: Site, version: int) -> None:
    a, b, c = site.hosts
    site.put(block("10.1.0.1/32"), block("fd00:1::/127"))
    site.give(b, rules("apart", denying(), tier=Tier.BASELINE))
    site.apply()
    assert not site.arrives(a, b, TCP, 80, version=version)
    assert site.arrives(c, b, TCP, 80, version=version)
    assert site.arrives(site.outside, b, TCP, 80, version=version)


@pytest.mark.parametrize("version", [4, 6])
def test_who_is_known_is_not(site: Site, version: int) -> None:
    a, b, c = site.hosts
    site.put(block("10.1.0.0/29"), block("fd00:1::/125"), *pages(KNOWN, a.addresses))
    site.give(b, rules("labels", denying(KNOWN), tier=Tier.BASELINE))
    site.apply()
    assert site.arrives(a, b, TCP, 80, version=version)
    assert not site.arrives(c, b, TCP, 80, version=version)
    site.put(*pages(KNOWN, [*a.addresses, *c.addresses]))
    site.apply()
    assert site.arrives(c, b, TCP, 80, version=version)


def test_blocks_that_come_and_go(site: Site) -> None:
    """Whatever they were before, the table is what it would be if they had always been so."""
    a, b, c = site.hosts
    deny = rules("apart", denying(), tier=Tier.BASELINE)
    site.give(b, deny)
    site.apply()
    drawn = random.Random(5)
    there: set[Prefix] = set()
    for _ in range(40):
        for _ in range(drawn.randint(1, 6)):
            length = drawn.choice([24, 26, 28, 29, 32])
            size = 1 << (32 - length)
            base = int(ipaddress.ip_address("10.1.0.0")) + drawn.randrange(0, 512, size)
            one = ipaddress.ip_network((base, length))
            if one in there:
                there.remove(one)
                site.put(removed=[identity(GroupBlock(OTHERS, one))])
            else:
                there.add(one)
                site.put(GroupBlock(OTHERS, one))
        site.apply()
        found = site.do(site.firewall.read)
        assert found is not None
        assert not diff(site.composer.image(), found)
        for source in (a, c):
            packet = Packet(source.addresses[0], b.addresses[0], TCP, 80)
            denied = any(packet.source in one for one in there)
            assert site.composer.judge().denies(packet) is denied
        expected = [not any(one.addresses[0] in block for block in there) for one in (a, c)]
        probes = [(one, b, TCP, 80, 4, (8, 0), None) for one in (a, c)]
        assert site.arrive(probes) == expected  # type: ignore[arg-type]


def test_the_judge_says_the_same() -> None:
    rule = denying(KNOWN)
    members = {OTHERS: {"10.0.0.1", "10.0.0.2"}, KNOWN: {"10.0.0.2"}}

    def verdict(source: str) -> Action:
        packet = Packet(ipaddress.ip_address(source), ipaddress.ip_address("10.0.0.9"), TCP, 80)
        sets = [rules("labels", rule, tier=Tier.BASELINE)]
        return judge(sets, packet, lambda group, one: str(one) in members[group]).action

    assert [verdict(f"10.0.0.{last}") for last in (1, 2, 3)] == [
        Action.DENY,
        Action.ALLOW,
        Action.ALLOW,
    ]
