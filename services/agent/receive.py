"""The stream of routes from ipam into the reconciler, and onto the disk.

While ipam is away nothing changes in the kernel: the reconciler keeps what it was told last, and
the next start has it from the spool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

import grpc.aio
import structlog
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.agent import sync_wire
from services.agent.reconcile import Reconciler
from services.agent.resources import Assembly, Resource
from services.agent.spool import Spool
from services.common.model.names import NodeName
from services.common.sync.model import Failure, Position
from services.common.sync.receiver import Batch, Receiver
from services.common.sync.stream_client import Call, Observer, Peer, StreamClient
from services.common.version import version

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

log = structlog.get_logger(__name__)

SPOOL_SECONDS: Final = 1.0
"""Between two writes of the spool, at least; and ten times as long as a write takes."""
MANY: Final = 1_000
"""Changes that are not worked through in the event loop."""
_OURS: Final = "endpoint/"


class RouteStream:
    """The node's stream. What it receives is `services.agent.resources`."""

    def __init__(
        self,
        node: NodeName,
        channels: Mapping[str, grpc.aio.Channel],
        reconciler: Reconciler,
        spool: Spool,
        receiver: Receiver[Resource],
        observer: Observer | None = None,
    ) -> None:
        """Hands over what the receiver holds already, if it is complete.

        Args:
            node: This node.
            channels: To replicas of ipam, by address.
            reconciler: Gets it.
            spool: Where it is kept.
            receiver: From the spool, or empty.
            observer: Is told how the stream fares.
        """
        self._reconciler = reconciler
        self._spool = spool
        self._receiver = receiver
        self._assembly = Assembly()
        self._restored = receiver.complete
        if receiver.complete:
            reconciler.set_remote(self._assembly.apply(receiver.held, ())[0])
        self._client = StreamClient(
            receiver,
            node=node,
            version=version(),
            apply=self._apply,
            peers=_peers(channels),
            observer=observer,
        )
        self._unsaved = asyncio.Event()
        reconciler.on_change(self._report)

    @property
    def connected(self) -> bool:
        """A stream stands."""
        return self._client.connected

    @property
    def applied(self) -> Position | None:
        """Position of what the kernel holds."""
        return self._receiver.applied_position

    async def run(self) -> None:
        """Keeps the stream and the spool until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._client.run())
            group.create_task(self._keep_spool())
            if self._restored:
                group.create_task(self._confirm_restored())

    async def _confirm_restored(self) -> None:
        await self._reconciler.reached()
        if self._receiver.applied_position is None:
            self._receiver.restored(self._failures())

    async def _apply(self, batch: Batch[Resource]) -> Iterable[Failure]:
        if len(batch.updated) + len(batch.removed) < MANY:
            remote, changed = self._assembly.apply(batch.updated, batch.removed)
        else:
            remote, changed = await asyncio.to_thread(
                self._assembly.apply, batch.updated, batch.removed
            )
        self._reconciler.set_remote(remote, changed)
        await self._reconciler.reached()
        self._unsaved.set()
        return self._failures()

    def _failures(self) -> Sequence[Failure]:
        """Of the stream's resources; those of endpoints are told to who attaches them."""
        return [
            *(
                Failure(trouble.resource, trouble.reason, trouble.message)
                for trouble in self._reconciler.troubles.values()
                if not trouble.resource.startswith(_OURS)
            ),
            *(
                Failure(name, "UNREADABLE", message)
                for name, message in self._assembly.unreadable.items()
            ),
        ]

    def _report(self) -> None:
        self._client.report(self._failures())

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
            await asyncio.to_thread(self._spool.save, held, position)
        except OSError as error:
            log.warning("spool_not_written", message=str(error))


def _peers(channels: Mapping[str, grpc.aio.Channel]) -> Sequence[Peer[Resource]]:
    return [_peer(address, channel) for address, channel in channels.items()]


def _peer(address: str, channel: grpc.aio.Channel) -> Peer[Resource]:
    stub: IpamServiceAsyncStub = IpamServiceStub(channel)

    def begin() -> Call:
        return cast("Call", stub.SyncRoutes())  # what it is, but for its type in the stubs

    return Peer(address, begin, sync_wire.hello, sync_wire.ack, sync_wire.parse_response)
