from ipaddress import ip_address, ip_network

import pytest

from services.common.model.layout import Group, Layout, Topology
from services.common.model.names import GroupPath, NetworkName, NodeName, Tenant, TopologyName
from services.common.model.network import Mode, Network, Placement
from services.common.model.node import Attachment, Node
from services.common.records.errors import RecordError
from services.common.records.layout import decode_layout, decode_node, encode_layout, encode_node

BLUE = NetworkName("blue")

LAYOUT = Layout(
    networks=(
        Network(
            BLUE,
            ip_network("fd00:1::/64"),
            120,
            tenants=(Tenant("t"),),
            vlan_id=20,
            gateway=ip_address("fd00:1::1"),
            mtu=1500,
            mode=Mode.ONLINK,
            placement=Placement.SEQUENTIAL,
            reuse_delay=0.5,
        ),
        Network(NetworkName("red"), ip_network("10.0.0.0/8"), 29),
    ),
    topologies=(
        Topology(
            TopologyName("dc"),
            (BLUE,),
            groups=(
                Group(
                    GroupPath("dc/zone"),
                    "zone",
                    assignment={"zone": "a"},
                    routing="ospf",
                    weight=2,
                    slot=2,
                    slots=4,
                    prefixes={BLUE: ip_network("fd00:1::/65")},
                    groups=(
                        Group(
                            GroupPath("dc/zone/rack"),
                            "rack",
                            pinned_prefixes={BLUE: ip_network("fd00:1::/66")},
                            prefixes={BLUE: ip_network("fd00:1::/66")},
                        ),
                    ),
                ),
            ),
            slots=4,
        ),
    ),
)

NODE = Node(
    NodeName("n1"),
    ip_address("192.0.2.1"),
    labels={"zone": "a"},
    attachments=(Attachment(BLUE, "eth0.20", ip_address("fd00:1::9"), 20, "eth0"),),
    pins={TopologyName("dc"): GroupPath("dc/zone/rack")},
    placements={TopologyName("dc"): GroupPath("dc/zone/rack")},
    create_time=1_700_000_000,
)


def test_layout_reads_back_as_written() -> None:
    assert decode_layout(encode_layout(LAYOUT)) == LAYOUT


def test_empty_layout_reads_back_as_written() -> None:
    assert decode_layout(encode_layout(Layout())) == Layout()


@pytest.mark.parametrize(
    "node", [NODE, Node(NodeName("bare")), Node(NodeName("nowhere"), attachments=())]
)
def test_node_reads_back_as_written(node: Node) -> None:
    assert decode_node(encode_node(node)) == node


def test_on_every_network_and_on_none_are_two_states() -> None:
    everywhere, nowhere = Node(NodeName("n")), Node(NodeName("n"), attachments=())
    assert b"attachments" not in encode_node(everywhere)  # as it always was
    assert decode_node(b'{"name":"n"}') == everywhere
    assert decode_node(encode_node(nowhere)) == nowhere
    assert everywhere.is_attached(BLUE)
    assert not nowhere.is_attached(BLUE)


def test_unknown_fields_are_ignored() -> None:
    assert decode_node(b'{"name":"n","colour":"blue"}') == Node(NodeName("n"))
    assert decode_layout(b'{"colour":"blue"}') == Layout()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"networks":[{"name":"x","cidr":"10.0.0.1/8","block_length":29}]}',
    ],
)
def test_bad_layout_is_a_record_error(document: bytes) -> None:
    with pytest.raises(RecordError, match="not a layout"):
        decode_layout(document)


@pytest.mark.parametrize(
    "document",
    [b"", b"{}", b'{"name":1}', b'{"name":"n","address":"10.0.0"}', b'{"name":"\xff"}'],
)
def test_bad_node_is_a_record_error(document: bytes) -> None:
    with pytest.raises(RecordError, match="not a node"):
        decode_node(document)
