"""Agents' streams of routes, and what is known of them on all replicas."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import grpc.aio
from romana.ipam.v1 import sync_routes_pb2 as pb
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.audit.in_force import Reach
from services.common.errors import RomanaError
from services.common.etcd.types import Revision
from services.common.rpc.context import Context
from services.common.rpc.draining import Draining
from services.common.rpc.identity import check_node
from services.common.rpc.request_id import passed_on
from services.common.rpc.sibling_replicas import SiblingReplicas
from services.common.sync import wire
from services.common.sync.hub import Hub, HubObserver
from services.common.sync.model import Hello, Position
from services.common.sync.source import Source
from services.common.sync.stream_server import serve
from services.common.tls import TlsFiles
from services.ipam.api import route_messages
from services.ipam.api.agents_there import AgentsThere
from services.ipam.api.kernel_asking import kernel_asking
from services.ipam.deciding.evaluate import Agents
from services.ipam.ledger.index import Place
from services.ipam.routes.source import RouteSource
from services.ipam.store.replica import Replica

if TYPE_CHECKING:  # it exists for type checkers only
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub


class RouteStreams:
    """All streams of this replica, and what the other replicas say of theirs."""

    def __init__(
        self, replica: Replica, observer: HubObserver, tls: TlsFiles | None, *, insecure: bool
    ) -> None:
        """Follows the replica from now on; `tls` and `insecure` are for asking other replicas."""
        self._replica = replica
        self._source = Source(replica.identity.epoch)
        self.hub = Hub(self._source, observer)
        self._routes = RouteSource(self._source, replica.routes, route_messages.ENCODING)
        self._siblings = SiblingReplicas(
            lambda: replica.candidates - {replica.identity.address}, tls, insecure=insecure
        )
        self.kernel = kernel_asking(self.hub, self._siblings, replica.identity.replica)
        self._there = AgentsThere(
            lambda: self.hub.nodes,
            lambda: len(replica.candidates - {replica.identity.address}),
            lambda: self._siblings.ask(_ask_connected),
        )
        self._has_agents = False
        """An agent has come: until then nobody needs the routes, which cost as much memory as the
        blocks, and time with every block that comes or goes."""
        replica.listen(self._on_change)

    async def serve(self, context: Context) -> None:
        """Serves one agent; raises RomanaError for why its stream ends."""

        async def admit(hello: Hello) -> None:
            check_node(context, hello.node)
            if not self._has_agents:
                await self._replica.committed()  # raises Unavailable
                self._has_agents = True
                self._on_change(None)

        await serve(self.hub, route_messages.DIALECT, context, admit)

    async def status(self, nodes: Sequence[str], *, local: bool) -> pb.GetSyncStatusResponse:
        """What is known of nodes' streams: here, and unless `local` on the other replicas."""
        siblings = self._siblings.ask(partial(_ask, nodes)) if not local else _nothing()
        own, found = await asyncio.gather(self._own_status(nodes), siblings)
        statuses = {item.node: item for item in own.statuses}
        current = own.current
        for answer in found:
            for item in answer.statuses:
                before = statuses.get(item.node)
                if before is None or _rank(item) > _rank(before):
                    statuses[item.node] = item
            if answer.current.revision > current.revision:
                current = answer.current
        return pb.GetSyncStatusResponse(
            statuses=[statuses[node] for node in sorted(statuses)], current=current
        )

    async def agents(self) -> Agents:
        """Nodes whose agents have a stream to some replica."""
        return await self._there.agents()

    async def connected(self, *, local: bool) -> pb.GetSyncStatusResponse:
        """Names of nodes that have a stream: here, and unless `local` to another replica."""
        nodes = self.hub.nodes if local else (await self.agents()).connected
        current = Position(self._source.epoch, self._source.revision)
        return pb.GetSyncStatusResponse(connected=sorted(nodes), current=wire.position(current))

    async def close(self) -> None:
        await self._siblings.close()

    async def drain_on(self, draining: Draining, seconds: float) -> None:
        """Waits for the stop to begin, and ends all streams within that time."""
        await draining.wait()
        await self.hub.drain(seconds)
        await asyncio.Event().wait()  # an eternal task

    async def reached(self, revisions: Sequence[Revision]) -> Sequence[Reach]:
        """How far changes of topology and ipam are on the nodes whose agents have a stream."""
        answer = await self.status((), local=False)
        connected = [one for one in answer.statuses if one.connected]
        return [
            Reach(
                len(connected),
                sum(one.applied.revision < revision or bool(one.failures) for one in connected),
            )
            for revision in revisions
        ]

    async def _own_status(self, nodes: Sequence[str]) -> pb.GetSyncStatusResponse:
        with contextlib.suppress(RomanaError):  # the store is away: what was known before counts
            self.hub.flush(await self._replica.confirm())
        return pb.GetSyncStatusResponse(
            statuses=[
                route_messages.status(item, self._replica.identity.replica)
                for item in self.hub.statuses(nodes)
            ],
            current=wire.position(Position(self._source.epoch, self._source.revision)),
        )

    def _on_change(self, places: Sequence[Place] | None) -> None:
        """The replica's memory changed, and holds nothing that is not in the store."""
        replica = self._replica
        if not self._has_agents or not replica.loaded:
            return  # streams stay as they are until all is read
        self._routes.update(replica.ledger, replica.drain_changed_nodes(), places)
        self.hub.flush(replica.floor)


async def _ask(
    nodes: Sequence[str], channel: grpc.aio.Channel, timeout: float
) -> pb.GetSyncStatusResponse:
    stub: IpamServiceAsyncStub = IpamServiceStub(channel)
    request = pb.GetSyncStatusRequest(nodes=nodes, local_only=True)
    return await stub.GetSyncStatus(request, timeout=timeout, metadata=passed_on())


async def _ask_connected(channel: grpc.aio.Channel, timeout: float) -> pb.GetSyncStatusResponse:
    stub: IpamServiceAsyncStub = IpamServiceStub(channel)
    request = pb.GetSyncStatusRequest(local_only=True, connected_only=True)
    return await stub.GetSyncStatus(request, timeout=timeout)


async def _nothing() -> Iterable[pb.GetSyncStatusResponse]:
    return ()


def _rank(status: pb.NodeSyncStatus) -> tuple[bool, int, int]:
    """The higher, the more likely it is still so."""
    return status.connected, status.update_time.seconds, status.update_time.nanos
