"""The topology API over gRPC: translates, asks, answers. Nothing is decided here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final

from romana.topology.v1 import node_pb2, topology_pb2, topology_service_pb2_grpc
from romana.topology.v1 import topology_service_pb2 as api

from services.common.errors import InvalidInput, NotFound
from services.common.model.names import NodeName, Tenant
from services.common.model.node import Node
from services.common.paging.pages import filled
from services.common.process.version import version
from services.common.rpc.context import Context
from services.common.rpc.draining import Draining
from services.common.rpc.fitting import chunks, cut
from services.common.rpc.roles import bound
from services.common.sizes import ANSWER_BYTES
from services.common.store.unreadable import named
from services.topology.api import messages_in, messages_out
from services.topology.forms.export import export_json, export_yaml
from services.topology.forms.file import Format
from services.topology.layout.placement import networks_of
from services.topology.metrics import TopologyMetrics
from services.topology.store.apply import ApplyOptions, TopologyChanges
from services.topology.store.cache import TopologyCache
from services.topology.store.nodes import (
    DeleteOptions,
    NodeChanges,
    RegisterOptions,
    UpdateOptions,
    node_not_found,
)
from services.topology.store.store import TopologyStore, record_unreadable

_METHODS: Final = "romana.topology.v1.TopologyService/"

WATCH_CHUNK = 500
"""Nodes in one message of a watch, fewer if they are large."""
_REMOVED_CHUNK = 10_000
_LARGE_BYTES = 20_000
"""From which on a topology is read beside the event loop."""


@dataclass(frozen=True, slots=True)
class Identity:
    replica: str
    """Unique."""
    epoch: str
    """Of the store's history."""


