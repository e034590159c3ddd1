"""Builds and runs one replica of the policy service."""

from __future__ import annotations

import sys
import uuid

from prometheus_client import Histogram
from romana.policy.v1 import policy_service_pb2_grpc

from services.common.audit.serving import Auditing, Noting
from services.common.audit.writer import AuditWriter
from services.common.etcd.client import open_store
from services.common.etcd.election import Election
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
from services.common.rpc.sibling_replicas import SiblingReplicas
from services.common.rpc.status import StatusEncoder
from services.common.store.unreadable_metrics import UnreadableCollector
from services.common.sync.metrics import AgentCollector, SyncMetrics
from services.common.sync.stream_server import writing_bytes
from services.policy.agents.kernel_asking import kernel_asking
from services.policy.agents.realization import Realization
from services.policy.agents.streams import RuleStreams
from services.policy.api.audited import TEXTS
from services.policy.api.service import Parts, PolicyService
from services.policy.engine.engine import Engine
from services.policy.gauges import PolicyCollector
from services.policy.metrics import PolicyMetrics
from services.policy.settings import PolicySettings
from services.policy.store.apply import PolicyChanges
from services.policy.store.device_changes import DeviceChanges
from services.policy.store.device_health import DeviceHealth
from services.policy.store.endpoints import EndpointChanges
from services.policy.store.feed import KINDS
from services.policy.store.gone_nodes import GoneNodes
from services.policy.store.store import PolicyStore

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)


async def serve(life: Lifecycle, settings: PolicySettings) -> None:
    """Starts everything; the life cycle stops it."""
    registry = new_registry("policy")
    CertificateCollector(
        {"calls": settings.listen.tls.files(), "etcd": settings.etcd.tls.files()}, registry
    )
    listen = settings.listen
    client = open_store(life, settings.etcd, registry)
    keys = Keys(settings.etcd.root)
    encoder = StatusEncoder()
    server = RpcServer(RpcMetrics(registry), encoder)
    writer = AuditWriter(keys, "policy", TEXTS)
    auditing = Auditing(client, keys, writer, settings.audit.file)
    store = PolicyStore(client, keys, Engine(), writer)
    await serve_metrics(life, settings.metrics.address, registry, lambda: store.in_sync)
    metrics = PolicyMetrics(registry)
    recompute = Histogram(
        "romana_policy_recompute_seconds",
        "From a change that was seen to what nodes get.",
        buckets=_SECONDS,
        registry=registry,
    )
    epoch = await ensure_epoch(client, keys)
    address = server.listen(listen.address, tls=listen.tls.files(), insecure=listen.insecure)
    rule_streams = RuleStreams(store, epoch, SyncMetrics("policy", registry), recompute.observe)
    AgentCollector("policy", rule_streams.hub, registry)
    PolicyCollector(store, rule_streams, registry)
    UnreadableCollector(KINDS, lambda: store.unreadable, registry)
    own = listen.advertise or str(address)
    presence = Election(client, keys.policy_replicas, own.encode(), settings.presence_ttl)
    life.on_stop(Phase.RELEASE, "presence", presence.resign)
    siblings = SiblingReplicas(
        lambda: {item.value.decode() for item in presence.candidates} - {own},
        listen.tls.files(),
        insecure=listen.insecure,
    )
    life.on_stop(Phase.CLOSE, "siblings", siblings.close)
    replica = uuid.uuid4().hex[:12]
    realization = Realization(store, rule_streams, siblings, replica)
    parts = Parts(
        store,
        PolicyChanges(store, metrics),
        EndpointChanges(store, metrics),
        DeviceChanges(store, metrics),
        rule_streams,
        realization,
        kernel_asking(rule_streams.hub, siblings, replica),
        encoder,
    )
    add = policy_service_pb2_grpc.add_PolicyServiceServicer_to_server
    server.register(writing_bytes(add, {"SyncRules"}), PolicyService(parts))
    auditing.register(server)
    auditing.start(life, Noting(("policy",), realization.reached))
    await serve_calls(life, server, settings.drain)
    life.start("store", store.run())
    life.start("devices", DeviceHealth(store).run())
    life.start("gone nodes", GoneNodes(store).run())
    life.start("presence", presence.run())
    life.start("health", follow_health(store, server))
    life.start("store identity", client.until_replaced())
    # they get half of the time, so that the last ones are not cut off
    life.start("drain", rule_streams.drain_on(server.draining, settings.drain / 2))
    life.start("lag", LoopLag(registry).run())


async def follow_health(store: PolicyStore, server: RpcServer) -> None:
    """Says SERVING from when everything has been read."""
    while True:
        server.set_serving(serving=store.in_sync)
        await store.changed()


def main(arguments: list[str]) -> int:
    """Runs until a signal; returns the exit status."""
    tune()
    return run_service("policy", PolicySettings, serve, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
