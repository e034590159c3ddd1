"""Writes on nodes what kube-scheduler has to know of them.

The group that a node is in, as a label; and that its agent is ready, by taking away the taint that
kept pods from it until then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import structlog
from lightkube.resources.core_v1 import Node as NodeResource
from lightkube.types import PatchType

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import Conflict, InvalidInput, NotFound, RomanaError
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
        waiting = [NodeName(node.name) for node in nodes if node.agent_taint is not None]
        ready = await self._policy.ready(waiting) if waiting else set()
        places = self._places()
        for node in nodes:
            name = NodeName(node.name)
            if places is not None:
                place = places.nodes.get(name)
                group = None if place is None else place.label
                if group != node.labels.get(GROUP_LABEL):
                    await self._label(node, group)
            if name in ready:
                await self._admit(node)

    async def _label(self, node: Node, group: str | None) -> None:
        change = {"metadata": {"labels": {GROUP_LABEL: group}}}
        if await self._patch(node, change, PatchType.MERGE):
            log.info("node_labelled", node=node.name, group=group)

    async def _admit(self, node: Node) -> None:
        path = f"/spec/taints/{node.agent_taint}"
        change = [
            {"op": "test", "path": f"{path}/key", "value": NOT_READY_TAINT},
            {"op": "remove", "path": path},
        ]
        if await self._patch(node, change, PatchType.JSON):
            log.info("node_admitted", node=node.name)

    async def _patch(self, node: Node, change: Any, how: PatchType) -> bool:
        """Whether it is as it was known to be; else it is heard of soon how it is."""
        try:
            await self._server.call(
                lambda client: client.patch(NodeResource, node.name, change, patch_type=how)
            )
        except (NotFound, Conflict, InvalidInput) as error:
            log.info("node_not_marked", node=node.name, message=error.message)
            return False
        return True
