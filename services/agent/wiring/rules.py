"""Builds the part of an agent that enforces policies, for `main`.

policy = build_policy(node=..., channels=..., ...)      nothing is done yet
reconciler.on_endpoint(policy.endpoint)                 before endpoints are restored
life.start(..) for policy.tasks
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc.aio
import structlog
from prometheus_client import CollectorRegistry

from services.agent.kernel.conntrack import TcpConnection
from services.agent.kernel.netlink import KernelUnavailable
from services.agent.kernel.nftables import table_names
from services.agent.metrics import PolicyCollector, PolicyMetrics
from services.agent.model import LocalEndpoint
from services.agent.routing.reconcile import Reconciler
from services.agent.rules.ending import Ending
from services.agent.rules.enforce import Enforcement
from services.agent.rules.firewall import Firewall
from services.agent.rules.intake import rule_stream
from services.agent.rules.render_rules import Counted, Logging
from services.agent.rules.reporting import Reporting
from services.agent.rules.spool import RuleSpool
from services.agent.rules.wanted import WantedEndpoints
from services.agent.status import PolicyStatus, RuleCount
from services.agent.steering.memory import DeviceMemory
from services.agent.steering.steering import Steering
from services.agent.streams.agent_stream import AgentStream
from services.common.model.failsafe import Failsafe
from services.common.model.names import EndpointName, NodeName
from services.common.model.network import Address
from services.common.sync.receiver import Receiver

log = structlog.get_logger(__name__)

RULES_SECONDS: Final = 2.0
"""For which attaching waits for an endpoint's rules, if policy is there to say them."""
ENDED_SECONDS: Final = 2.0
"""For which detaching waits for the end of connections before the address is given back."""


class Connects:
    """Passes on how the stream fares, and has everything reported at each connect."""

    def __init__(self, metrics: PolicyMetrics, reporting: Reporting) -> None:
        self._metrics = metrics
        self._reporting = reporting
        self.disconnected = metrics.disconnected

    def connected(self, peer: str) -> None:
        self._metrics.connected(peer)
        self._reporting.report_all()


@dataclass(frozen=True, slots=True)
class PolicyPart:
    """What `main` starts, and what attaching asks."""

    enforcement: Enforcement
    stream: AgentStream[bytes]
    reporting: Reporting
    wanted: WantedEndpoints
    steering: Steering

    @property
    def tasks(self) -> Mapping[str, Callable[[], Coroutine[object, object, None]]]:
        """To be kept going, beside enforcement."""
        return {
            "rules": self.stream.run,
            "reporting": self.reporting.run,
            "devices": self.steering.follow,
            "device probes": self.steering.probing.run,
            "device reports": self.steering.report,
        }

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the agent is not ready, for people."""
        return (*self.enforcement.reasons, *self.stream.reasons)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls it after every round, in the event loop."""
        self.enforcement.on_change(listener)

    async def run(self) -> None:
        """Enforces until it is cancelled."""
        await self.enforcement.run()

    def status(self) -> PolicyStatus:
        enforcement, applied = self.enforcement, self.stream.applied
        counts = enforcement.counts
        return PolicyStatus(
            connected=self.stream.connected,
            epoch=applied.epoch if applied else "",
            revision=applied.revision if applied else 0,
            open_endpoints=enforcement.open_endpoints,
            rule_sets=enforcement.rule_sets,
            groups=enforcement.groups,
            rules=tuple(
                sorted(
                    RuleCount(of.policy, of.direction.value, of.rule, *counts[name])
                    for name, of in enforcement.counted.items()
                    if isinstance(of, Counted) and name in counts
                )
            ),
            dropped={reason: counts.get(reason, (0, 0))[0] for reason in table_names.DROPS},
        )

    def endpoint(self, name: EndpointName, endpoint: LocalEndpoint | None) -> None:
        """An endpoint is here, or None: not any more."""
        self.enforcement.put(name, endpoint)
        self.reporting.put(name, endpoint)

    async def close_to(self, name: EndpointName, interface: str) -> None:
        """Closes an interface before it is made; WrongState if the kernel refuses."""
        await self.enforcement.close_to(name, interface)

    def gone(self, name: EndpointName) -> None:
        """An endpoint's interface is not there any more, or not ours."""
        self.enforcement.forget(name)

    async def ended(self) -> None:
        """Waits a while until connections of endpoints that have gone are ended."""
        if self.enforcement.known:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENDED_SECONDS):
                    await self.enforcement.reached()

    async def connections_of(self, addresses: Collection[Address]) -> Sequence[TcpConnection]:
        """What the kernel tracks of endpoints; nothing if it does not say."""
        try:
            return await self.enforcement.connections_of(addresses)
        except KernelUnavailable as error:
            log.warning("connections_unknown", message=str(error))
            return ()

    async def go_on(self, connections: Sequence[TcpConnection]) -> None:
        """Goes on with connections as far as rules allow, if the kernel lets us."""
        try:
            await self.enforcement.go_on(connections)
        except KernelUnavailable as error:
            log.warning("connections_lost", message=str(error))

    async def opened(self, name: EndpointName) -> bool:
        """Waits a while for an endpoint's rules, if policy is there; it is closed until then.

        Says whether it has them.
        """
        if not self.stream.in_sync:
            return False
        try:
            async with asyncio.timeout(RULES_SECONDS):
                await self.enforcement.opened(name)
        except TimeoutError:
            log.warning("endpoint_without_rules", endpoint=name)
            return False
        return True


def build_policy(
    *,
    node: NodeName,
    channels: Mapping[str, grpc.aio.Channel],
    state_dir: Path,
    receiver: Receiver[bytes],
    failsafe: Failsafe,
    logging: Logging | None,
    registry: CollectorRegistry,
    full_check: float,
    reconciler: Reconciler,
    enter: Callable[[], None] = lambda: None,
) -> PolicyPart:
    """Everything that enforcing needs.

    Args:
        node: Name of this node.
        channels: To replicas of the policy service, by address; at least one.
        state_dir: Survives a restart of the machine.
        receiver: What `RuleSpool.load` said.
        failsafe: What policies on the node do not cut off.
        logging: How denied packets are logged; None: not.
        registry: For metrics.
        full_check: Seconds between comparisons of all of the table.
        reconciler: Gets the ways to devices, and says where networks are.
        enter: Called first in the kernel's thread, for tests.
    """
    metrics = PolicyMetrics(registry)
    firewall = Firewall(enter=enter)
    ending = Ending(firewall, enter=enter)
    enforcement = Enforcement(firewall, ending, failsafe, logging, metrics, check=full_check)
    reporting = Reporting(node, tuple(channels.values()))
    wanted = WantedEndpoints()
    stream = rule_stream(
        node,
        channels,
        enforcement,
        wanted,
        RuleSpool(state_dir),
        receiver,
        Connects(metrics, reporting),
        failsafe=failsafe,
    )
    PolicyCollector(enforcement, lambda: stream.connected, registry)
    steering = Steering(
        node, tuple(channels.values()), reconciler, enforcement, DeviceMemory(state_dir)
    )
    return PolicyPart(enforcement, stream, reporting, wanted, steering)
