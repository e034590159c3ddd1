"""Follows where nodes are, by topology's watch: everything, then every change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from romana.topology.v1 import node_pb2, topology_pb2
from romana.topology.v1 import topology_service_pb2 as pb

from services.common.model.names import GroupPath, NetworkName, NodeName
from services.common.rpc.watching import Watch, follow
from services.kubernetes.scheduling.places import Kinds, Place, Places

if TYPE_CHECKING:
    from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceAsyncStub


class PlacesFollower:
    """The watch."""

    def __init__(self, stubs: Sequence[TopologyServiceAsyncStub]) -> None:
        """`stubs`: of replicas, of which any will do."""
        self._stubs = stubs
        self._topology_of: dict[NetworkName, str] = {}
        self._nodes: dict[NodeName, node_pb2.Node] = {}
        self._kinds = Kinds()
        self._places: dict[NodeName, Place] = {}
        self._heard: set[NodeName] | None = set()
        """Nodes that this stream has named so far; None: it has named all."""
        self.places: Places | None = None
        """None: not all nodes have been heard of yet."""

    async def run(self) -> None:
        """Follows for ever."""
        await follow(
            Watch(
                "topology",
                self._stubs,
                lambda stub: stub.WatchTopology(pb.WatchTopologyRequest()),
                self._begin,
                self._take,
            )
        )

    def _begin(self) -> None:
        self._heard = set()

    def _take(self, message: pb.WatchTopologyResponse) -> None:
        if message.HasField("spec"):
            self._take_spec(message.spec)
        for node in message.updated_nodes:
            name = NodeName(node.name)
            self._nodes[name] = node
            self._places[name] = self._place(node)
            if self._heard is not None:
                self._heard.add(name)
        for gone in message.removed_nodes:
            self._forget(NodeName(gone))
        if self._heard is None:
            self.places = Places(dict(self._places))
        elif message.in_sync:
            for name in self._nodes.keys() - self._heard:
                self._forget(name)
            self._heard = None
            self.places = Places(dict(self._places))

    def _take_spec(self, spec: topology_pb2.TopologySpec) -> None:
        self._topology_of = {
            NetworkName(network): topology.name
            for topology in spec.topologies
            for network in topology.networks
        }
        self._kinds = Kinds()
        self._places = {name: self._place(node) for name, node in self._nodes.items()}

    def _place(self, node: node_pb2.Node) -> Place:
        placements = {one.topology: GroupPath(one.group) for one in node.placements}
        groups = {
            NetworkName(network): placements[topology]
            for network in node.networks
            if (topology := self._topology_of.get(NetworkName(network))) in placements
        }
        attached = {NetworkName(one.network) for one in node.attachments}
        unplaced = frozenset(attached - groups.keys())
        return self._kinds.place(groups, unplaced, cordoned=node.cordoned)

    def _forget(self, name: NodeName) -> None:
        self._nodes.pop(name, None)
        self._places.pop(name, None)
