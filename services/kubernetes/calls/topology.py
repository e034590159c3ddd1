"""What the controller tells topology. Protobuf messages stop here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from romana.topology.v1 import network_pb2, node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as pb

from services.common.errors import NotFound
from services.common.model.names import NodeName
from services.common.rpc.models import to_message
from services.common.rpc.replicas import Replicas
from services.kubernetes.objects.networks import NetworkSpec
from services.kubernetes.wanted.values import WantedNode

if TYPE_CHECKING:
    from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceAsyncStub

PAGE: Final = 1000
PLAN_LINES: Final = 100
_MODE: Final = "ATTACHMENT_MODE_"
_CHANGES: Final = {
    topology_pb2.CHANGE_KIND_ADDED: "added",
    topology_pb2.CHANGE_KIND_MOVED: "moved",
    topology_pb2.CHANGE_KIND_UPDATED: "updated",
    topology_pb2.CHANGE_KIND_REMOVED: "removed",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change does."""

    lines: tuple[str, ...]
    stranded: tuple[str, ...]
    """Blocks in use that would lie outside of their nodes' groups."""
    changed: bool


class TopologyCalls:
    """Raises RomanaErrors."""

    def __init__(self, replicas: Replicas[TopologyServiceAsyncStub]) -> None:
        self._replicas = replicas

    async def apply(self, document: bytes, *, validate_only: bool, allow_stranded: bool) -> Plan:
        """Makes a topology file true, or only says what that would change.

        Raises InvalidInput with field paths, and WrongState if addresses would be stranded.
        """
        request = pb.ApplyTopologyRequest(
            document=topology_pb2.TopologyDocument(
                text=document.decode(), format=topology_pb2.DOCUMENT_FORMAT_JSON
            ),
            validate_only=validate_only,
            allow_stranded=allow_stranded,
        )
        answer = await self._replicas.call(lambda stub: stub.ApplyTopology, request)
        stranded = tuple(islice(_stranded(answer.plan), PLAN_LINES))
        lines = (*_lines(answer.plan), *stranded)
        return Plan(lines[:PLAN_LINES], stranded, answer.changed)

    async def networks(self) -> dict[str, NetworkSpec]:
        """All networks, in file order."""
        found: dict[str, NetworkSpec] = {}
        request = pb.ListNetworksRequest(page_size=PAGE)
        while True:
            answer = await self._replicas.call(lambda stub: stub.ListNetworks, request)
            found |= {one.name: _network(one) for one in answer.networks}
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

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


def _network(message: network_pb2.Network) -> NetworkSpec:
    return NetworkSpec(
        cidr=message.cidr,
        topology=message.topology,
        gateway=message.gateway,
        vlan_id=message.vlan_id,
        mode=network_pb2.AttachmentMode.Name(message.mode).removeprefix(_MODE).lower(),
        tenants=tuple(message.tenants),
    )


def _lines(plan: topology_pb2.TopologyPlan) -> Iterator[str]:
    for network in plan.networks:
        fields = f" ({', '.join(network.fields)})" if network.fields else ""
        yield f"network {network.network}: {_CHANGES[network.kind]}{fields}"
    for group in plan.groups:
        became = " > ".join(filter(None, (group.before, group.after)))
        yield f"group {group.group}: {_CHANGES[group.kind]} {became} on {group.network}"
    for node in plan.nodes:
        yield f"node {node.node}: {node.before or 'no group'} > {node.after or 'no group'}"


def _stranded(plan: topology_pb2.TopologyPlan) -> Iterator[str]:
    for block in plan.stranded:
        yield f"stranded: {block.used} addresses of {block.block} on node {block.node}"


def _fill(message: node_pb2.Node, wanted: WantedNode) -> None:
    if wanted.address is not None:
        message.address = str(wanted.address)
        message.other_address = str(wanted.other_address or "")
    message.labels.clear()
    message.labels.update(wanted.labels)
    if wanted.attachments is not None:
        del message.attachments[:]
        message.attachments.extend(
            to_message(node_pb2.Attachment, one) for one in wanted.attachments
        )
