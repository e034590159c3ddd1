"""What rules say, against what the kernel does with packets."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from services.agent.kernel.nftables import table_names
from services.agent.rules.compose import LocalInterface
from services.common.model.rules import (
    Action,
    CidrBlock,
    CompiledRule,
    Direction,
    EndpointRules,
    GroupId,
    Mode,
    PolicyName,
    PortMatch,
    Profile,
    Protocol,
    RuleSet,
    Tier,
)
from tests.kernel.policy.rules import allow, rules
from tests.kernel.policy.site import Site, pages

TCP, UDP, SCTP, ICMP, ICMPV6 = (
    Protocol.TCP,
    Protocol.UDP,
    Protocol.SCTP,
    Protocol.ICMP,
    Protocol.ICMPV6,
)


@pytest.mark.parametrize("version", [4, 6])
def test_without_rules_endpoints_reach_each_other(site: Site, version: int) -> None:
    a, b, _ = site.hosts
    for protocol in (TCP, UDP, SCTP):
        assert site.arrives(a, b, protocol, 80, version=version)


@pytest.mark.parametrize("version", [4, 6])
def test_an_empty_tenant_policy_denies(site: Site, version: int) -> None:
    a, b, c = site.hosts
    site.give(b, rules("none"))
    site.apply()
    assert not site.arrives(a, b, TCP, 80, version=version)
    assert not site.arrives(site.outside, b, UDP, 80, version=version)
    assert site.arrives(b, a, TCP, 80, version=version)
    assert site.arrives(a, c, TCP, 80, version=version)


def test_the_node_reaches_its_endpoints_whatever_their_rules(site: Site) -> None:
    b = site.hosts[1]
    site.give(b, rules("none"))
    site.apply()
    assert site.node.pings(str(b.addresses[0]))
    assert site.node.pings(str(b.addresses[1]))


@pytest.mark.parametrize("protocol", [TCP, UDP, SCTP])
def test_ports_and_ranges(site: Site, protocol: Protocol) -> None:
    a, b, _ = site.hosts
    entry = allow(PortMatch(protocol, 80, 80), PortMatch(protocol, 8000, 8010))
    site.give(b, rules("ports", entry))
    site.apply()
    found = {
        port: site.arrives(a, b, protocol, port) for port in (79, 80, 81, 7999, 8000, 8010, 8011)
    }
    assert found == {
        79: False, 80: True, 81: False, 7999: False, 8000: True, 8010: True, 8011: False
    }  # fmt: skip


def test_one_range_without_a_set(site: Site) -> None:
    a, b, _ = site.hosts
    site.give(b, rules("range", allow(PortMatch(UDP, 100, 200))))
    site.apply()
    found = [site.arrives(a, b, UDP, port) for port in (99, 100, 200, 201)]
    assert found == [False, True, True, False]


def test_another_protocol_on_the_same_port_is_not_meant(site: Site) -> None:
    a, b, _ = site.hosts
    site.give(b, rules("tcp", allow(PortMatch(TCP, 80, 80))))
    site.apply()
    assert not site.arrives(a, b, UDP, 80)
    assert not site.arrives(a, b, SCTP, 80)


def test_icmp_types(site: Site) -> None:
    a, b, _ = site.hosts
    entry = allow(PortMatch(ICMP, icmp_type=8, icmp_code=0), PortMatch(ICMPV6, icmp_type=128))
    site.give(b, rules("ping", entry))
    site.apply()
    assert site.arrives(a, b, ICMP, icmp=(8, 0))
    assert not site.arrives(a, b, ICMP, icmp=(13, 0))
    assert site.arrives(a, b, ICMPV6, version=6, icmp=(128, 0))
    assert not site.arrives(a, b, TCP, 80)


@pytest.mark.parametrize("version", [4, 6])
def test_groups(site: Site, version: int) -> None:
    a, b, c = site.hosts
    site.put(*pages("friends", a.addresses))
    site.give(b, rules("friends", allow(groups=(GroupId("friends"),))))
    site.apply()
    assert site.arrives(a, b, TCP, 80, version=version)
    assert not site.arrives(c, b, TCP, 80, version=version)
    site.put(*pages("friends", c.addresses))
    site.apply()
    assert not site.arrives(a, b, TCP, 80, version=version)
    assert site.arrives(c, b, TCP, 80, version=version)


def test_blocks_and_exceptions(site: Site) -> None:
    a, b, c = site.hosts
    block = CidrBlock(ipaddress.ip_network("10.1.0.0/24"), (ipaddress.ip_network("10.1.0.3/32"),))
    site.give(b, rules("block", allow(blocks=(block,))))
    site.apply()
    assert site.arrives(a, b, TCP, 80)
    assert site.arrives(site.outside, b, TCP, 80)
    assert not site.arrives(c, b, TCP, 80)
    assert not site.arrives(a, b, TCP, 80, version=6)


def test_a_block_of_everything_is_of_its_family(site: Site) -> None:
    a, b, _ = site.hosts
    site.give(b, rules("four", allow(blocks=(CidrBlock(ipaddress.ip_network("0.0.0.0/0")),))))
    site.apply()
    assert site.arrives(a, b, TCP, 80)
    assert not site.arrives(a, b, TCP, 80, version=6)


def test_egress_denies_what_ingress_allows(site: Site) -> None:
    a, b, c = site.hosts
    entry = CompiledRule(
        0,
        Action.ALLOW,
        blocks=(CidrBlock(ipaddress.ip_network(f"{b.addresses[0]}/32")),),
        ports=(PortMatch(UDP, 53, 53),),
    )
    site.give(a, rules("out", entry, direction=Direction.EGRESS))
    site.apply()
    assert site.arrives(a, b, UDP, 53)
    assert not site.arrives(a, b, UDP, 54)
    assert not site.arrives(a, c, UDP, 53)
    assert not site.arrives(a, site.outside, UDP, 53)
    assert site.arrives(c, a, UDP, 53)


def test_egress_and_ingress_both_have_to_allow(site: Site) -> None:
    a, b, _ = site.hosts
    out = rules("out", allow(PortMatch(TCP, 80, 80)), direction=Direction.EGRESS)
    into = rules("in", allow(PortMatch(TCP, 80, 81)))
    site.give(a, out)
    site.give(b, into)
    site.apply()
    assert site.arrives(a, b, TCP, 80)
    assert not site.arrives(a, b, TCP, 81)


def test_egress_counts_for_the_node_itself(site: Site) -> None:
    a = site.hosts[0]
    assert a.home.pings("192.0.2.1")
    site.give(a, rules("out", direction=Direction.EGRESS))
    site.apply()
    assert not a.home.pings("192.0.2.1", tries=1)


def admin(name: str, action: Action, priority: int, **rest: object) -> RuleSet:
    any_peer = not rest.get("groups")
    entry = CompiledRule(0, action, any_peer=any_peer, **rest)  # type: ignore[arg-type]
    return rules(name, entry, tier=Tier.ADMIN, priority=priority)


def test_admin_goes_before_tenant(site: Site) -> None:
    a, b, _ = site.hosts
    site.give(b, admin("deny", Action.DENY, 5), rules("all", allow()))
    site.apply()
    assert not site.arrives(a, b, TCP, 80)
    site.give(b, admin("allow", Action.ALLOW, 5), rules("none"))
    site.apply()
    assert site.arrives(a, b, TCP, 80)


def test_admin_by_priority(site: Site) -> None:
    a, b, c = site.hosts
    site.put(*pages("a", a.addresses))
    site.give(
        b,
        admin("first", Action.ALLOW, 1, groups=(GroupId("a"),)),
        admin("second", Action.DENY, 2),
    )
    site.apply()
    assert site.arrives(a, b, TCP, 80)
    assert not site.arrives(c, b, TCP, 80)


def test_pass_leaves_it_to_tenant_policies(site: Site) -> None:
    a, b, c = site.hosts
    site.put(*pages("a", a.addresses))
    site.give(
        b,
        admin("pass", Action.PASS, 1, groups=(GroupId("a"),)),
        admin("deny", Action.DENY, 2),
        rules("web", allow(PortMatch(TCP, 80, 80))),
    )
    site.apply()
    assert site.arrives(a, b, TCP, 80)
    assert not site.arrives(a, b, TCP, 81)
    assert not site.arrives(c, b, TCP, 80)


def test_baseline_is_not_asked_where_a_tenant_policy_is(site: Site) -> None:
    a, b, c = site.hosts
    deny = rules("base", CompiledRule(0, Action.DENY, any_peer=True), tier=Tier.BASELINE)
    site.give(b, deny, rules("all", allow()))
    site.give(c, deny)
    site.apply()
    assert site.arrives(a, b, TCP, 80)
    assert not site.arrives(a, c, TCP, 80)


@pytest.mark.parametrize("tier", list(Tier))
def test_an_audited_policy_counts_and_decides_nothing(site: Site, tier: Tier) -> None:
    a, b, _ = site.hosts
    entry = CompiledRule(3, Action.ALLOW if tier is Tier.TENANT else Action.DENY, any_peer=True)
    site.give(b, rules("audit", entry, tier=tier, mode=Mode.AUDIT))
    site.apply()
    name = table_names.counter(PolicyName("audit"), Direction.INGRESS, "3")
    before = site.counter(name)
    assert site.arrives(a, b, TCP, 80)
    assert site.counter(name) == before + 1


def test_an_audited_tenant_policy_counts_what_it_would_deny(site: Site) -> None:
    a, b, _ = site.hosts
    site.give(b, rules("audit", mode=Mode.AUDIT))
    site.apply()
    name = table_names.counter(PolicyName("audit"), Direction.INGRESS, "default")
    assert site.arrives(a, b, TCP, 80)
    assert site.counter(name) == 1


def test_counters_survive_a_change_of_their_policy(site: Site) -> None:
    a, b, _ = site.hosts
    site.give(b, rules("web", allow(PortMatch(TCP, 80, 80))))
    site.apply()
    name = table_names.counter(PolicyName("web"), Direction.INGRESS, "0")
    assert site.arrives(a, b, TCP, 80)
    site.give(b, rules("web", allow(PortMatch(TCP, 80, 90))))
    site.apply()
    assert site.arrives(a, b, TCP, 90)
    assert site.counter(name) == 2


@pytest.mark.parametrize("version", [4, 6])
def test_nobody_sends_from_an_address_that_is_not_his(site: Site, version: int) -> None:
    a, b, c = site.hosts
    before = site.counter(table_names.SPOOFED)
    claim = c.address(version)
    assert not site.arrives(a, b, UDP, 80, version=version, claim=claim)
    assert site.counter(table_names.SPOOFED) == before + 1
    assert site.arrives(a, b, UDP, 80, version=version)


def test_an_endpoint_without_rules_is_closed_both_ways(site: Site) -> None:
    a, b, _ = site.hosts
    site.put(removed=[f"endpoint/{b.name}"])
    site.apply()
    assert not site.arrives(a, b, TCP, 80)
    assert not site.arrives(b, a, TCP, 80)
    assert not b.home.pings("10.1.0.200", tries=1)
    site.give(b)
    site.apply()
    assert site.arrives(a, b, TCP, 80)


def test_an_endpoint_whose_rules_are_not_all_there_is_closed(site: Site) -> None:
    a, b, _ = site.hosts
    one = rules("one", allow())
    site.give(b, one)
    site.put(removed=[f"rules/{one.id}"])
    site.apply()
    assert not site.arrives(a, b, TCP, 80)


def test_rules_of_a_predecessor_do_not_open_its_successor(site: Site) -> None:
    """It has the name and the addresses, and was attached after what was said."""
    a, b, _ = site.hosts
    site.composer.put_local(b.name, replace(b.local, instance="second"))
    site.put(EndpointRules(b.name, b.addresses, Profile(), "first"))
    site.apply()
    assert not site.arrives(a, b, TCP, 80)
    assert not site.arrives(b, a, TCP, 80)
    site.put(EndpointRules(b.name, b.addresses, Profile(), "second"))
    site.apply()
    assert site.arrives(a, b, TCP, 80)


def test_one_whose_journal_was_lost_keeps_its_rules(site: Site) -> None:
    a, b, _ = site.hosts
    site.put(EndpointRules(b.name, b.addresses, Profile(), "first"))
    site.apply()
    assert site.arrives(a, b, TCP, 80)


def test_an_interface_that_is_about_to_be_one_is_closed(site: Site) -> None:
    a, b, _ = site.hosts
    site.composer.drop_local(b.name)
    site.composer.put_local(b.name, LocalInterface(b.interface))
    site.apply()
    assert not site.arrives(a, b, TCP, 80)
    assert not site.arrives(b, a, TCP, 80)


def test_what_operators_mark_is_let_through(site: Site) -> None:
    a, b, _ = site.hosts
    site.give(b, rules("none"))
    site.apply()
    site.node.run(
        "nft -f -",
        stdin="""
        table inet romana_operator {
            chain early {
                type filter hook forward priority -10; policy accept;
                tcp dport 7 meta mark set 0x524f4d41
                tcp dport 9 drop
            }
        }
        """,
    )
    try:
        assert site.arrives(a, b, TCP, 7)
        assert not site.arrives(a, b, TCP, 8)
        assert not site.arrives(a, site.hosts[2], TCP, 9)
    finally:
        site.node.run("nft delete table inet romana_operator")
