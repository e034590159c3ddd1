"""Builds and runs the agent of one node."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import grpc.aio
import structlog
from prometheus_client import CollectorRegistry
from romana.agent.v1 import agent_service_pb2_grpc
from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceStub

from services.agent.endpoints.collecting import collect
from services.agent.kept import Kept
from services.agent.kernel.drivers import KernelDrivers
from services.agent.kernel.foreign_forwarding import closed_chains
from services.agent.lock import StateLock
from services.agent.metrics import AgentCollector, AgentMetrics
from services.agent.model import Myself
from services.agent.registering import Registering
from services.agent.routing.intake import route_stream
from services.agent.routing.reconcile import Reconciler, Timing
from services.agent.routing.spool import Spool
from services.agent.rules.firewall import Firewall
from services.agent.rules.off import Off
from services.agent.rules.spool import RuleSpool
from services.agent.settings import AgentSettings
from services.agent.status import NodeStatus
from services.agent.wiring.endpoints import Built, build_endpoints
from services.agent.wiring.registering import build_registering
from services.agent.wiring.rules import PolicyPart, build_policy
from services.common.model.node import Attachment
from services.common.process.certificate_metrics import CertificateCollector
from services.common.process.command import Flag, run_service
from services.common.process.lifecycle import Lifecycle, Phase
from services.common.process.metrics import LoopLag, new_registry
from services.common.rpc.channel import open_channel
from services.common.rpc.metrics import RpcMetrics
from services.common.rpc.replicas import Replicas
from services.common.rpc.server import RpcServer
from services.common.rpc.serving import serve_calls, serve_metrics

if TYPE_CHECKING:  # it exists for type checkers only
    from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceAsyncStub

log = structlog.get_logger(__name__)

_FLAGS = (
    Flag("--node", "NAME", "this node; the host's name by default"),
    Flag("--ipam", "ADDRESSES", "host:port, separated by commas"),
    Flag("--policy", "ADDRESSES", "host:port, separated by commas; none: nothing is enforced"),
    Flag("--topology", "ADDRESSES", "host:port, separated by commas"),
    Flag("--state-dir", "FOLDER", "survives a restart of the machine"),
)


async def serve(life: Lifecycle, settings: AgentSettings) -> None:
    """Starts everything; the life cycle stops it."""
    registry = new_registry("agent")
    CertificateCollector({"calls": settings.tls.files()}, registry)
    metrics = AgentMetrics(registry)
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    StateLock(settings.state_dir)  # until this process ends
    spool = Spool(settings.state_dir)
    kernel = KernelDrivers(settings.state_dir)
    known: tuple[Attachment, ...] | None = settings.declared() or None
    if known is None:
        known = await asyncio.to_thread(spool.load_attachments)
    reconciler = Reconciler(
        kernel,
        Myself(settings.name, known or ()),
        attachments_known=known is not None or not settings.register_node,
        made_addresses=settings.made_addresses(),
        numbers=await asyncio.to_thread(spool.load_numbers),
        keep_numbers=spool.save_numbers,
        timing=Timing(settings.full_check, settings.quick_check),
        observer=metrics,
    )
    built: Built | None = None
    channels = _channels(life, settings, "ipam", settings.ipam)
    stream = route_stream(
        settings.name,
        channels,
        reconciler,
        spool,
        await asyncio.to_thread(spool.load),
        metrics,
        lambda: built.standing.disowned if built else {},
    )
    AgentCollector(
        reconciler,
        lambda: stream.connected,
        lambda: len(built.standing.disowned) if built else 0,
        lambda: built is not None and built.letting_go.removed,
        registry,
    )
    policy = await _policy(life, settings, registry, reconciler)
    rules = policy or Off(Firewall(), RuleSpool(settings.state_dir).forget)
    kept: list[Kept] = []
    reconciler.require(
        lambda: (*stream.reasons, *rules.reasons, *(why for one in kept for why in one.reasons))
    )

    registering: Registering | None = None

    async def status() -> NodeStatus:
        applied = stream.applied
        closed = await asyncio.to_thread(closed_chains)
        return NodeStatus(
            connected=stream.connected,
            epoch=applied.epoch if applied else "",
            revision=applied.revision if applied else 0,
            failures=reconciler.failures,
            routes=reconciler.routes,
            repaired=metrics.repaired,
            policy=None if policy is None else policy.status(),
            warnings=(
                *(f"chain {chain} drops what it does not accept" for chain in closed),
                *((registering.warning,) if registering and registering.warning else ()),
            ),
        )

    built = build_endpoints(
        node=settings.name,
        state_dir=settings.state_dir,
        reconciler=reconciler,
        ipam=tuple(channels.values()),
        attachments=lambda: reconciler.attachments,
        status=status,
        conflicted=metrics.conflicted,
        observer=metrics,
        guard=policy,
        look=settings.quick_check,
        wanted=None if policy is None else policy.wanted,
    )
    reconciler.on_endpoint(built.guests.put)
    await built.recovery.restore()
    server = RpcServer(RpcMetrics(registry))
    server.register(agent_service_pb2_grpc.add_AgentServiceServicer_to_server, built.service)
    settings.socket.parent.mkdir(parents=True, exist_ok=True)
    settings.cni_socket.parent.mkdir(parents=True, exist_ok=True)
    server.listen(f"unix:{settings.socket.absolute()}")
    await serve_metrics(life, settings.metrics.address, registry, lambda: reconciler.ready)
    await serve_calls(life, server, settings.drain)
    await built.cni.start(settings.cni_socket)
    # Not when health says SERVING: the services may be pods of a runtime that waits for this unit.
    life.ready()
    life.on_stop(Phase.DRAIN, "endpoints", built.close)
    life.on_stop(Phase.CLOSE, "spool", stream.save)

    reconciler.on_change(built.moving.look)
    reconciler.on_change(lambda: server.set_serving(serving=reconciler.ready))
    rules.on_change(lambda: server.set_serving(serving=reconciler.ready))
    life.start("reconciler", reconciler.run())
    life.start("enforcement", rules.run())
    life.start("lag", LoopLag(registry).run())
    tasks = {
        "routes": stream.run,
        "endpoints": built.recovery.run,
        "guests": built.guests.run,
        "moving endpoints": built.moving.run,
    }
    if policy is not None:
        life.on_stop(Phase.CLOSE, "rules", policy.stream.save)
        tasks |= policy.tasks
        tasks["collecting"] = partial(collect, built.endpoints, policy.wanted)
    if settings.register_node:
        topology: Replicas[TopologyServiceAsyncStub] = Replicas(
            TopologyServiceStub,
            settings.topology,
            settings.tls.files(),
            insecure=settings.insecure,
            program="romana-agent",
        )
        life.on_stop(Phase.CLOSE, "topology", topology.close)
        own = await asyncio.to_thread(spool.load_address)
        registering = build_registering(
            settings, topology, kernel, spool, reconciler, own, built.letting_go.set_removed
        )
        tasks["registering"] = registering.run
        tasks["letting go"] = built.letting_go.run
        reconciler.require(lambda: tuple(filter(None, (registering.removed,))))
    for name, work in tasks.items():
        kept.append(Kept(name, work))
        life.start(name, kept[-1].run())


def _channels(
    life: Lifecycle, settings: AgentSettings, service: str, addresses: Sequence[str]
) -> Mapping[str, grpc.aio.Channel]:
    """By address, to replicas of a service; closed at the end."""
    tls = settings.tls.files()
    channels = {
        address: open_channel(address, tls=tls, insecure=settings.insecure, program="romana-agent")
        for address in addresses
    }
    for address, channel in channels.items():
        life.on_stop(Phase.CLOSE, f"{service} {address}", channel.close)
    return channels


async def _policy(
    life: Lifecycle, settings: AgentSettings, registry: CollectorRegistry, reconciler: Reconciler
) -> PolicyPart | None:
    """What enforces policies, if there is a service to say them."""
    if not settings.policy:
        return None
    policy = build_policy(
        node=settings.name,
        channels=_channels(life, settings, "policy", settings.policy),
        state_dir=settings.state_dir,
        receiver=await asyncio.to_thread(RuleSpool(settings.state_dir).load),
        failsafe=settings.failsafe(),
        logging=settings.rules.logging(),
        registry=registry,
        full_check=settings.full_check,
        reconciler=reconciler,
    )
    reconciler.on_endpoint(policy.endpoint)
    return policy


def main(arguments: list[str]) -> int:
    """Runs until a signal; returns the exit status."""
    # The default thresholds look through all young objects every 700 allocations.
    gc.set_threshold(50_000, 50, 100)
    return run_service("agent", AgentSettings, serve, arguments, _FLAGS, uvloop=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
