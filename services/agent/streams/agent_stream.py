"""A stream from a service into what applies it, and onto the disk: of routes, and of rules.

While the service is away nothing changes in the kernel: what was told last stays, and the next
start has it from the disk.

Who wakes whom: what comes wakes the sink's loop (`Sink.apply`), which wakes this one when the
kernel holds it; then it is acknowledged. What the kernel refuses or takes later (`Sink.on_change`)
wakes the stream to say so. The disk is written by a task of its own, which what was applied wakes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

import structlog

from services.agent.kept import RETRY, defect
from services.common.backoff import Backoff
from services.common.model.names import NodeName
from services.common.process.version import version
from services.common.sync.model import Failure, Position
from services.common.sync.receiver import Batch, Receiver
from services.common.sync.stream_client import (
    Answering,
    Peer,
    StreamClient,
    StreamObserver,
)

log = structlog.get_logger(__name__)

V = TypeVar("V")

SPOOL_SECONDS: Final = 1.0
"""Between two writes of the spool, at least; and ten times as long as a write takes."""
MANY: Final = 1_000
"""Changes that are not worked through in the event loop."""


class Sink(Protocol[V]):
    """What takes resources to the kernel."""

    def replace(self, held: Mapping[str, V], /) -> None:
        """Takes over all there is, such as what was on the disk, whatever was taken in before."""

    async def apply(self, batch: Batch[V], /) -> None:
        """Takes in a change, and returns when the kernel holds it, or refused it."""

    async def reached(self) -> None:
        """Waits until the kernel holds all that was taken in, or refused it."""

    def failures(self) -> Sequence[Failure]:
        """All that the kernel does not hold now."""

    def on_change(self, listener: Callable[[], None], /) -> None:
        """Calls it when that may be another."""


class AgentStream(Generic[V]):
    """The node's stream from one service."""

    def __init__(
        self,
        node: NodeName,
        peers: Sequence[Peer[V]],
        sink: Sink[V],
        save: Callable[[Mapping[str, V], Position], None],
        receiver: Receiver[V],
        observer: StreamObserver | None = None,
        answering: Answering | None = None,
    ) -> None:
        """Hands over what the receiver holds already, if it is complete.

        Args:
            node: This node.
            peers: Replicas of the service.
            sink: Gets it.
            save: Writes it to disk; blocks, and raises OSError.
            receiver: From the disk, or empty.
            observer: Is told how the stream fares.
            answering: Says what the kernel has, when the service asks.
        """
        self._sink = sink
        self._save = save
        self._failed: Exception | None = None
        """Why something that is held was not taken in."""
        self._receiver = receiver = self._restore(receiver)
        self._restored = receiver.complete
        self._client = StreamClient(
            receiver,
            node=node,
            version=version(),
            apply=self._apply,
            peers=peers,
            answering=answering,
            observer=observer,
        )
        self._unsaved = asyncio.Event()
        sink.on_change(self._report)

    @property
    def connected(self) -> bool:
        return self._client.connected

    @property
    def in_sync(self) -> bool:
        """A stream stands, and has said all there was when it began."""
        return self._client.connected and self._receiver.in_sync

    @property
    def applied(self) -> Position | None:
        """Position of what the kernel holds."""
        return self._receiver.applied_position

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the agent is not ready, for people."""
        return () if self._failed is None else (defect("what the service says", self._failed),)

    def _restore(self, receiver: Receiver[V]) -> Receiver[V]:
        """Hands over what was on the disk; what cannot be taken in was not there."""
        if not receiver.complete:
            return receiver
        try:
            self._sink.replace(receiver.held)
        except Exception:
            log.exception("spool_not_taken_in")
            return Receiver()
        return receiver

    async def run(self) -> None:
        """Keeps the stream and the spool until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._client.run())
            group.create_task(self._keep_spool())
            if self._restored:
                group.create_task(self._confirm_restored())

    async def _confirm_restored(self) -> None:
        await self._sink.reached()
        if self._receiver.applied_position is None:
            self._receiver.restored(self._sink.failures())

    async def _apply(self, batch: Batch[V]) -> Iterable[Failure]:
        if self._failed is None:
            try:
                await self._sink.apply(batch)
            except Exception as error:  # noqa: BLE001 - what is held has to be taken in all the same
                self._failed = error
        if self._failed is not None and (batch.snapshot or batch.position.digest):
            await self._take_anew(self._failed)
        self._unsaved.set()
        return self._sink.failures()

    async def _take_anew(self, error: Exception) -> None:
        """After a defect, takes in all that is held, until that works; nothing is acknowledged
        meanwhile."""
        backoff = Backoff(RETRY, random.random)
        while True:
            log.error("batch_not_taken_in", exc_info=error)
            self._failed = error
            await asyncio.sleep(backoff.failed())
            try:
                self._sink.replace(self._receiver.held)
                await self._sink.reached()
            except Exception as again:  # noqa: BLE001 - as above
                error = again
            else:
                self._failed = None
                return

    def _report(self) -> None:
        self._client.report(self._sink.failures())

    async def _keep_spool(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._unsaved.wait()
            self._unsaved.clear()
            begun = loop.time()
            await self.save()
            await asyncio.sleep(max(SPOOL_SECONDS, 10 * (loop.time() - begun)))

    async def save(self) -> None:
        """Writes the spool, if there is something to write."""
        held, position = dict(self._receiver.held), self._receiver.position
        if position is None or not self._receiver.complete:
            return
        try:
            await asyncio.to_thread(self._save, held, position)
        except OSError as error:
            log.warning("spool_not_written", message=str(error))
