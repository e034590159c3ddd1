"""Builds the endpoints' part of an agent, for `main`.

built = build_endpoints(node=..., reconciler=reconciler, ipam=channels, ...)
await built.recovery.restore()                       # before the reconciler writes
server.register(add_AgentServiceServicer_to_server, built.service)
await built.cni.start(path)
life.start("endpoints", built.recovery.run())
life.on_stop(Phase.DRAIN, "endpoints", built.close)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc.aio

from services.agent.api.service import AgentService
from services.agent.cni.delegated import Delegated
from services.agent.cni.server import CniServer
from services.agent.endpoints.addressing import Addressing
from services.agent.endpoints.ipam_client import IpamClient
from services.agent.endpoints.journal import Journal
from services.agent.endpoints.letting_go import LettingGo
from services.agent.endpoints.lifecycle import Endpoints
from services.agent.endpoints.moving import Moving
from services.agent.endpoints.observers import EndpointObserver
from services.agent.endpoints.ownership import Ownership
from services.agent.endpoints.parts import Parts
from services.agent.endpoints.records import Records
from services.agent.endpoints.recovery import Recovery
from services.agent.endpoints.standing import Standing
from services.agent.endpoints.upkeep import Upkeep
from services.agent.endpoints.view import Guard
from services.agent.guests.dnsmasq import Dnsmasq
from services.agent.guests.guests import Guests
from services.agent.kernel.announce import Announcer, ProbeSettings
from services.agent.kernel.veth import EndpointLinks
from services.agent.routing.reconcile import Reconciler
from services.agent.rules.wanted import WantedEndpoints
from services.agent.status import NodeStatus, no_status
from services.common.model.names import NodeName
from services.common.model.node import Attachment

DRAIN_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Built:
    """The parts that `main` starts and stops."""

    endpoints: Endpoints
    recovery: Recovery
    service: AgentService
    cni: CniServer
    letting_go: LettingGo
    standing: Standing
    guests: Guests
    moving: Moving

    async def close(self) -> None:
        """Takes no more, and lets what was begun end."""
        await self.cni.stop()
        await self.endpoints.close(DRAIN_SECONDS)


def build_endpoints(
    *,
    node: NodeName,
    state_dir: Path,
    reconciler: Reconciler,
    ipam: Sequence[grpc.aio.Channel],
    attachments: Callable[[], Sequence[Attachment]],
    status: Callable[[], Awaitable[NodeStatus]] = no_status,
    probes: ProbeSettings | None = None,
    passed: Callable[[str], None] = lambda _: None,
    conflicted: Callable[[], None] = lambda: None,
    observer: EndpointObserver | None = None,
    guard: Guard | None = None,
    look: float = LOOK_SECONDS,
    wanted: WantedEndpoints | None = None,
) -> Built:
    """Everything that attaching needs; nothing is done yet but the journal's folder made.

    Args:
        node: Name of this node.
        state_dir: Survives a restart of the machine; the journal is below it.
        reconciler: Puts endpoints' routes into the kernel.
        ipam: Channels to replicas of ipam; at least one.
        attachments: The node's interfaces on networks, as they are now.
        status: What the data plane says of itself.
        probes: How to ask for duplicates on `onlink` networks.
        passed: See `Parts`.
        conflicted: See `Addressing`.
        observer: Is told how attaching and detaching went.
        guard: Keeps endpoints closed until their rules are in force; None: there is no policy.
        look: Seconds between looks at what endpoints have in the kernel.
        wanted: What orchestrators want here; None: nobody says so.
    """
    links = EndpointLinks()
    client = IpamClient(ipam, node)
    addressing = Addressing(
        client, Announcer(probes), links, lambda: reconciler.remote, attachments, conflicted
    )
    records = Records(Journal(state_dir / "endpoints"))
    standing = Standing(reconciler)
    ownership = Ownership(node, addressing, standing, lambda: reconciler.remote)
    parts = Parts(
        records,
        links,
        addressing,
        reconciler,
        standing,
        ownership,
        guard,
        keeps=(lambda _: False) if wanted is None else wanted.keeps,
        passed=passed,
    )
    endpoints = Endpoints(parts, observer=observer)
    moving = Moving(node, endpoints, parts)
    upkeep = Upkeep(endpoints, records, links, addressing, standing, ownership)
    guests = Guests(
        Dnsmasq(state_dir / "guests"),
        lambda: reconciler.remote.networks if reconciler.in_sync else None,
        standing,
    )
    reconciler.require(lambda: (records.unwritable,) if records.unwritable else ())
    return Built(
        endpoints=endpoints,
        recovery=Recovery(endpoints, records, links, client, standing, upkeep, look),
        service=AgentService(node, endpoints, moving, reconciler, status),
        cni=CniServer(
            endpoints, records, reconciler, Delegated(addressing, links, reconciler), wanted
        ),
        letting_go=LettingGo(standing, reconciler, client),
        standing=standing,
        guests=guests,
        moving=moving,
    )
