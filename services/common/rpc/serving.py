"""Serves calls and metrics for the life of a process."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry

from services.common.process.lifecycle import Lifecycle, Phase
from services.common.rpc.metrics_pages import metrics_server
from services.common.rpc.server import RpcServer


async def serve_metrics(
    life: Lifecycle, address: str, registry: CollectorRegistry, ready: Callable[[], bool]
) -> None:
    """Serves them from now on; `/readyz` says what `ready` does. Raises as `HttpServer.start`."""
    server = metrics_server(registry, ready)
    await server.start(address)
    life.on_stop(Phase.CLOSE, "metrics", server.stop)


async def serve_calls(life: Lifecycle, server: RpcServer, drain: float) -> None:
    """Serves them from now on; when the process stops, they have `drain` seconds to end.

    The supervisor is told that the process is ready when health says SERVING.
    """
    await server.start()
    server.on_serving(life.ready)
    life.on_stop(Phase.NOT_SERVING, "health", server.drain)
    life.on_stop(Phase.DRAIN, "server", lambda: server.stop(drain))
