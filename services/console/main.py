"""Builds and runs the console."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from typing import Final

from romana.audit.v1.audit_service_pb2_grpc import AuditServiceStub
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.common.process.certificate_metrics import CertificateCollector
from services.common.process.command import run_service
from services.common.process.gc_tuning import tune
from services.common.process.lifecycle import Lifecycle, Phase
from services.common.process.metrics import LoopLag, new_registry
from services.common.rpc.replicas import Replicas
from services.common.rpc.serving import serve_metrics
from services.common.socket_address import TcpAddress, parse_address
from services.console.api.app import application
from services.console.api.server import ConsoleServer
from services.console.calls.prometheus import Prometheus
from services.console.follow.world import Remote, World
from services.console.metrics import ConsoleCollector
from services.console.settings import ConsoleSettings

PROGRAM: Final = "romana-console"
"""What it calls itself."""


async def serve(life: Lifecycle, settings: ConsoleSettings) -> None:
    """Starts everything; the life cycle stops it."""
    registry = new_registry("console")
    tls, insecure = settings.tls.files(), settings.insecure
    remote = Remote(
        Replicas(TopologyServiceStub, settings.topology, tls, insecure=insecure, program=PROGRAM),
        Replicas(IpamServiceStub, settings.ipam, tls, insecure=insecure, program=PROGRAM),
        Replicas(PolicyServiceStub, settings.policy, tls, insecure=insecure, program=PROGRAM),
        Replicas(AuditServiceStub, settings.topology, tls, insecure=insecure, program=PROGRAM),
    )
    life.on_stop(Phase.CLOSE, "topology", remote.topology.close)
    life.on_stop(Phase.CLOSE, "ipam", remote.ipam.close)
    life.on_stop(Phase.CLOSE, "policy", remote.policy.close)
    life.on_stop(Phase.CLOSE, "audit", remote.audit.close)
    addresses = {
        "topology": settings.topology,
        "ipam": settings.ipam,
        "policy": settings.policy,
    }
    world = World(remote, addresses)
    ConsoleCollector(world, registry)
    CertificateCollector({"calls": tls}, registry)
    await serve_metrics(life, settings.metrics.address, registry, lambda: world.is_known)
    prometheus = None
    if settings.prometheus:
        prometheus = Prometheus(settings.prometheus)
        life.on_stop(Phase.CLOSE, "prometheus", prometheus.close)
    listen = settings.listen
    serving = listen.serving("listen.address")
    app = application(
        world,
        prometheus,
        hosts(listen.address, listen.names),
        allow_changes=settings.allow_changes,
        tls=serving is not None,
    )
    server = ConsoleServer(app, serving.context if serving is not None else None)
    await server.start(listen.address)
    life.on_stop(Phase.DRAIN, "server", server.stop)
    if serving is not None:
        life.start("TLS", serving.run())
    for name, task in world.tasks().items():
        life.start(name, task)
    life.start("lag", LoopLag(registry).run())
    life.ready()


def hosts(address: str, names: Iterable[str]) -> set[str]:
    """The names under which it is served, in lower case and as a URL has them."""
    parsed = parse_address(address)
    found = {name.lower() for name in names} | {"localhost", "127.0.0.1", "[::1]"}
    if isinstance(parsed, TcpAddress):
        if parsed.host:
            found.add(f"[{parsed.host}]" if ":" in parsed.host else parsed.host.lower())
        if not parsed.is_local:
            found |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    return found


def main(arguments: list[str]) -> int:
    """Runs until a signal; returns the exit status."""
    tune()
    return run_service("console", ConsoleSettings, serve, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
