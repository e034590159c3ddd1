"""What an agent does with the certificate of its own node, through the whole service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio
import pytest
from romana.topology.v1 import network_pb2, node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as api
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.errors import RomanaError
from services.common.rpc.channel import open_channel
from services.common.rpc.status import error_of
from tests.conftest import Store
from tests.contract.topology.replicas import replica_of
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceAsyncStub as Stub

SPEC = topology_pb2.TopologySpec(
    networks=[
        network_pb2.Network(name="qa", cidr="10.2.0.0/16", gateway="192.168.9.1"),
        network_pb2.Network(name="production", cidr="10.3.0.0/16"),
    ],
    topologies=[
        topology_pb2.Topology(
            name="dc",
            networks=["qa", "production"],
            groups=[
                topology_pb2.PrefixGroup(name="rack-1", assignment={"rack": "1"}),
                topology_pb2.PrefixGroup(name="rack-2", assignment={"rack": "2"}),
            ],
        )
    ],
)
QA = node_pb2.Attachment(network="qa")


@dataclass(frozen=True)
class Callers:
    operator: Stub
    agent: Stub
    """Of n1."""

    async def declare(self, **fields: object) -> node_pb2.Node:
        node = node_pb2.Node(name="n1", labels={"rack": "1"}, **fields)  # type: ignore[arg-type]
        answer = await self.operator.RegisterNode(api.RegisterNodeRequest(node=node))
        return answer.node


@pytest.fixture
async def callers(store: Store, tmp_path: Path) -> AsyncIterator[Callers]:
    authority = Authority(tmp_path / "ca")
    service, operator, agent = (
        authority.issue(uri.partition(":")[2].replace(":", "-"), uri=uri)
        for uri in ("romana:service", "romana:operator", "romana:node:n1")
    )
    async with (
        replica_of(store.client, store.keys, tls=service) as replica,
        open_channel(replica.address, tls=operator) as first,
        open_channel(replica.address, tls=agent) as second,
    ):
        made = Callers(TopologyServiceStub(first), TopologyServiceStub(second))
        await made.operator.ApplyTopology(api.ApplyTopologyRequest(spec=SPEC))
        yield made


async def refusal(call: object) -> RomanaError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return error_of(caught.value)


async def test_a_node_does_not_register_itself_unless_it_may(callers: Callers) -> None:
    node = node_pb2.Node(name="n1", address="192.168.0.1", labels={"rack": "1"})
    error = await refusal(callers.agent.RegisterNode(api.RegisterNodeRequest(node=node)))
    assert (error.reason, error.metadata["field"]) == ("NODE_MAY_NOT_SAY", "register")


@pytest.mark.parametrize(
    "change",
    [
        node_pb2.Node(labels={"rack": "2"}),
        node_pb2.Node(pins={"dc": "dc/rack-2"}),
        node_pb2.Node(attachments=[node_pb2.Attachment(network="production")]),
        node_pb2.Node(allowance=node_pb2.NodeAllowance(tenants=["admin"])),
        node_pb2.Node(cordoned=True),
        node_pb2.Node(address="192.168.0.9"),
    ],
    ids=lambda change: str(change).split()[0],
)
async def test_a_node_changes_nothing_that_was_declared(
    callers: Callers, change: node_pb2.Node
) -> None:
    before = await callers.declare(address="192.168.0.1", attachments=[QA])
    node = node_pb2.Node()
    node.CopyFrom(before)
    node.labels.clear()
    node.MergeFrom(change)
    error = await refusal(callers.agent.UpdateNode(api.UpdateNodeRequest(node=node)))
    assert error.reason == "NODE_MAY_NOT_SAY"
    after = await callers.agent.GetNode(api.GetNodeRequest(name="n1"))
    assert after.node == before


async def test_a_node_says_its_address_where_none_was_declared(callers: Callers) -> None:
    """It completes the attachment, and the operator's next change leaves that its own."""
    node = await callers.declare(address="192.168.0.1", attachments=[QA])
    node.attachments[0].address = "10.2.0.5"
    updated = await callers.agent.UpdateNode(api.UpdateNodeRequest(node=node))
    assert updated.node.self_reported == ["attachments/qa/address"]
    updated.node.labels["disk"] = "ssd"
    again = await callers.operator.UpdateNode(api.UpdateNodeRequest(node=updated.node))
    assert again.node.self_reported == ["attachments/qa/address"]
    again.node.attachments[0].address = "10.2.0.6"
    moved = await callers.agent.UpdateNode(api.UpdateNodeRequest(node=again.node))
    assert moved.node.attachments[0].address == "10.2.0.6"


async def test_a_node_takes_no_gateway_as_its_address(callers: Callers) -> None:
    attachment = node_pb2.Attachment(network="qa", address="10.2.0.5")
    node = await callers.declare(attachments=[attachment])
    node.address = "192.168.9.1"
    error = await refusal(callers.agent.UpdateNode(api.UpdateNodeRequest(node=node)))
    assert "gateway" in error.message
    node.address = "10.3.0.5"
    error = await refusal(callers.agent.UpdateNode(api.UpdateNodeRequest(node=node)))
    assert "not on" in error.message


async def test_an_allowance_stays_unless_it_is_said_anew(callers: Callers) -> None:
    allowance = node_pb2.NodeAllowance(names=["web-*"], tenants=["shop"], addresses=64)
    node = await callers.declare(address="192.168.0.1", allowance=allowance)
    assert node.allowance == allowance
    node.ClearField("allowance")
    node.labels["disk"] = "ssd"
    kept = await callers.operator.UpdateNode(api.UpdateNodeRequest(node=node))
    assert kept.node.allowance == allowance
    kept.node.allowance.Clear()
    kept.node.allowance.SetInParent()
    cleared = await callers.operator.UpdateNode(api.UpdateNodeRequest(node=kept.node))
    assert not cleared.node.HasField("allowance")


async def test_an_export_has_the_allowance(callers: Callers) -> None:
    allowance = node_pb2.NodeAllowance(names=["web-*"], tenants=["shop"], addresses=64)
    await callers.declare(address="192.168.0.1", allowance=allowance)
    exported = await callers.operator.ExportTopology(api.ExportTopologyRequest(include_nodes=True))
    await callers.operator.DeleteNode(api.DeleteNodeRequest(name="n1"))
    await callers.operator.ApplyTopology(api.ApplyTopologyRequest(document=exported.document))
    node = await callers.operator.GetNode(api.GetNodeRequest(name="n1"))
    assert node.node.allowance == allowance


async def test_what_is_wrong_with_an_allowance_is_said_with_its_path(callers: Callers) -> None:
    wrong = node_pb2.NodeAllowance(names=["web-*", ""], tenants=["no tenant"])
    error = await refusal(callers.declare(address="192.168.0.1", allowance=wrong))
    found = {item.path for item in getattr(error, "violations", ())}
    assert found == {"node.allowance.names[1]", "node.allowance.tenants[0]"}
