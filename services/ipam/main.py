"""Builds and runs one replica of the ipam service."""

from __future__ import annotations

import sys
import uuid

from romana.ipam.v1 import ipam_service_pb2_grpc

from services.common.audit.serving import Auditing, Noting
from services.common.audit.writer import AuditWriter
from services.common.etcd.client import open_store
from services.common.etcd.epoch import ensure_epoch
from services.common.etcd.keys import Keys
from services.common.process.certificate_metrics import CertificateCollector
from services.common.process.command import run_service
from services.common.process.gc_tuning import tune
from services.common.process.lifecycle import Lifecycle, Phase
from services.common.process.metrics import LoopLag, new_registry
from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.server import RpcServer
from services.common.rpc.serving import serve_calls, serve_metrics
from services.common.rpc.status import StatusEncoder
from services.common.store.unreadable_metrics import UnreadableCollector
from services.common.sync.metrics import AgentCollector, SyncMetrics
from services.common.sync.stream_server import writing_bytes
from services.ipam.api import messages_out
from services.ipam.api.agent_streams import RouteStreams
from services.ipam.api.audited import TEXTS
from services.ipam.api.deciding_methods import Deciding
from services.ipam.api.forwarding import Forwarding
from services.ipam.api.service import IpamService
from services.ipam.deciding.commands import NodeBounds
from services.ipam.metrics import IpamMetrics, ReplicaCollector
from services.ipam.model import NoAddress
from services.ipam.settings import IpamSettings
from services.ipam.store.codec import KINDS
from services.ipam.store.replica import Identity, Replica
from services.ipam.store.stream_records import StreamRecords


async def serve(life: Lifecycle, settings: IpamSettings) -> None:
    """Starts everything; the life cycle stops it."""
    registry = new_registry("ipam")
    CertificateCollector(
        {"calls": settings.listen.tls.files(), "etcd": settings.etcd.tls.files()}, registry
    )
    listen = settings.listen
    client = open_store(life, settings.etcd, registry)
    keys = Keys(settings.etcd.root)
    encoder = StatusEncoder({NoAddress: messages_out.exhaustion})
    server = RpcServer(RpcMetrics(registry), encoder)
    await serve_metrics(life, settings.metrics.address, registry, lambda: server.serving)
    epoch = await ensure_epoch(client, keys)
    address = server.listen(listen.address, tls=listen.tls.files(), insecure=listen.insecure)
    identity = Identity(uuid.uuid4().hex[:12], listen.advertise or str(address), epoch)
    metrics = IpamMetrics(registry)
    writer = AuditWriter(keys, "ipam", TEXTS)
    auditing = Auditing(client, keys, writer, settings.audit.file)
    replica = Replica(
        client,
        keys,
        identity,
        ttl=settings.election_ttl,
        observer=metrics,
        audit=writer,
        release_grace=settings.release_grace,
        release_fence=settings.release_fence,
    )
    ReplicaCollector(replica, registry)
    UnreadableCollector(KINDS, lambda: replica.unreadable, registry)
    life.on_stop(Phase.HAND_OVER, "decisions", replica.hand_over)
    life.on_stop(Phase.RELEASE, "leadership", replica.resign)
    forwarding = Forwarding(replica, listen.tls.files(), insecure=listen.insecure)
    life.on_stop(Phase.CLOSE, "forwarding", forwarding.close)

    sync_metrics = SyncMetrics("ipam", registry)
    route_streams = RouteStreams(
        replica, sync_metrics, listen.tls.files(), insecure=listen.insecure
    )
    AgentCollector("ipam", route_streams.hub, registry)
    life.on_stop(Phase.CLOSE, "route_streams", route_streams.close)
    streams = StreamRecords(
        client,
        keys,
        identity.replica,
        nodes=lambda: route_streams.hub.nodes,
        stops=lambda: server.draining.begun,
    )
    route_streams.hub.on_nodes = streams.note
    service = IpamService(
        Deciding(replica, forwarding),
        encoder,
        metrics,
        server.draining,
        route_streams,
        NodeBounds(settings.node_names, settings.node_share),
    )
    add = ipam_service_pb2_grpc.add_IpamServiceServicer_to_server
    server.register(writing_bytes(add, {"SyncRoutes"}), service)
    auditing.register(server)
    auditing.start(life, Noting(("topology", "ipam"), route_streams.reached))
    await serve_calls(life, server, settings.drain)
    life.start("replica", replica.run())
    life.start("streams", streams.run())
    life.start("health", follow_health(replica, server))
    life.start("store identity", client.until_replaced())
    # they get half of the time, so that the last ones are not cut off
    life.start("drain", route_streams.drain_on(server.draining, settings.drain / 2))
    life.start("lag", LoopLag(registry).run())


async def follow_health(replica: Replica, server: RpcServer) -> None:
    """Says SERVING while the replica is in-sync."""
    while True:
        server.set_serving(serving=replica.in_sync)
        await replica.changed()


def main(arguments: list[str]) -> int:
    """Runs until a signal; returns the exit status."""
    tune()
    return run_service("ipam", IpamSettings, serve, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
