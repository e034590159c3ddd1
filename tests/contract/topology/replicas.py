"""Replicas of the topology service, over gRPC, on a real etcd."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc.aio
from prometheus_client import CollectorRegistry
from romana.topology.v1 import topology_service_pb2_grpc

from services.common.audit.writer import AuditWriter
from services.common.etcd.client import EtcdClient
from services.common.etcd.keys import Keys
from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.server import RpcServer
from services.common.tls import TlsFiles
from services.topology.api.audited import TEXTS
from services.topology.api.service import Identity, TopologyService
from services.topology.metrics import TopologyMetrics
from services.topology.store.apply import TopologyChanges
from services.topology.store.nodes import NodeChanges
from services.topology.store.store import TopologyStore

if TYPE_CHECKING:
    from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceAsyncStub as Stub


@dataclass(frozen=True)
class Replica:
    """One replica, with its parts at hand."""

    stub: Stub
    store: TopologyStore
    topology: TopologyChanges
    server: RpcServer
    registry: CollectorRegistry
    address: str
    """With TLS nobody can speak by way of `stub`."""


@contextlib.asynccontextmanager
async def replica_of(
    client: EtcdClient, keys: Keys, tls: TlsFiles | None = None
) -> AsyncIterator[Replica]:
    registry = CollectorRegistry()
    metrics = TopologyMetrics(registry)
    store = TopologyStore(client, keys, metrics, AuditWriter(keys, "topology", TEXTS))
    topology = TopologyChanges(store, metrics)
    server = RpcServer(RpcMetrics(registry))
    service = TopologyService(
        Identity(uuid.uuid4().hex[:12], "epoch"),
        store,
        topology,
        NodeChanges(store, metrics),
        metrics,
        server.draining,
    )
    server.register(topology_service_pb2_grpc.add_TopologyServiceServicer_to_server, service)
    address = str(server.listen("127.0.0.1:0", tls=tls))
    following = asyncio.create_task(store.run())
    await store.wait_in_sync()
    await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = topology_service_pb2_grpc.TopologyServiceStub(channel)
            yield Replica(stub, store, topology, server, registry, address)
    finally:
        await server.stop(0)
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
