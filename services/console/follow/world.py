"""All that the console knows, and the tasks that keep it up to date. Nothing of it is stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.topology.v1 import topology_service_pb2 as topology_api

from services.common.rpc.replicas import Replicas
from services.common.rpc.watching import Watch, follow
from services.console.follow.agents import AgentsFollower
from services.console.follow.authors import AuthorsFollower
from services.console.follow.blocks import KnownBlocks
from services.console.follow.live import Live
from services.console.follow.policies import PoliciesFollower
from services.console.follow.services import ServicesFollower
from services.console.follow.topology import KnownTopology
from services.console.follow.usage import UsageFollower
from services.console.picture.changes import ChangeLog

if TYPE_CHECKING:
    from romana.audit.v1.audit_service_pb2_grpc import AuditServiceAsyncStub
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub
    from romana.topology.v1.topology_service_pb2_grpc import TopologyServiceAsyncStub

BROWSERS_MOST: Final = 500


@dataclass(frozen=True, slots=True)
class Remote:
    """Romana's services."""

    topology: Replicas[TopologyServiceAsyncStub]
    ipam: Replicas[IpamServiceAsyncStub]
    policy: Replicas[PolicyServiceAsyncStub]
    audit: Replicas[AuditServiceAsyncStub]


class World:
    """What is shown."""

    def __init__(self, remote: Remote, addresses: Mapping[str, Sequence[str]]) -> None:
        """`addresses`: of every replica, by name of the service."""
        self.remote = remote
        self.live = Live(BROWSERS_MOST)
        woken, authors_woken = asyncio.Event(), asyncio.Event()

        def changed() -> None:
            woken.set()
            authors_woken.set()

        self.changes = ChangeLog(changed)
        self.topology = KnownTopology(self.changes, self.live, time.time)
        self.blocks = KnownBlocks(self.changes, self.live, time.time)
        self.agents = AgentsFollower(remote.ipam, remote.policy, self.changes, self.live, woken)
        self.authors = AuthorsFollower(remote.audit, self.changes, self.live, authors_woken)
        self.policies = PoliciesFollower(remote.policy, self.changes, self.live, time.time)
        self.usage = UsageFollower(remote.ipam, self.topology, self.blocks, time.time)
        stubs: dict[str, Sequence[Any]] = {
            "topology": remote.topology.stubs,
            "ipam": remote.ipam.stubs,
            "policy": remote.policy.stubs,
        }
        self.services = ServicesFollower(
            [
                (name, address, stub)
                for name, each in stubs.items()
                for address, stub in zip(addresses[name], each, strict=True)
            ],
            self.live,
        )

    @property
    def is_known(self) -> bool:
        """Topology and blocks have been read."""
        return self.topology.known and self.blocks.known

    def tasks(self) -> dict[str, Coroutine[object, object, None]]:
        """What keeps it up to date, by name."""
        topology = Watch(
            "topology",
            self.remote.topology.stubs,
            lambda stub: stub.WatchTopology(topology_api.WatchTopologyRequest()),
            self.topology.begin,
            self.topology.take,
            self.services.following("topology"),
        )
        blocks = Watch(
            "blocks",
            self.remote.ipam.stubs,
            lambda stub: stub.WatchBlocks(ipam_api.WatchBlocksRequest()),
            self.blocks.begin,
            self.blocks.take,
            self.services.following("blocks"),
        )
        return {
            "topology": follow(topology),
            "blocks": follow(blocks),
            "agents": self.agents.run(),
            "authors": self.authors.run(),
            "policies": self.policies.run(),
            "services": self.services.run(),
            "usage": self.usage.run(),
        }
