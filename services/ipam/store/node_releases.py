"""Releases what is in use on nodes that are gone: written down first, and after a grace time.

Somebody who removes a node by force asks for that, and topology writes it down
(`Keys.removed_node`). Its machine may run all the same, with endpoints that have the addresses: so
they stay until its agent, which hears of it, has let go of them and given them back, or for the
fence time, in which whoever removed it is to see that it is off. With the word that it is off there
is nothing to wait for. A node that has gone otherwise may have been taken away by mistake, so what
it has stays for the grace time, and for good if it comes back. Times are counted by the active
replica, from when it noticed or took over, by a clock that nobody sets.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import structlog

from services.common.errors import RomanaError
from services.common.model.names import NodeName
from services.common.store.topology_view import RemovedNode, TopologyView
from services.ipam.deciding.commands import (
    CancelNodeRelease,
    Command,
    ForgetNode,
    NodeCommand,
    NodeReleased,
    PlanNodeRelease,
    ReleaseNode,
    Result,
)
from services.ipam.deciding.release_node import nodes_in_use
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.unsaved import NodeRelease

log = structlog.get_logger(__name__)

RETRY_SECONDS: Final = 1.0


class Committer(Protocol):
    """Who decides commands and makes that durable."""

    async def submit(self, commands: Sequence[Command]) -> list[Result]:
        pass

    async def idle(self) -> None:
        """Returns when memory holds nothing that is not in the store."""


class NodeReleases:
    """Looks for nodes that are gone, on the active replica."""

    def __init__(
        self,
        committer: Committer,
        ledger: Ledger,
        view: TopologyView,
        grace: float,
        fence: float,
        on_released: Callable[[int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing happens before `run`.

        Args:
            committer: of the active replica.
            ledger: its memory.
            view: the topology by which it decides.
            grace: seconds that a node may be gone without anybody having asked for it.
            fence: seconds that the machine of one that was removed may need to let go.
            on_released: told how many addresses were released.
            clock: for the grace time.
        """
        self._committer = committer
        self._ledger = ledger
        self._view = view
        self._grace = grace
        self._fence = fence
        self._on_released = on_released
        self._clock = clock
        self.due: dict[NodeName, float] = {}
        """When the grace time of nodes that are gone ends, by `clock`."""
        self._gone: set[NodeName] = set()
        """Nodes that have gone, and of which nothing is to be left."""
        self._kick = asyncio.Event()

    def look(self, gone: Iterable[NodeName] = ()) -> None:
        """Says that nodes may have come, and that these have gone."""
        self._gone.update(gone)
        self._kick.set()

    async def run(self) -> None:
        while True:
            self._kick.clear()
            try:
                pause = await self._step()
            except RomanaError as error:
                log.warning("node_release_postponed", why=error.message)
                pause = RETRY_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._kick.wait()

    async def _step(self) -> float | None:
        """Returns the seconds until there is something to do; None: not before `look`."""
        await self._committer.idle()
        gone = {node for node in nodes_in_use(self._ledger) if not self._view.exists(node)}
        for node in sorted(self._ledger.releases.keys() - gone):
            await self._do(CancelNodeRelease(node))
            log.info("node_release_ended", node=node, node_is_there=self._view.exists(node))
        self.due = {node: due for node, due in self.due.items() if node in gone}
        for node in sorted(gone):
            await self._pursue(node)
        while self._gone:
            node = min(self._gone)
            result = None
            if node not in gone:  # else that is part of its release
                result = await self._do(ForgetNode(node))
            if result is None or (isinstance(result, NodeReleased) and result.is_done):
                self._gone.discard(node)
        return min((due - self._clock() for due in self.due.values()), default=None)

    async def _pursue(self, node: NodeName) -> None:
        removed = self._view.removed.get(node)
        asked = removed is not None
        now = self._clock()
        wait = self._wait(removed)
        planned = self._ledger.releases.get(node)
        due = self.due[node] = min(self.due.get(node, now + wait), now + wait)
        if planned is None or planned.asked != asked:
            noticed = int(time.time())
            plan = NodeRelease(noticed, noticed + round(due - now), asked)
            await self._do(PlanNodeRelease(node, plan))
            log.info("node_release_planned", node=node, asked=asked, seconds=round(due - now))
        if due <= now:
            await self._release(node)

    def _wait(self, removed: RemovedNode | None) -> float:
        """Seconds from when it is noticed."""
        if removed is None:
            return self._grace
        return 0.0 if removed.machine_is_off else self._fence

    async def _release(self, node: NodeName) -> None:
        log.info("node_release_started", node=node)
        addresses, is_done = 0, False
        while not is_done:
            result = await self._do(ReleaseNode(node))
            if not isinstance(result, NodeReleased):
                log.info("node_release_stopped", node=node, addresses=addresses)
                return
            for item in result.allocations:
                log.info(
                    "address_released",
                    address=item.address.text,
                    name=item.name,
                    node=node,
                    tenant=item.owner.tenant,
                    segment=item.owner.segment,
                    why="the node is gone",
                )
            self._on_released(len(result.allocations))
            addresses += len(result.allocations)
            is_done = result.is_done
        self.due.pop(node, None)
        log.info("node_released", node=node, addresses=addresses)

    async def _do(self, command: NodeCommand) -> Result:
        result = (await self._committer.submit((command,)))[0]
        if isinstance(result, RomanaError):
            raise result
        return result
