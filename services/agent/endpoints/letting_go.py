"""What a node does that somebody removed: it lets go of its addresses, and says so to ipam.

Nothing leads to its endpoints any more, and what ipam has for the node is given back once the
kernel has done that: until then, or until a fence time has passed, ipam hands it to nobody else.
Endpoints stay as they are. When an operator registers the node again, routes lead to them again,
and what nobody else got meanwhile is claimed (`services.agent.endpoints.ownership`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Final

import structlog

from services.agent.endpoints.ipam_client import Allocated, IpamClient
from services.agent.endpoints.standing import Concern, Standing
from services.agent.routing.reconcile import Reconciler
from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import RomanaError

log = structlog.get_logger(__name__)

RETRY: Final = BackoffPolicy(initial=0.5, maximum=10.0)
CALL_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 30.0
"""Between two looks while the node is removed: something may have been allocated there before."""
WHY: Final = "somebody has removed this node"


class LettingGo:
    """Of one node."""

    def __init__(self, standing: Standing, reconciler: Reconciler, ipam: IpamClient) -> None:
        """Does nothing before `run`."""
        self._standing = standing
        self._reconciler = reconciler
        self._ipam = ipam
        self._changed = asyncio.Event()
        self.removed = False
        """Somebody has removed this node."""

    def set_removed(self, removed: bool) -> None:  # noqa: FBT001 - a listener
        """Says whether somebody has. Returns at once."""
        self.removed = removed
        self._changed.set()

    async def run(self) -> None:
        """For ever."""
        backoff = Backoff(RETRY, random.random)
        while True:
            pause: float | None = None
            try:
                if self.removed:
                    await self._let_go()
                    pause = LOOK_SECONDS
                else:
                    self._hold_again()
                backoff.succeeded()
            except (RomanaError, TimeoutError) as error:
                log.warning("node_not_let_go", message=str(error))
                pause = backoff.failed()
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue
            self._changed.clear()

    async def _let_go(self) -> None:
        for name in list(self._standing.endpoints):
            self._standing.note(name, Concern.REMOVAL, WHY, withdraw=True)
        async with asyncio.timeout(CALL_SECONDS):
            await self._reconciler.reached()
        loop = asyncio.get_running_loop()
        held: Mapping[str, Allocated] = await self._ipam.on_node(loop.time() + CALL_SECONDS)
        for held_name in held:
            if not self.removed:
                return
            released = await self._ipam.release_name(held_name, loop.time() + CALL_SECONDS)
            log.info("address_let_go", endpoint=held_name, addresses=released)

    def _hold_again(self) -> None:
        for name in list(self._standing.endpoints):
            self._standing.clear(name, Concern.REMOVAL)
