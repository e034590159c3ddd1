"""Takes away what agents said of nodes that are not registered any more.

Nobody believes it, and where machines come and go under new names it would grow for ever. An agent
that runs after all says it again. What ipam still gives a node's endpoints stays: should the node
be registered again, it holds at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Final

import structlog

from services.common.errors import RomanaError
from services.common.etcd.types import Compare, Field, Relation
from services.common.model.names import NodeName
from services.policy.store.store import PolicyStore

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 60.0
KEPT_SECONDS: Final = 600.0
"""After a replica has first found that a node is not registered."""


class GoneNodes:
    """Every replica does it; what another one has done already is nothing to do."""

    def __init__(self, store: PolicyStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._since: dict[NodeName, float] = {}
        """Nodes of which something is kept and that are not registered."""

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            if self._store.in_sync:
                with contextlib.suppress(RomanaError):  # the store is away: the next time
                    await self.look()

    async def look(self) -> None:
        """Does it once; raises Unavailable."""
        feed, now = self._store.feed, self._clock()
        said, known = feed.attached.keys() | feed.devices.observed.keys(), self._store.engine.nodes
        self._since = {node: self._since.get(node, now) for node in said if node not in known}
        for node, since in self._since.items():
            if now - since >= KEPT_SECONDS:
                await self._take_away(node)

    async def _take_away(self, node: NodeName) -> None:
        keys, feed = self._store.keys, self._store.feed
        gone = {keys.attached_to(node, name): b"" for name in feed.unfounded(node)}
        if node in feed.devices.observed:
            gone[keys.observed_by(node)] = b""
        still = Compare(keys.node(node), Field.CREATE, Relation.EQUAL, 0)
        if gone and await self._store.write(gone, still):
            log.info("gone_node_forgotten", node=node, records=len(gone))
