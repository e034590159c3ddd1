"""Documents of the store: everything comes back; what cannot be read is said to be so."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Isolation
from services.common.model.rules import (
    Action,
    CidrBlock,
    Direction,
    Mode,
    PolicyName,
    PortMatch,
    Protocol,
    Tier,
)
from services.common.records.errors import RecordError
from services.policy.model import (
    Anything,
    Endpoint,
    EndpointSelector,
    LabelSelector,
    NamedPort,
    NetworkPeer,
    NodeSelector,
    Operator,
    Origin,
    Policy,
    Requirement,
    Rule,
    TenantRecord,
)
from services.policy.store import codec
from services.policy.store.codec import Stored

LABELS = LabelSelector(
    (Requirement("app", Operator.IN, ("a", "b")), Requirement("old", Operator.DOES_NOT_EXIST))
)
SELECTOR = EndpointSelector((Tenant("t"),), (Segment("s"),), (NetworkName("net"),), LABELS, LABELS)
NODES = NodeSelector((NodeName("h1"),), LABELS)
POLICY = Policy(
    name=PolicyName("team/web"),
    tier=Tier.ADMIN,
    targets=(SELECTOR, NODES, EndpointSelector()),
    rules={
        Direction.INGRESS: (
            Rule(
                Action.PASS,
                (
                    SELECTOR,
                    NODES,
                    CidrBlock(ip_network("10.0.0.0/8"), (ip_network("10.1.0.0/16"),)),
                    CidrBlock(ip_network("2001:db8::/32")),
                    NetworkPeer(NetworkName("net")),
                    Anything(),
                ),
                (
                    PortMatch(Protocol.TCP, 80, 90),
                    PortMatch(Protocol.UDP, name="dns"),
                    PortMatch(Protocol.ICMP, icmp_type=0, icmp_code=0),
                    PortMatch(Protocol.ICMPV6),
                ),
            ),
            Rule(),
        ),
        Direction.EGRESS: (),
    },
    priority=7,
    mode=Mode.AUDIT,
    description="what web takes",
    labels={"team": "red"},
    origin=Origin("kubernetes", "{}"),
)
STORED = Stored(POLICY, 1_000, 2_000)


def test_a_policy_comes_back_as_it_was() -> None:
    assert codec.decode_policy(POLICY.name, codec.encode_policy(STORED)) == STORED


def test_defaults_are_left_out() -> None:
    plain = Policy(PolicyName("p"), Tier.TENANT, (EndpointSelector(),), {Direction.INGRESS: ()})
    assert codec.encode_policy(Stored(plain, 0, 0)) == (
        b'{"rules":{"ingress":[]},"targets":[{"endpoints":{}}]}'
    )


def test_a_tenant_comes_back_as_it_was() -> None:
    tenant = TenantRecord(Tenant("t"), {"a": "b"}, Isolation.SEGMENT)
    assert codec.decode_tenant(tenant.name, codec.encode_tenant(tenant)) == tenant


def test_an_endpoint_comes_back_with_the_node_of_its_key() -> None:
    endpoint = Endpoint(
        EndpointName("e"),
        Tenant("t"),
        Segment("s"),
        {"a": "b"},
        (NamedPort("http", Protocol.TCP, 80),),
        NodeName("h1"),
        (ip_address("10.0.0.1"), ip_address("2001:db8::1")),
    )
    document = codec.encode_endpoint(endpoint)
    assert codec.decode_endpoint(endpoint.name, document, NodeName("h1")) == endpoint


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b'{"targets":[],"rules":{"sideways":[]}}',
        b'{"targets":[{}],"rules":{}}',
        b'{"targets":[],"rules":{},"tier":"KING"}',
        b'{"targets":[],"rules":{"ingress":[{"peers":[{}]}]}}',
        b'{"targets":[],"rules":{"ingress":[{"peers":[{"block":{"cidr":"10.0.0.1/8"}}]}]}}',
        b'{"targets":[],"rules":{"ingress":[{"peers":[]}]}}',
        b"\xff",
    ],
)
def test_what_is_no_policy_is_said_to_be_none(document: bytes) -> None:
    with pytest.raises(RecordError, match="not a policy"):
        codec.decode_policy(PolicyName("p"), document)


def test_fields_of_a_later_version_are_ignored() -> None:
    document = b'{"targets":[],"rules":{},"colour":"red"}'
    assert codec.decode_policy(PolicyName("p"), document).policy.targets == ()
