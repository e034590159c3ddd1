"""Whatever a model says, its document, its record and its message say too."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_network

import msgspec
import yaml
from hypothesis import given
from hypothesis import strategies as st
from romana.topology.v1 import network_pb2, node_pb2

from services.common.document.fields import Fields, Findings
from services.common.document.models import read
from services.common.document.tree import Tree, from_json, read_json, read_yaml
from services.common.model.description import DERIVED, OUTPUT_ONLY, output_only
from services.common.model.names import GroupPath, NetworkName, NodeName, Tenant, TopologyName
from services.common.model.network import Dns, Isolation, Mode, Network, Placement, Prefix
from services.common.model.node import Attachment, Node, NodeAllowance
from services.common.records.models import from_plain, to_plain
from services.common.rpc.models import to_message, to_tree

texts = st.text("abz09.-é#: ", max_size=8)
words = st.text("abz09-", min_size=1, max_size=8).filter(lambda text: text not in {"null", "~"})
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda address: isinstance(address, IPv4Address) or address.ipv4_mapped is None
)
maps = st.dictionaries(words, words, max_size=3)


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    address = draw(addresses)
    return ip_network((address, draw(st.integers(0, address.max_prefixlen))), strict=False)


networks = st.builds(
    Network,
    words.map(NetworkName),
    prefixes().filter(lambda prefix: prefix.version == 4 or prefix.network_address.packed[0] > 0),
    st.integers(0, 128),
    tenants=st.lists(words.map(Tenant), max_size=3).map(tuple),
    vlan_id=st.integers(0, 4094),
    gateway=st.none() | addresses,
    mtu=st.integers(0, 65535),
    mode=st.sampled_from(Mode),
    placement=st.sampled_from(Placement),
    reuse_delay=st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000),
    isolation=st.sampled_from(Isolation),
    masquerade=st.booleans(),
    dns=st.none()
    | st.builds(
        Dns, st.lists(addresses, min_size=1).map(tuple), st.lists(words, max_size=3).map(tuple)
    ),
)
attachments = st.builds(
    Attachment,
    words.map(NetworkName),
    words,
    st.none() | addresses,
    st.integers(0, 4094),
    words,
)
nodes = st.builds(
    Node,
    words.map(NodeName),
    st.none() | addresses,
    labels=maps,
    attachments=st.none() | st.lists(attachments, max_size=3).map(tuple),
    pins=st.dictionaries(words.map(TopologyName), words.map(GroupPath), max_size=3),
    placements=st.dictionaries(words.map(TopologyName), words.map(GroupPath), max_size=3),
    create_time=st.integers(0, 2**37),
    allowance=st.builds(
        NodeAllowance,
        st.lists(words, max_size=3).map(tuple),
        st.lists(words.map(Tenant), max_size=3).map(tuple),
        st.integers(0, 10**15),
    ),
    self_reported=st.lists(words, max_size=3).map(tuple),
)


def read_whole(kind: type, tree: Tree, *ignored: str) -> object:
    findings = Findings()
    fields = Fields(tree, "", findings)
    fields.ignore(*ignored)
    made = read(kind, fields)
    assert not findings.problems
    return made


def asked_for(node: Node) -> Node:
    """Without what only Romana says."""
    bare = Node(node.name)
    return replace(node, **{name: getattr(bare, name) for name in output_only(Node)})


@given(networks | nodes)
def test_a_record_reads_back_as_written(model: Network | Node) -> None:
    written = msgspec.json.encode(to_plain(model))
    assert from_plain(type(model), msgspec.json.decode(written)) == model


@given(networks)
def test_a_network_of_a_document_is_what_was_written(network: Network) -> None:
    plain = to_plain(network, seconds=lambda seconds: f"{seconds:.3f}s")
    for tree in (from_json(plain), read_json(json.dumps(plain)), read_yaml(yaml.safe_dump(plain))):  # type: ignore[arg-type]
        assert read_whole(Network, tree) == network


@given(networks)
def test_a_network_reads_back_of_its_message(network: Network) -> None:
    message = to_message(network_pb2.Network, network, topology="dc")
    assert message.topology == "dc"
    copy = network_pb2.Network.FromString(message.SerializeToString())
    assert read_whole(Network, to_tree(copy), "topology") == network


@given(nodes)
def test_a_node_reads_back_of_its_message(node: Node) -> None:
    message = to_message(node_pb2.Node, node, placements=())
    made = read_whole(Node, to_tree(message))
    # a message cannot say that there are no attachments: `empty_attachments` does
    assert made == replace(asked_for(node), attachments=node.attachments or None)


@given(nodes)
def test_a_node_of_a_document_is_what_was_written(node: Node) -> None:
    plain = to_plain(node, without=output_only(Node))
    made = read_whole(Node, from_json(plain))  # type: ignore[arg-type]
    assert made == asked_for(node)


@dataclass(frozen=True, slots=True)
class Part:
    size: int = 0
    source: IPv4Address | IPv6Address | None = None


@dataclass(frozen=True, slots=True)
class Whole:
    """What the models of today do not have all of."""

    name: str
    parts: tuple[Part, ...] = ()
    by_name: tuple[IPv4Address | IPv6Address, ...] = ()
    part: Part = Part(size=3)
    slot: int | None = None
    choice: Part | None = None
    seen: int = field(default=0, metadata=OUTPUT_ONLY)
    path: str = field(default="", metadata=DERIVED)


parts = st.builds(Part, st.integers(0, 9), st.none() | addresses)


@given(
    st.builds(
        Whole,
        words,
        st.lists(parts, max_size=3).map(tuple),
        st.lists(addresses, max_size=3).map(tuple),
        parts,
        st.none() | st.integers(0, 9),
        st.none() | parts,
        st.integers(0, 9),
    )
)
def test_parts_lists_and_options_read_back(whole: Whole) -> None:
    assert from_plain(Whole, to_plain(whole)) == whole
    plain = to_plain(whole, without={"seen"})
    made = read_whole(Whole, from_json(plain))  # type: ignore[arg-type]
    assert made == replace(whole, seen=0)
