"""Strategies for policies and what they are about: few names, so that much of it meets."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import strategies as st

from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Address, Isolation
from services.common.model.rules import (
    Action,
    CidrBlock,
    Direction,
    Mode,
    Packet,
    PolicyName,
    PortMatch,
    Protocol,
    Tier,
)
from services.policy.engine.blocks import OwnedBlock
from services.policy.model import (
    Anything,
    Endpoint,
    EndpointSelector,
    LabelSelector,
    NamedPort,
    NetworkPeer,
    NodeSelector,
    Operator,
    Peer,
    Policy,
    PolicyNetwork,
    PolicyNode,
    Requirement,
    Rule,
    TenantRecord,
)

TENANTS = [Tenant(name) for name in ("t1", "t2", "t3")]
SEGMENTS = [Segment(name) for name in ("", "s1", "s2")]
NETWORKS = [NetworkName(name) for name in ("n1", "n2", "n6")]
NODES = [NodeName(name) for name in ("h1", "h2", "h3")]
ENDPOINTS = [EndpointName(f"e{number}") for number in range(6)]
POLICIES = [PolicyName(f"p{number}") for number in range(6)]
ADDRESSES: list[Address] = [
    ip_address(text)
    for text in (
        *("10.0.0.1", "10.0.0.62", "10.0.0.63", "10.0.0.64", "10.0.0.200", "10.1.0.1"),
        *("10.1.0.2", "10.9.0.1", "fd00::1", "fd00::40", "fd00::a00:1", "fd01::1"),
    )
]
"""Of endpoints: on networks and beside, at both sides of the border of a page."""
NODE_ADDRESSES: list[Address] = [
    ip_address(text) for text in ("192.0.2.1", "192.0.2.2", "10.0.0.250", "fd00::fe", "10.0.0.1")
]
OUTSIDE: list[Address] = [ip_address("198.51.100.7"), ip_address("2001:db8::7")]
CIDRS = [
    ip_network(text)
    for text in ("10.0.0.0/26", "10.0.0.64/26", "10.0.0.0/24", "10.1.0.0/24", "fd00::/64")
]
BLOCKS = [
    CidrBlock(ip_network("0.0.0.0/0")),
    CidrBlock(ip_network("::/0")),
    CidrBlock(ip_network("10.0.0.0/24"), (ip_network("10.0.0.64/26"), ip_network("10.0.0.1/32"))),
    CidrBlock(ip_network("10.0.0.0/8"), (ip_network("10.0.0.0/24"),)),
    CidrBlock(ip_network("fd00::/16"), (ip_network("fd00::/122"),)),
    CidrBlock(ip_network("198.51.100.0/24")),
]

_KEYS, _VALUES = ["a", "b"], ["x", "y", "z"]
_NAMES = ["http", "dns"]
_PORTS = [80, 81, 443]
_WITH_PORTS = [Protocol.TCP, Protocol.UDP, Protocol.SCTP]

labels = st.dictionaries(st.sampled_from(_KEYS), st.sampled_from(_VALUES), max_size=2)


def some(of: list[str], most: int = 2) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(of), max_size=most).map(tuple)


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    operator = draw(st.sampled_from(list(Operator)))
    values: tuple[str, ...] = ()
    if operator in (Operator.IN, Operator.NOT_IN):
        values = tuple(draw(st.lists(st.sampled_from(_VALUES), min_size=1, max_size=3)))
    return Requirement(draw(st.sampled_from(_KEYS)), operator, values)


label_selectors = st.lists(requirements(), max_size=3).map(
    lambda found: LabelSelector(tuple(found))
)
few_labels = st.one_of(st.just(LabelSelector()), st.just(LabelSelector()), label_selectors)
endpoint_selectors = st.builds(
    EndpointSelector,
    some(TENANTS),  # type: ignore[arg-type]
    st.one_of(st.just(()), some(SEGMENTS)),  # type: ignore[arg-type]
    st.one_of(st.just(()), some(NETWORKS)),  # type: ignore[arg-type]
    few_labels,
    few_labels,
)
node_selectors = st.builds(NodeSelector, some(NODES), few_labels)  # type: ignore[arg-type]
peers: st.SearchStrategy[Peer] = st.one_of(
    endpoint_selectors,
    endpoint_selectors,
    st.sampled_from(BLOCKS),
    node_selectors,
    st.sampled_from(NETWORKS).map(NetworkPeer),
    st.just(Anything()),
)
port_matches = st.one_of(
    st.just(PortMatch()),
    st.sampled_from(list(Protocol)).map(PortMatch),
    st.builds(
        lambda protocol, first, more: PortMatch(protocol, first, first + more),
        st.sampled_from(_WITH_PORTS),
        st.sampled_from(_PORTS),
        st.integers(0, 1),
    ),
    st.builds(
        lambda protocol, name: PortMatch(protocol, name=name),
        st.sampled_from(_WITH_PORTS[:2]),
        st.sampled_from(_NAMES),
    ),
    st.builds(
        lambda protocol, kind, code: PortMatch(protocol, icmp_type=kind, icmp_code=code),
        st.sampled_from([Protocol.ICMP, Protocol.ICMPV6]),
        st.integers(0, 1),
        st.one_of(st.none(), st.integers(0, 1)),
    ),
)
_ACTIONS = {
    Tier.ADMIN: [Action.ALLOW, Action.DENY, Action.PASS],
    Tier.TENANT: [Action.ALLOW],
    Tier.BASELINE: [Action.ALLOW, Action.DENY],
}


@st.composite
def policies(draw: st.DrawFn, names: list[PolicyName] = POLICIES) -> Policy:
    tier = draw(st.sampled_from(list(Tier)))
    targets = endpoint_selectors if tier is Tier.TENANT else endpoint_selectors | node_selectors
    rules = st.lists(
        st.builds(
            Rule,
            st.sampled_from(_ACTIONS[tier]),
            st.lists(peers, min_size=1, max_size=2).map(tuple),
            st.lists(port_matches, min_size=1, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple)
    return Policy(
        draw(st.sampled_from(names)),
        tier,
        tuple(draw(st.lists(targets, min_size=1, max_size=2))),
        draw(st.dictionaries(st.sampled_from(list(Direction)), rules, min_size=1)),
        0 if tier is Tier.TENANT else draw(st.integers(0, 1)),
        draw(st.sampled_from([Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE, Mode.AUDIT])),
    )


tenants = st.builds(
    TenantRecord,
    st.sampled_from(TENANTS),
    labels,
    st.sampled_from([None, None, None, *Isolation]),
)
endpoints = st.builds(
    Endpoint,
    st.sampled_from(ENDPOINTS),
    st.sampled_from(TENANTS),
    st.sampled_from(SEGMENTS),
    labels,
    st.lists(
        st.builds(
            NamedPort,
            st.sampled_from(_NAMES),
            st.sampled_from(_WITH_PORTS[:2]),
            st.sampled_from(_PORTS[:2]),
        ),
        max_size=2,
    ).map(tuple),
    st.sampled_from([*NODES, *NODES, None]),
    st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True).map(tuple),
)
nodes = st.builds(
    PolicyNode,
    st.sampled_from(NODES),
    labels,
    st.lists(st.sampled_from(NODE_ADDRESSES), max_size=2, unique=True).map(tuple),
)


@st.composite
def networks(draw: st.DrawFn) -> dict[NetworkName, PolicyNetwork]:
    """Networks that do not overlap."""
    found: dict[NetworkName, PolicyNetwork] = {}
    for name in draw(st.lists(st.sampled_from(NETWORKS), unique=True)):
        cidr = draw(st.sampled_from(CIDRS))
        if not any(cidr.overlaps(other.cidr) for other in found.values()):
            isolation = draw(st.sampled_from([Isolation.NONE, *Isolation]))
            found[name] = PolicyNetwork(name, cidr, isolation)
    return found


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    """Of one family."""
    version = draw(st.sampled_from([4, 4, 6]))
    those = [one for one in [*ADDRESSES, *NODE_ADDRESSES, *OUTSIDE] if one.version == version]
    source, destination = draw(st.sampled_from(those)), draw(st.sampled_from(those))
    icmp = Protocol.ICMP if version == 4 else Protocol.ICMPV6
    protocol = draw(st.sampled_from([*_WITH_PORTS, icmp, 47]))
    if protocol is icmp:
        kind, code = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        return Packet(source, destination, protocol, 0, kind, code)
    port = 0 if protocol == 47 else draw(st.sampled_from([*_PORTS, 82, 9]))
    return Packet(source, destination, protocol, port)


OWNED = [
    ip_network(text)
    for text in ("10.0.0.0/26", "10.0.0.64/29", "10.0.0.200/30", "10.1.0.0/31", "fd00::/120")
]
"""Apart from each other, as ipam's blocks are."""
owned_blocks = st.builds(
    OwnedBlock,
    st.sampled_from(OWNED),
    st.sampled_from(NETWORKS),
    st.sampled_from(TENANTS),
    st.sampled_from(SEGMENTS),
)
_denials = st.builds(
    Rule,
    st.just(Action.DENY),
    st.lists(endpoint_selectors, min_size=1, max_size=2).map(tuple),
    st.lists(port_matches, min_size=1, max_size=2).map(tuple),
)
denying_policies = st.builds(
    Policy,
    st.just(POLICIES[0]),
    st.sampled_from([Tier.ADMIN, Tier.BASELINE]),
    st.just((EndpointSelector(),)),
    st.fixed_dictionaries(
        {one: st.lists(_denials, min_size=1, max_size=2).map(tuple) for one in Direction}
    ),
)
"""On every endpoint, against endpoints that are selected."""
