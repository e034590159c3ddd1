"""What the controller tells topology. Protobuf messages stop here."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from romana.topology.v1 import node_pb2
from romana.topology.v1 import topology_service_pb2 as pb

from services.common.errors import NotFound
from services.common.model.names import NodeName
from services.common.model.node import Attachment
from services.kubernetes.calls.replicas import Replicas
from services.kubernetes.wanted.values import WantedNode

if TYPE_CHECKING:
    from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceAsyncStub

PAGE: Final = 1000


class TopologyCalls:
    """Raises RomanaErrors."""

    def __init__(self, replicas: Replicas[TopologyServiceAsyncStub]) -> None:
        self._replicas = replicas

    async def put_node(self, wanted: WantedNode) -> bool:
        """Makes topology's node as wanted, and leaves what is not said as it is; says whether
        anything was different."""
        try:
            answer = await self._replicas.call(
                lambda stub: stub.GetNode, pb.GetNodeRequest(name=wanted.name)
            )
        except NotFound:
            message = node_pb2.Node(name=wanted.name)
            _fill(message, wanted)
            await self._replicas.call(
                lambda stub: stub.RegisterNode, pb.RegisterNodeRequest(node=message)
            )
            return True
        node = answer.node
        before = node.SerializeToString(deterministic=True)
        _fill(node, wanted)
        if node.SerializeToString(deterministic=True) == before:
            return False
        await self._replicas.call(lambda stub: stub.UpdateNode, pb.UpdateNodeRequest(node=node))
        return True

    async def delete_node(self, name: NodeName, *, force: bool) -> None:
        """Succeeds if there is none; WrongState while addresses are in use there."""
        with contextlib.suppress(NotFound):
            await self._replicas.call(
                lambda stub: stub.DeleteNode, pb.DeleteNodeRequest(name=name, force=force)
            )

    async def nodes(self) -> dict[NodeName, dict[str, str]]:
        """Labels of all nodes."""
        found: dict[NodeName, dict[str, str]] = {}
        request = pb.ListNodesRequest(page_size=PAGE)
        while True:
            answer = await self._replicas.call(lambda stub: stub.ListNodes, request)
            found |= {NodeName(one.name): dict(one.labels) for one in answer.nodes}
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token


def _fill(message: node_pb2.Node, wanted: WantedNode) -> None:
    if wanted.address is not None:
        message.address = str(wanted.address)
    message.labels.clear()
    message.labels.update(wanted.labels)
    if wanted.attachments is not None:
        del message.attachments[:]
        message.attachments.extend(map(_attachment, wanted.attachments))


def _attachment(value: Attachment) -> node_pb2.Attachment:
    return node_pb2.Attachment(
        network=value.network,
        interface=value.interface,
        address="" if value.address is None else str(value.address),
        vlan_id=value.vlan_id,
        parent_interface=value.parent_interface,
    )
