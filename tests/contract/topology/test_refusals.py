"""Whatever is refused leaves the store exactly as it was, and says where the mistake is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
import pytest
from google.protobuf import text_format
from romana.topology.v1 import node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.errors import InvalidInput, RomanaError
from services.common.rpc.status import error_of
from tests.contract.topology.replicas import Replica

Dump = Callable[[], Awaitable[list[tuple[str, bytes, int]]]]

GOOD = """
networks { name: "a" cidr: "10.0.0.0/16" vlan_id: 20
  gateway: "10.0.0.1" mode: ATTACHMENT_MODE_ONLINK }
networks { name: "b" cidr: "10.1.0.0/16" }
topologies { name: "t" networks: "a" networks: "b"
  groups { name: "r1" assignment { key: "rack" value: "1" } }
  groups { name: "r2" assignment { key: "rack" value: "2" } } }
"""
IN_T = 'topologies { networks: "a" %s }'
A = 'networks { name: "a" cidr: "10.0.0.0/16" %s }'


def spec(text: str) -> api.ApplyTopologyRequest:
    return api.ApplyTopologyRequest(spec=text_format.Parse(text, topology_pb2.TopologySpec()))


def network(fields: str) -> api.ApplyTopologyRequest:
    return spec(f'networks {{ name: "a" {fields} }} {IN_T % ""}')


def groups(text: str, fields: str = "") -> api.ApplyTopologyRequest:
    return spec(f"{A % fields} {IN_T % text}")


def file(text: str) -> api.ApplyTopologyRequest:
    return api.ApplyTopologyRequest(document=topology_pb2.TopologyDocument(text=text))


async def error(call: Awaitable[object]) -> RomanaError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_of(caught.value)


BAD = {
    "host bits": (network('cidr: "10.0.0.1/16"'), "spec.networks[0].cidr"),
    "no cidr": (network(""), "spec.networks[0].cidr"),
    "overlap": (
        spec(
            f'{A % ""} networks {{ name: "b" cidr: "10.0.128.0/24" }}'
            'topologies { networks: "a" networks: "b" }'
        ),
        "spec.networks[1].cidr",
    ),
    "block longer than an address": (
        network('cidr: "10.0.0.0/16" block_length: 33'),
        "spec.networks[0].block_length",
    ),
    "block larger than the network": (
        network('cidr: "10.0.0.0/16" block_length: 15'),
        "spec.networks[0].block_length",
    ),
    "block larger than its group": (
        groups('groups { name: "x" } groups { name: "y" }', "block_length: 16"),
        "spec.topologies[0].groups",
    ),
    "block with too many addresses": (
        network('cidr: "fd00::/64" block_length: 100'),
        "spec.networks[0].block_length",
    ),
    "too many groups": (
        groups("".join(f'groups {{ name: "g{i}" }}' for i in range(5)), "block_length: 18"),
        "spec.topologies[0].groups",
    ),
    "unknown network": (
        spec(f'{A % ""} topologies {{ networks: "a" networks: "z" }}'),
        "spec.topologies[0].networks[1]",
    ),
    "network in two topologies": (
        spec(f'{A % ""} topologies {{ name: "t" networks: "a" }} topologies {{ networks: "a" }}'),
        "spec.topologies[1].networks[0]",
    ),
    "network in none": (spec(A % ""), "spec.networks[0].name"),
    "duplicate network": (
        spec(f'{A % ""} networks {{ name: "a" cidr: "10.9.0.0/16" }} {IN_T % ""}'),
        "spec.networks[1].name",
    ),
    "onlink gateway outside": (
        network('cidr: "10.0.0.0/16" mode: ATTACHMENT_MODE_ONLINK gateway: "10.1.0.1"'),
        "spec.networks[0].gateway",
    ),
    "IPv4 gateway on IPv6": (
        network('cidr: "fd00::/64" gateway: "10.0.0.1"'),
        "spec.networks[0].gateway",
    ),
    "VLAN 4095": (network('cidr: "10.0.0.0/16" vlan_id: 4095'), "spec.networks[0].vlan_id"),
    "IPv6 MTU": (network('cidr: "fd00::/64" mtu: 1279'), "spec.networks[0].mtu"),
    "empty name": (
        spec(f'networks {{ cidr: "10.9.0.0/16" }} {A % ""} {IN_T % ""}'),
        "spec.networks[0].name",
    ),
    "over-long name": (
        spec(f'{A % ""} topologies {{ name: "{"x" * 64}" networks: "a" }}'),
        "spec.topologies[0].name",
    ),
    "duplicate sibling": (
        groups('groups { name: "x" } groups { name: "x" }'),
        "spec.topologies[0].groups[1].name",
    ),
    "slash in a name": (groups('groups { name: "x/y" }'), "spec.topologies[0].groups[0].name"),
    "prefix outside": (
        groups('groups { name: "x" prefixes { key: "a" value: "10.1.0.0/24" } }'),
        "spec.topologies[0].groups[0].prefixes['a']",
    ),
    "slots": (groups('slots: 3 groups { name: "x" }'), "spec.topologies[0].slots"),
    "slot out of range": (
        groups('slots: 2 groups { name: "x" slot: 2 }'),
        "spec.topologies[0].groups[0].slot",
    ),
    "weight": (groups('groups { name: "x" weight: 70000 }'), "spec.topologies[0].groups[0].weight"),
    "contradicting assignment": (
        groups(
            'groups { name: "x" assignment { key: "k" value: "1" }'
            ' groups { name: "y" assignment { key: "k" value: "2" } } }'
        ),
        "spec.topologies[0].groups[0].groups[0].assignment['k']",
    ),
    "nothing": (spec(""), "spec.networks"),
    "no source": (api.ApplyTopologyRequest(), "spec"),
    "malformed": (file("networks:\n  - {name: a\n    b: c"), "document.text"),
    "unknown field": (
        file("networks: [{name: a, cidr: 10.0.0.0/8, color: x}]"),
        "networks[0].color",
    ),
    "known address": (
        groups('groups { name: "x" nodes { name: "other" address: "192.0.2.1" } }'),
        "spec.topologies[0].groups[0].nodes[0].address",
    ),
}


@pytest.fixture
async def filled(replica: Replica) -> Replica:
    await replica.stub.ApplyTopology(spec(GOOD))
    await replica.stub.RegisterNode(
        api.RegisterNodeRequest(
            node=node_pb2.Node(name="n1", address="192.0.2.1", labels={"rack": "1"})
        )
    )
    return replica


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_topology_is_refused_and_nothing_changes(
    name: str, filled: Replica, dump: Dump
) -> None:
    request, path = BAD[name]
    before, layout = await dump(), filled.store.cache.layout
    found = await error(filled.stub.ApplyTopology(request))
    assert isinstance(found, InvalidInput)
    assert path in [violation.path for violation in found.violations]
    assert await dump() == before
    assert filled.store.cache.layout == layout


async def test_a_malformed_file_says_line_and_column(filled: Replica) -> None:
    found = await error(filled.stub.ApplyTopology(BAD["malformed"][0]))
    assert found.reason == "MALFORMED_DOCUMENT"
    assert found.metadata == {"line": "3", "column": "6"}
    assert "line 3, column 6" in found.message


BAD_NODES = {
    'name: "n2" address: "192.0.2.300"': "node.address",
    'name: "n2"': "node.address",
    'name: "n2" address: "192.0.2.2" other_address: "192.0.2.3"': "node.other_address",
    'name: "n2" address: "192.0.2.2" other_address: "ff02::1"': "node.other_address",
    'name: "n2" other_address: "fd00::2"': "node.address",
    'address: "192.0.2.2"': "node.name",
    'name: "a b" address: "192.0.2.2"': "node.name",
    'name: "n2" address: "192.0.2.2" attachments { network: "z" }': "node.attachments[0].network",
    'name: "n2" address: "192.0.2.2" attachments { network: "a" vlan_id: 4095 }': (
        "node.attachments[0].vlan_id"
    ),
    'name: "n2" address: "192.0.2.2" attachments { network: "a" vlan_id: 21 }': (
        "node.attachments[0].vlan_id"
    ),
    'name: "n2" address: "192.0.2.2" attachments { network: "a" address: "fd00::1" }': (
        "node.attachments[0].address"
    ),
    'name: "n2" address: "192.0.2.2" attachments { network: "a" address: "10.0.0.1" }': (
        "node.attachments[0].address"
    ),
    'name: "n2" address: "192.0.2.2" attachments { network: "a" interface: "0123456789abcdef" }': (
        "node.attachments[0].interface"
    ),
    'name: "n2" address: "192.0.2.2" attachments { network: "a" } attachments { network: "a" }': (
        "node.attachments[1].network"
    ),
    'name: "n2" address: "192.0.2.2" pins { key: "t" value: "t/r9" }': "node.pins['t']",
    'name: "n2" address: "192.0.2.2" pins { key: "u" value: "t/r1" }': "node.pins['u']",
    'name: "n2" address: "192.0.2.2" labels { key: "-" value: "x" }': "node.labels['-']",
}


@pytest.mark.parametrize("text", BAD_NODES)
async def test_a_bad_node_is_refused_and_nothing_changes(
    text: str, filled: Replica, dump: Dump
) -> None:
    before = await dump()
    node = text_format.Parse(text, node_pb2.Node())
    found = await error(filled.stub.RegisterNode(api.RegisterNodeRequest(node=node)))
    assert isinstance(found, InvalidInput)
    assert [violation.path for violation in found.violations] == [BAD_NODES[text]]
    assert await dump() == before


@pytest.mark.parametrize(
    ("text", "reason", "field"),
    [
        (
            'name: "n1" address: "192.0.2.9" labels { key: "rack" value: "1" }',
            "NODE_EXISTS",
            "name",
        ),
        (
            'name: "n2" address: "192.0.2.1" labels { key: "rack" value: "1" }',
            "NODE_ADDRESS_TAKEN",
            "address",
        ),
        (
            'name: "n" address: "fd::2" other_address: "192.0.2.1" pins { key: "t" value: "t/r1" }',
            "NODE_ADDRESS_TAKEN",
            "other_address",
        ),
        ('name: "n2" address: "192.0.2.2"', "NODE_FITS_NOWHERE", ""),
    ],
)
async def test_a_node_that_cannot_be_added_is_refused(
    text: str, reason: str, field: str, filled: Replica, dump: Dump
) -> None:
    before = await dump()
    node = text_format.Parse(text, node_pb2.Node())
    found = await error(filled.stub.RegisterNode(api.RegisterNodeRequest(node=node)))
    assert found.reason == reason
    assert found.metadata.get("field", "") == (f"node.{field}" if field else "")
    assert await dump() == before


async def test_a_stale_etag_is_refused(filled: Replica, dump: Dump) -> None:
    before = await dump()
    request = spec(GOOD.replace("10.1.", "10.2."))
    request.etag = "1"
    assert (await error(filled.stub.ApplyTopology(request))).reason == "STALE_ETAG"
    node = (await filled.stub.GetNode(api.GetNodeRequest(name="n1"))).node
    node.etag = "1"
    assert (await error(filled.stub.UpdateNode(api.UpdateNodeRequest(node=node)))).reason == (
        "STALE_ETAG"
    )
    assert await dump() == before


@pytest.mark.parametrize("token", ["x", "e30=", "A" * 2000])
async def test_a_page_token_of_somebody_else_is_refused(filled: Replica, token: str) -> None:
    found = await error(filled.stub.ListNodes(api.ListNodesRequest(page_token=token)))
    assert isinstance(found, InvalidInput)
    assert found.violations[0].path == "page_token"
