"""An agent without a kernel: keeps one stream, of routes unless another peer is given, and what it
would have applied."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Self

import grpc.aio
from romana.ipam.v1 import sync_routes_pb2 as pb
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.backoff import BackoffPolicy
from services.common.errors import RomanaError
from services.common.rpc.channel import open_channel
from services.common.sync import wire
from services.common.sync.model import Failure, Response
from services.common.sync.receiver import Batch, Receiver
from services.common.sync.stream_client import Answering, Peer, StreamClient
from tests.support.ipam_process import poll

Kernel = dict[str, Any]


def response_of(message: pb.SyncRoutesResponse) -> Response[pb.RouteResource]:
    return Response(
        message.nonce,
        wire.parse_position(message.position),
        wire.parse_phase(message.phase),
        {item.id: item for item in message.updated},
        tuple(message.removed),
    )


def peer_of(address: str) -> tuple[Peer[pb.RouteResource], grpc.aio.Channel]:
    channel = open_channel(address)
    stub = IpamServiceStub(channel)
    peer = Peer(
        address,
        stub.SyncRoutes,
        lambda hello: pb.SyncRoutesRequest(hello=wire.hello(hello)),
        lambda ack: pb.SyncRoutesRequest(ack=wire.ack(ack)),
        response_of,
        lambda message: message.question.id,
    )
    return peer, channel


class SyncAgent:
    """Connects in its context."""

    def __init__(
        self,
        node: str,
        addresses: Sequence[str],
        receiver: Receiver[Any] | None = None,
        peer: Callable[[str], tuple[Peer[Any], grpc.aio.Channel]] = peer_of,
        answering: Answering | None = None,
    ) -> None:
        self.node = node
        self.receiver: Receiver[Any] = receiver or Receiver()
        self.kernel: Kernel = dict(self.receiver.held)
        self.batches: list[Batch[Any]] = []
        self.failing: tuple[Failure, ...] = ()
        self.errors: list[RomanaError] = []
        self.peers: list[str] = []
        self.hold: Callable[[], Awaitable[object]] | None = None
        made = [peer(address) for address in addresses]
        self._channels = [channel for _, channel in made]
        self.client = StreamClient(
            self.receiver,
            node=node,
            version="test",
            apply=self._apply,
            peers=[peer for peer, _ in made],
            answering=answering,
            observer=self,
            policy=BackoffPolicy(initial=0.05, maximum=0.5),
            draw=lambda: 0.0,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.client.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        for channel in self._channels:
            await channel.close()

    @property
    def ids(self) -> set[str]:
        return set(self.kernel)

    async def until(
        self, condition: Callable[[], bool], seconds: float = 60, *, what: str = "a change"
    ) -> None:
        assert self._task is not None
        task = self._task
        await poll(lambda: condition() or task.done(), seconds, what=f"{what} at {self.node}")
        if task.done():
            task.result()

    async def until_in_sync(self, seconds: float = 60) -> None:
        await self.until(
            lambda: (
                self.receiver.in_sync and self.receiver.applied_position == self.receiver.position
            ),
            seconds,
            what="being in sync",
        )

    def connected(self, peer: str) -> None:
        self.peers.append(peer)

    def disconnected(self, error: RomanaError) -> None:
        self.errors.append(error)

    async def _apply(self, batch: Batch[Any]) -> Iterable[Failure]:
        if self.hold is not None:
            await self.hold()
        for name in batch.removed:
            del self.kernel[name]
        self.kernel.update(batch.updated)
        self.batches.append(batch)
        return self.failing
