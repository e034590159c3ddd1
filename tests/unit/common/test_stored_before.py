"""Documents that were stored before records were made of the model are read, and written so."""

from __future__ import annotations

import pytest

from services.common.records.layout import decode_layout, decode_node, encode_layout, encode_node

LAYOUTS = [
    b"{}",
    (
        b'{"networks":[{"name":"blue","cidr":"fd00:1::/64","block_length":120,"tenants":["t"],'
        b'"vlan_id":20,"gateway":"fd00:1::1","mtu":1500,"mode":"onlink","placement":"sequential",'
        b'"reuse_delay":0.5},{"name":"red","cidr":"10.0.0.0/8","block_length":29,'
        b'"isolation":"tenant","masquerade":true}],"topologies":[{"name":"dc","networks":["blue"],'
        b'"groups":[{"name":"zone","assignment":{"zone":"a"},"routing":"ospf","weight":2,"slot":2,'
        b'"slots":4,"prefixes":{"blue":"fd00:1::/65"},"groups":[{"name":"rack",'
        b'"pinned_prefixes":{"blue":"fd00:1::/66"},"prefixes":{"blue":"fd00:1::/66"}}]}],"slots":4}]}'
    ),
    b'{"topologies":[{"name":"empty","networks":[],"groups":[]}]}',
]
NODES = [
    b'{"name":"bare","allowance":{}}',
    (
        b'{"name":"n1","address":"192.0.2.1","labels":{"zone":"a"},"attachments":[{"network":"blue",'
        b'"interface":"eth0.20","address":"fd00:1::9","vlan_id":20,"parent_interface":"eth0"}],'
        b'"pins":{"dc":"dc/zone/rack"},"placements":{"dc":"dc/zone/rack"},"create_time":1700000000,'
        b'"allowance":{}}'
    ),
    (
        b'{"name":"n2","labels":{"zone":"a"},"attachments":[],"create_time":1700000000,"allowance":'
        b'{"names":["web-*"],"tenants":["shop"],"addresses":512},"self_reported":["address"]}'
    ),
]


@pytest.mark.parametrize("document", LAYOUTS)
def test_a_stored_layout_is_read_and_written_as_it_was(document: bytes) -> None:
    assert encode_layout(decode_layout(document)) == document


@pytest.mark.parametrize("document", NODES)
def test_a_stored_node_is_read_and_written_as_it_was(document: bytes) -> None:
    assert encode_node(decode_node(document)) == document


def test_what_was_written_before_there_was_an_allowance_is_read() -> None:
    assert decode_node(b'{"name":"n","reuse":1}') == decode_node(b'{"name":"n","allowance":{}}')
    assert decode_layout(
        b'{"networks":[{"name":"n","cidr":"10.0.0.0/8","block_length":29,"reuse_delay":30.0,'
        b'"gateway":""}]}'
    ) == decode_layout(b'{"networks":[{"name":"n","cidr":"10.0.0.0/8","block_length":29}]}')
