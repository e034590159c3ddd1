"""Opens the store for the life of a process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from services.common.etcd.client import EtcdClient
from services.common.etcd.metrics import StoreMetrics
from services.common.process.lifecycle import Lifecycle, Phase
from services.common.process.settings import EtcdSettings


def open_store(life: Lifecycle, settings: EtcdSettings, registry: CollectorRegistry) -> EtcdClient:
    """A client that is closed at the end, and whose requests are counted."""
    client = EtcdClient(
        settings.endpoints,
        tls=settings.tls.files(),
        timeout=settings.timeout,
        observer=StoreMetrics(registry),
    )
    life.on_stop(Phase.CLOSE, "etcd", client.close)
    return client
