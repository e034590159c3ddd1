"""Rules of any kind and packets of any kind: the kernel and `judge` agree."""

from __future__ import annotations

import ipaddress

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.model.judging import judge
from services.common.model.network import Address
from services.common.model.rules import (
    Action,
    CidrBlock,
    CompiledRule,
    Direction,
    GroupId,
    Mode,
    Packet,
    PolicyName,
    PortMatch,
    Protocol,
    RuleSet,
    RuleSetId,
    Tier,
)
from tests.kernel.policy.site import Site, addresses, pages

GROUPS = ("g1", "g2")
FAMILIES = {Protocol.ICMP: 4, Protocol.ICMPV6: 6}
PORTS = (1, 52, 53, 54, 60, 65535)
ICMP_4, ICMP_6 = ((8, 0), (13, 0), (3, 1)), ((128, 0), (1, 1))
"""Types that endpoints may send to each other; not those that conntrack takes for answers."""

_blocks = st.sampled_from(
    [
        CidrBlock(ipaddress.ip_network("10.1.0.0/24")),
        CidrBlock(ipaddress.ip_network("10.1.0.0/30"), (ipaddress.ip_network("10.1.0.1/32"),)),
        CidrBlock(
            ipaddress.ip_network("0.0.0.0/0"),
            (ipaddress.ip_network("10.1.0.2/31"), ipaddress.ip_network("10.1.0.200/32")),
        ),
        CidrBlock(ipaddress.ip_network("10.1.0.200/32")),
        CidrBlock(ipaddress.ip_network("fd00:1::/64"), (ipaddress.ip_network("fd00:1::2/127"),)),
        CidrBlock(ipaddress.ip_network("::/0")),
    ]
)


@st.composite
def _ports(draw: st.DrawFn) -> PortMatch:
    protocol = draw(st.sampled_from([None, *Protocol]))
    if protocol is None:
        return PortMatch()
    if protocol.has_ports:
        first = draw(st.sampled_from((0, *PORTS)))
        last = draw(st.sampled_from([port for port in PORTS if port >= first])) if first else 0
        return PortMatch(protocol, first, last)
    kind, code = draw(st.sampled_from(ICMP_4 if protocol is Protocol.ICMP else ICMP_6))
    with_kind = draw(st.booleans())
    return PortMatch(
        protocol,
        icmp_type=kind if with_kind else None,
        icmp_code=code if with_kind and draw(st.booleans()) else None,
    )


@st.composite
def _rule(draw: st.DrawFn, tier: Tier, number: int) -> CompiledRule:
    actions = {
        Tier.ADMIN: list(Action),
        Tier.TENANT: [Action.ALLOW],
        Tier.BASELINE: [Action.ALLOW, Action.DENY],
    }
    any_peer = draw(st.integers(0, 2)) == 0
    return CompiledRule(
        number,
        draw(st.sampled_from(actions[tier])),
        any_peer=any_peer,
        groups=()
        if any_peer
        else tuple(
            draw(st.lists(st.sampled_from(GROUPS), max_size=2, unique=True)),
        ),  # type: ignore[arg-type]
        blocks=() if any_peer else tuple(draw(st.lists(_blocks, max_size=2))),
        ports=tuple(draw(st.lists(_ports(), max_size=3))),
    )


@st.composite
def _rule_set(draw: st.DrawFn, direction: Direction, number: int) -> RuleSet:
    tier = draw(st.sampled_from(Tier))
    name = f"{direction}-{number}"
    return RuleSet(
        RuleSetId(name),
        PolicyName(name),
        direction,
        tier,
        draw(st.integers(0, 2)) if tier is not Tier.TENANT else 0,
        draw(st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE, Mode.AUDIT])),
        tuple(draw(_rule(tier, index)) for index in range(draw(st.integers(0, 3)))),
    )


@st.composite
def _sets(draw: st.DrawFn) -> list[RuleSet]:
    return [
        draw(_rule_set(direction, number))
        for direction in Direction
        for number in range(draw(st.integers(0, 4)))
    ]


_members = st.fixed_dictionaries(
    {group: st.sets(st.sampled_from([1, 2, 3, 200])) for group in GROUPS}
)
_packets = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from(Protocol),
        st.sampled_from(PORTS),
        st.sampled_from([4, 6]),
        st.integers(0, 2),
    ),
    min_size=20,
    max_size=30,
)


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=_sets(), second=_sets(), members=_members, packets=_packets)
def test_the_kernel_agrees_with_the_judge(
    site: Site,
    first: list[RuleSet],
    second: list[RuleSet],
    members: dict[str, set[int]],
    packets: list[tuple[int, int, Protocol, int, int, int]],
) -> None:
    a, b, c = site.hosts
    groups: dict[str, set[Address]] = {
        group: {address for number in numbers for address in addresses(number)}
        for group, numbers in members.items()
    }
    # another example's rules and groups are still there: from any state to any other
    site.put(removed=[name for name in site.composer._resources if name.startswith("page/")])
    for group, found in groups.items():
        site.put(*pages(group, found))
    renamed = [_renamed(one, "2") for one in second]
    site.give(a, *first)
    site.give(b, *renamed)
    site.apply()
    sets = {a.name: first, b.name: renamed, c.name: []}
    hosts = [a, b, c, site.outside]
    probes, expected = [], []
    for sender, receiver, protocol, port, drawn, icmp in packets:
        if sender == receiver:
            continue
        source, target = hosts[sender], hosts[receiver]
        kinds = ICMP_4 if protocol is Protocol.ICMP else ICMP_6
        kind = kinds[icmp % len(kinds)]
        version = FAMILIES.get(protocol, drawn)
        if not protocol.has_ports and kind[0] not in {8, 13, 128}:
            continue  # conntrack takes errors as belonging to something, or to nothing
        probes.append((source, target, protocol, port, version, kind, None))
        packet = Packet(
            source.address(version),
            target.address(version),
            protocol,
            port if protocol.has_ports else 0,
            *(kind if not protocol.has_ports else (0, 0)),
        )

        def is_member(group: GroupId, address: Address) -> bool:
            return address in groups[group]

        allowed = all(
            judge(
                [one for one in sets.get(host.name, []) if one.direction is direction],
                packet,
                is_member,
            ).action
            is Action.ALLOW
            for host, direction in ((source, Direction.EGRESS), (target, Direction.INGRESS))
        )
        expected.append(allowed)
    if probes:
        assert site.arrive(probes) == expected


def _renamed(one: RuleSet, suffix: str) -> RuleSet:
    return RuleSet(
        RuleSetId(one.id + suffix),
        PolicyName(one.policy + suffix),
        one.direction,
        one.tier,
        one.priority,
        one.mode,
        one.rules,
    )
