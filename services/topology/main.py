"""Builds and runs one replica of the topology service."""

from __future__ import annotations

import sys
import uuid

import structlog
from romana.topology.v1 import topology_service_pb2_grpc

from services.common.audit.serving import Auditing
from services.common.audit.writer import AuditWriter
from services.common.etcd.client import open_store
from services.common.etcd.epoch import ensure_epoch
from services.common.etcd.keys import Keys
from services.common.process.certificate_metrics import CertificateCollector
from services.common.process.command import Flag, run_service
from services.common.process.lifecycle import Lifecycle
from services.common.process.logs import current_request
from services.common.process.metrics import LoopLag, new_registry
from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.server import RpcServer
from services.common.rpc.serving import serve_calls, serve_metrics
from services.common.store.unreadable_metrics import UnreadableCollector
from services.topology.api.audited import TEXTS
from services.topology.api.service import Identity, TopologyService
from services.topology.forms.apply_request import ApplyRequest
from services.topology.forms.initial import read_initial
from services.topology.metrics import TopologyMetrics
from services.topology.settings import TopologySettings
from services.topology.store.apply import ApplyOptions, TopologyChanges
from services.topology.store.cache import KINDS
from services.topology.store.nodes import NodeChanges
from services.topology.store.store import TopologyStore

log = structlog.get_logger(__name__)


async def serve(life: Lifecycle, settings: TopologySettings) -> None:
    """Starts everything; the life cycle stops it."""
    initial = read_initial(settings.initial_topology) if settings.initial_topology else None
    registry = new_registry("topology")
    CertificateCollector(
        {"calls": settings.listen.tls.files(), "etcd": settings.etcd.tls.files()}, registry
    )
    client = open_store(life, settings.etcd, registry)
    keys = Keys(settings.etcd.root)
    server = RpcServer(RpcMetrics(registry))
    listen = settings.listen
    await serve_metrics(life, settings.metrics.address, registry, lambda: server.serving)
    metrics = TopologyMetrics(registry)
    writer = AuditWriter(keys, "topology", TEXTS)
    auditing = Auditing(client, keys, writer, settings.audit.file)
    store = TopologyStore(client, keys, metrics, writer)
    UnreadableCollector(KINDS, lambda: store.unreadable, registry)
    topology = TopologyChanges(store, metrics)
    identity = Identity(uuid.uuid4().hex[:12], await ensure_epoch(client, keys))
    nodes = NodeChanges(store, metrics, settings.nodes_may)
    service = TopologyService(identity, store, topology, nodes, metrics, server.draining)
    server.register(topology_service_pb2_grpc.add_TopologyServiceServicer_to_server, service)
    auditing.register(server)
    auditing.start(life)
    life.start("store", store.run())
    life.start("store identity", client.until_replaced())
    life.start("lag", LoopLag(registry).run())
    server.listen(listen.address, tls=listen.tls.files(), insecure=listen.insecure)
    await serve_calls(life, server, settings.drain)
    await store.wait_in_sync()
    if initial is not None and store.cache.layout_known:
        await _apply_initial(topology, initial)
    await topology.place_misplaced()
    server.set_serving(serving=True)


async def _apply_initial(topology: TopologyChanges, initial: ApplyRequest) -> None:
    current_request.set("initial-topology")
    applied = await topology.apply(initial, ApplyOptions(only_first=True))
    if not applied.changed:
        log.info("initial_topology_not_applied", why="there is a topology already")


def main(arguments: list[str]) -> int:
    """Runs until a signal; returns the exit status."""
    initial = Flag(
        "--initial-topology",
        "FILE",
        "topology file, flat or kubeadm: applied if there is none yet",
    )
    return run_service("topology", TopologySettings, serve, arguments, [initial])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