class TopologyService(topology_service_pb2_grpc.TopologyServiceServicer):
    def __init__(
        self,
        identity: Identity,
        store: TopologyStore,
        topology: TopologyChanges,
        nodes: NodeChanges,
        metrics: TopologyMetrics,
        draining: Draining,
    ) -> None:
        self._identity = identity
        self._store = store
        self._topology = topology
        self._nodes = nodes
        self._metrics = metrics
        self._draining = draining

    async def ApplyTopology(
        self, request: api.ApplyTopologyRequest, context: Context
    ) -> api.ApplyTopologyResponse:
        """Checks, plans and applies."""
        if request.ByteSize() > _LARGE_BYTES:
            wanted = await asyncio.to_thread(messages_in.apply_request, request)
        else:
            wanted = messages_in.apply_request(request)
        before = self._store.cache.layout
        applied = await self._topology.apply(
            wanted,
            ApplyOptions(
                validate_only=request.validate_only,
                allow_stranded=request.allow_stranded,
                etag=request.etag,
            ),
        )
        plan = messages_out.plan(applied.plan, before)
        cut(plan, "stranded", "attachments", "nodes", "groups")
        return api.ApplyTopologyResponse(plan=plan, changed=applied.changed, etag=applied.etag)

    async def GetTopology(
        self, request: api.GetTopologyRequest, context: Context
    ) -> api.GetTopologyResponse:
        """As this replica knows it."""
        return api.GetTopologyResponse(spec=self._spec(), etag=self._store.layout_etag)

    async def ExportTopology(
        self, request: api.ExportTopologyRequest, context: Context
    ) -> api.ExportTopologyResponse:
        """YAML or JSON."""
        form = messages_in.document_format(request.format, "format")
        cache = self._cache()
        nodes = [cache.nodes[name] for name in sorted(cache.nodes)] if request.include_nodes else []
        match form:
            case Format.ROMANA_V2:
                raise InvalidInput.at("format", "the form of Romana 2 is only read")
            case Format.JSON:
                write, made = export_json, topology_pb2.DOCUMENT_FORMAT_JSON
            case _:
                write, made = export_yaml, topology_pb2.DOCUMENT_FORMAT_YAML
        # A second for thousands of nodes; layouts and nodes never change once they are made.
        text = await asyncio.to_thread(write, cache.layout, nodes, all_slots=request.all_slots)
        return api.ExportTopologyResponse(
            document=topology_pb2.TopologyDocument(text=text, format=made)
        )

    async def GetNetwork(
        self, request: api.GetNetworkRequest, context: Context
    ) -> api.GetNetworkResponse:
        layout = self._cache().layout
        for network in layout.networks:
            if network.name == request.name:
                return api.GetNetworkResponse(network=messages_out.networks(layout, [network])[0])
        raise _network_not_found(request.name)

    async def ListNetworks(
        self, request: api.ListNetworksRequest, context: Context
    ) -> api.ListNetworksResponse:
        """In file order, or in the order in which a tenant's are tried."""
        layout = self._cache().layout
        found = (
            list(layout.for_tenant(Tenant(request.tenant)))
            if request.tenant
            else list(layout.networks)
        )
        made = messages_out.networks(layout, found)
        networks, token = filled(
            [network.name for network in found],
            request.page_size,
            request.page_token,
            lambda number: made[number],
            in_order=False,
        )
        return api.ListNetworksResponse(networks=networks, next_page_token=token)

    async def RegisterNode(
        self, request: api.RegisterNodeRequest, context: Context
    ) -> api.RegisterNodeResponse:
        """Adds and places a node."""
        node = await self._nodes.register(
            messages_in.node(request.node),
            RegisterOptions(
                validate_only=request.validate_only,
                by_agent=bound(_METHODS + "RegisterNode", context) is not None,
                unless_removed=request.unless_removed,
            ),
        )
        return api.RegisterNodeResponse(node=self._node(node))

    async def UpdateNode(
        self, request: api.UpdateNodeRequest, context: Context
    ) -> api.UpdateNodeResponse:
        """Replaces a node."""
        node, plan = await self._nodes.update(
            messages_in.node(request.node),
            UpdateOptions(
                etag=request.node.etag,
                by_agent=bound(_METHODS + "UpdateNode", context) is not None,
                allow_stranded=request.allow_stranded,
                validate_only=request.validate_only,
            ),
        )
        return api.UpdateNodeResponse(
            node=self._node(node), plan=messages_out.plan(plan, plan.layout)
        )

    async def DeleteNode(
        self, request: api.DeleteNodeRequest, context: Context
    ) -> api.DeleteNodeResponse:
        """Removes a node."""
        if not request.name:
            raise InvalidInput.at("name", "is missing")
        released = await self._nodes.delete(
            NodeName(request.name),
            DeleteOptions(
                request.etag,
                request.request_id,
                force=request.force,
                machine_is_off=request.machine_is_off,
            ),
        )
        return api.DeleteNodeResponse(released_addresses=released)

    async def GetNode(self, request: api.GetNodeRequest, context: Context) -> api.GetNodeResponse:
        node = self._cache().nodes.get(NodeName(request.name))
        if node is None:
            raise node_not_found(request.name)
        return api.GetNodeResponse(node=self._node(node))

    async def ListNodes(
        self, request: api.ListNodesRequest, context: Context
    ) -> api.ListNodesResponse:
        """Nodes by name."""
        nodes = sorted(self._matching(request), key=lambda node: node.name)
        listed, token = filled(
            [node.name for node in nodes],
            request.page_size,
            request.page_token,
            lambda number: self._node(nodes[number]),
            in_order=True,
        )
        return api.ListNodesResponse(nodes=listed, next_page_token=token)

    async def WatchTopology(
        self, request: api.WatchTopologyRequest, context: Context
    ) -> AsyncIterator[api.WatchTopologyResponse]:
        """Everything, then every change, until the client leaves or the server drains."""
        cache = self._cache()
        with self._store.watchers.watch() as watcher, self._metrics.watchers.track_inprogress():
            names = sorted(cache.nodes)
            first = self._changes(names, spec=self._spec())
            first[-1].in_sync = True
            for message in first:
                yield message
            while True:
                untold = await self._draining.bound(watcher.next())
                spec = self._spec() if untold.layout else None
                for message in self._changes(sorted(untold.nodes), spec=spec):
                    yield message

    async def GetStatus(
        self, request: api.GetStatusRequest, context: Context
    ) -> api.GetStatusResponse:
        """What this replica knows; not refused before it knows anything."""
        cache = self._store.cache
        return api.GetStatusResponse(
            replica=self._identity.replica,
            version=version(),
            epoch=self._identity.epoch,
            revision=cache.revision,
            networks=len(cache.layout.networks),
            topologies=len(cache.layout.topologies),
            groups=cache.group_count,
            nodes=len(cache.nodes),
            in_sync=self._store.in_sync,
            unreadable=named(self._store.unreadable),
        )

    def _changes(
        self, names: list[NodeName], *, spec: topology_pb2.TopologySpec | None
    ) -> list[api.WatchTopologyResponse]:
        """The named nodes as they are, all at one revision; at least one message."""
        cache = self._store.cache
        updated = (self._node(cache.nodes[name]) for name in names if name in cache.nodes)
        removed = [name for name in names if name not in cache.nodes]
        most = ANSWER_BYTES // 2  # the other half is for the spec
        messages = [
            api.WatchTopologyResponse(updated_nodes=chunk)
            for chunk in chunks(updated, WATCH_CHUNK, most)
        ]
        messages += [
            api.WatchTopologyResponse(removed_nodes=removed[start : start + _REMOVED_CHUNK])
            for start in range(0, len(removed), _REMOVED_CHUNK)
        ]
        messages = messages or [api.WatchTopologyResponse()]
        if spec is not None:
            messages[0].spec.CopyFrom(spec)
        for message in messages:
            message.revision = cache.revision
        return messages

    def _matching(self, request: api.ListNodesRequest) -> Iterable[Node]:
        cache = self._cache()
        layout = cache.layout
        if request.network and all(n.name != request.network for n in layout.networks):
            raise _network_not_found(request.network)
        paths = {t.name for t in layout.topologies} | {
            group.path for t in layout.topologies for group in t.walk()
        }
        if request.group and request.group not in paths:
            raise NotFound(
                f"there is no group {request.group[:256]!r}",
                reason="GROUP_NOT_FOUND",
                metadata={"group": request.group[:256]},
            )
        for node in cache.nodes.values():
            if request.group and not any(
                messages_out.is_below(path, request.group) for path in node.placements.values()
            ):
                continue
            if request.network and request.network not in networks_of(node, layout):
                continue
            if all(node.labels.get(key) == value for key, value in request.labels.items()):
                yield node

    def _cache(self) -> TopologyCache:
        self._store.check_in_sync()
        cache = self._store.cache
        if not cache.layout_known:
            raise record_unreadable(self._store.keys.layout)
        return cache

    def _spec(self) -> topology_pb2.TopologySpec:
        cache = self._cache()
        return messages_out.spec(cache.layout, cache.nodes.values())

    def _node(self, node: Node) -> node_pb2.Node:
        return messages_out.node(node, self._store.cache.layout, self._store.etag(node.name))


def _network_not_found(name: str) -> NotFound:
    return NotFound(
        f"there is no network {name[:128]!r}",
        reason="NETWORK_NOT_FOUND",
        metadata={"network": name[:128]},
    )
