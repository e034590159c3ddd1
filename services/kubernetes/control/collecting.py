"""Gives back addresses of pods that are gone, which nobody else did.

A container runtime that never calls GC, a node that died, a replica that allocated for a binding
and ended: what has addresses by a pod's name and is no pod's, or is on another node than its pod,
is looked at twice, some time apart; what stays with a pod's name (`wanted.sticky`), for longer.
Then the API server is asked, whether that is really so, and policy, whether a node has it: that
counts only while the node's agent has a stream, so that its word is known. What cannot be asked is
left as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from services.common.errors import RomanaError
from services.common.model.names import EndpointName, NodeName
from services.common.model.pods import is_pod
from services.kubernetes.calls.ipam import IpamCalls
from services.kubernetes.calls.policy import PolicyCalls
from services.kubernetes.cluster.fresh import FreshReads
from services.kubernetes.metrics import ControllerMetrics, Outcome, What
from services.kubernetes.wanted.sticky import is_sticky

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 30.0


class Collecting:
    """The looks, one after the other."""

    def __init__(
        self,
        ipam: IpamCalls,
        policy: PolicyCalls,
        fresh: FreshReads,
        metrics: ControllerMetrics,
        node_of: Callable[[EndpointName], str | None],
        *,
        kept_seconds: float,
    ) -> None:
        """`node_of`: the node that the pod of an endpoint is bound to; empty: not yet to any; None:
        there is no such pod. `kept_seconds`: for which addresses stay that are a pod's name's."""
        self._ipam = ipam
        self._policy = policy
        self._fresh = fresh
        self._metrics = metrics
        self._node_of = node_of
        self._kept_seconds = kept_seconds
        self._seen: dict[EndpointName, float] = {}
        """That were no pod's at the last look, and when they were so first."""

    async def run(self) -> None:
        """Looks for ever."""
        self._seen = {}
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except RomanaError as error:
                self._seen = {}
                log.warning("leaks_not_looked_for", message=error.message)

    async def look(self) -> None:
        """Looks once; raises RomanaErrors."""
        there = await self._ipam.allocations()
        leaked = {
            EndpointName(name): node
            for name, node in there.items()
            if is_pod(name) and self._node_of(EndpointName(name)) not in {"", node}
        }
        now = asyncio.get_running_loop().time()
        twice = {name: node for name, node in leaked.items() if self._is_due(name, now)}
        self._seen = {name: self._seen.get(name, now) for name in leaked}
        if not twice:
            return
        heard = await self._policy.connected(set(twice.values()))
        for name, node in twice.items():
            if node in heard:
                await self._collect(name, node)

    def _is_due(self, name: EndpointName, now: float) -> bool:
        since = self._seen.get(name)
        return since is not None and (not is_sticky(name) or now - since >= self._kept_seconds)

    async def _collect(self, name: EndpointName, node: NodeName) -> None:
        if await self._policy.attached(name) or await self._fresh.node_of(name) in {"", node}:
            return
        if is_sticky(name) and await self._is_attached_by_another_name(name, node):
            return
        addresses = await self._ipam.release(name, node)
        self._metrics.told(What.ADDRESS, Outcome.DONE, len(addresses))
        log.info("leak_collected", endpoint=name, node=node, addresses=addresses)

    async def _is_attached_by_another_name(self, name: EndpointName, node: NodeName) -> bool:
        """Whether a pod still has them that were its name's when it was attached: it may have lost
        its StatefulSet since, or its annotation."""
        addresses = await self._ipam.addresses_of(name)
        return not addresses.isdisjoint(await self._policy.addresses_on(node))
