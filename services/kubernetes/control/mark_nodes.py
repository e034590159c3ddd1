"""Writes on nodes what kube-scheduler has to know of them.

The group that a node is in, as a label; and that its agent is ready, by taking away the taint that
kept pods from it until then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

import structlog
from lightkube.resources.core_v1 import Node as NodeResource
from lightkube.types import PatchType

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import NotFound, RomanaError
from services.common.model.names import NodeName
from services.kubernetes.calls.policy import PolicyCalls
from services.kubernetes.cluster.api_server import ApiServer
from services.kubernetes.cluster.informer import Informer
from services.kubernetes.objects.nodes import GROUP_LABEL, NOT_READY_TAINT, Node
from services.kubernetes.scheduling.places import Places

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 1.0
RETRY: Final = BackoffPolicy(initial=0.5, maximum=10.0)


class NodeMarking:
    """The loop."""

    def __init__(
        self,
        nodes: Informer[Node],
        policy: PolicyCalls,
        server: ApiServer,
        places: Callable[[], Places | None],
    ) -> None:
        """`places`: where nodes are now; None: that is not known yet."""
        self._nodes = nodes
        self._policy = policy
        self._server = server
        self._places = places

    async def run(self) -> None:
        """Marks for ever."""
        backoff = Backoff(RETRY, random.random)
        while True:
            try:
                await self.look()
            except RomanaError as error:
                log.info("nodes_not_marked", message=error.message)
                await asyncio.sleep(backoff.failed())
            else:
                backoff.succeeded()
                await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Makes them as they have to be; raises RomanaErrors."""
        nodes = list(self._nodes.items.values())
        waiting = [NodeName(node.name) for node in nodes if node.awaits_agent]
        ready = await self._policy.ready(waiting) if waiting else set()
        places = self._places()
        for node in nodes:
            change: dict[str, object] = {}
            if places is not None:
                place = places.nodes.get(NodeName(node.name))
                group = None if place is None else place.label
                if group != node.labels.get(GROUP_LABEL):
                    change["metadata"] = {"labels": {GROUP_LABEL: group}}
            if NodeName(node.name) in ready:
                change["spec"] = {"taints": [{"$patch": "delete", "key": NOT_READY_TAINT}]}
            if change:
                await self._write(node, change)

    async def _write(self, node: Node, change: dict[str, object]) -> None:
        try:
            await self._server.call(
                lambda client: client.patch(
                    NodeResource, node.name, change, patch_type=PatchType.STRATEGIC
                )
            )
        except NotFound:
            return
        log.info("node_marked", node=node.name, parts=sorted(change))
