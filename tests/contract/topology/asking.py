"""What tests of the topology service ask it, and what they say that ipam has."""

from __future__ import annotations

from collections.abc import Awaitable
from ipaddress import ip_address
from pathlib import Path

import grpc.aio
import pytest
from romana.topology.v1 import node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.errors import RomanaError
from services.common.etcd.types import Put
from services.common.model.names import GroupPath, NetworkName, NodeName
from services.common.records.blocks import BlockPage, PageUse, encode
from services.common.rpc.status import error_of
from tests.conftest import Store
from tests.contract.topology.replicas import Replica

EXAMPLE = (Path(__file__).parents[3] / "examples" / "datacenter.yaml").read_text()
RACKS = """
networks: [{name: n, cidr: 10.0.0.0/16}]
topologies: [{networks: [n], groups: [%s]}]
"""


def file(text: str, **more: object) -> api.ApplyTopologyRequest:
    document = topology_pb2.TopologyDocument(text=text)
    return api.ApplyTopologyRequest(document=document, **more)  # type: ignore[arg-type]


def racks(*names: str) -> str:
    return RACKS % ", ".join(f"{{name: {name}}}" for name in names)


async def apply(replica: Replica, text: str, **more: object) -> api.ApplyTopologyResponse:
    return await replica.stub.ApplyTopology(file(text, **more))


async def register(replica: Replica, name: str, address: str, **labels: str) -> node_pb2.Node:
    node = node_pb2.Node(name=name, address=address, labels=labels)
    return (await replica.stub.RegisterNode(api.RegisterNodeRequest(node=node))).node


async def failing(call: Awaitable[object]) -> RomanaError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_of(caught.value)


async def allocate(store: Store, node: str, base: str, group: str, used: int = 1) -> None:
    """As ipam does when a block comes into use: page, claims and commit in one transaction."""
    uses = tuple(PageUse(i, f"e{i}", 0) for i in range(used))
    page = BlockPage(length=29, node=node, tenant="t", used=uses)
    network = NetworkName("n")
    await store.client.transact(
        (),
        (
            Put(store.keys.block(network, int(ip_address(base)), 0, 32), encode(page)),
            Put(store.keys.group_claim(network, GroupPath(group)), b"1"),
            Put(store.keys.node_claim(NodeName(node)), b"1"),
            Put(store.keys.commit, b"1"),
        ),
    )


async def ipam_is_there(store: Store) -> None:
    """A replica of it, which says who has a stream."""
    await store.client.put(f"{store.keys.leader}0", b"ipam")
