"""The stream of routes from ipam into the reconciler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

import grpc.aio
from romana.ipam.v1 import sync_routes_pb2
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.agent.routing import messages
from services.agent.routing.reconcile import Reconciler
from services.agent.routing.resources import Assembly, Resource
from services.agent.routing.spool import Spool
from services.agent.streams.agent_stream import MANY, AgentStream
from services.agent.streams.answering import answering
from services.common.model.names import EndpointName, NodeName
from services.common.sync.model import Failure
from services.common.sync.receiver import Batch, Receiver
from services.common.sync.stream_client import Call, Peer, StreamObserver

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

_OURS: Final = "endpoint/"
NOT_ALLOCATED: Final = "NOT_ALLOCATED"
"""Reason: ipam has not what an endpoint uses for it."""


class RouteSink:
    """Makes of resources what the reconciler is told."""

    def __init__(
        self, reconciler: Reconciler, disowned: Callable[[], Mapping[EndpointName, str]]
    ) -> None:
        """`disowned`: endpoints whose addresses ipam has not for them, and why."""
        self._reconciler = reconciler
        self._disowned = disowned
        self._assembly = Assembly()

    def replace(self, held: Mapping[str, Resource]) -> None:
        """Takes over all there is, such as what was on the disk."""
        self._assembly = Assembly()
        self._reconciler.set_remote(self._assembly.apply(held, ())[0])

    async def apply(self, batch: Batch[Resource]) -> None:
        """Takes in a change, and returns when the kernel holds it, or refused it."""
        if len(batch.updated) + len(batch.removed) < MANY:
            remote, changed = self._assembly.apply(batch.updated, batch.removed)
        else:
            remote, changed = await asyncio.to_thread(
                self._assembly.apply, batch.updated, batch.removed
            )
        self._reconciler.set_remote(remote, changed)
        await self._reconciler.reached()

    async def reached(self) -> None:
        """Waits for the kernel."""
        await self._reconciler.reached()

    def failures(self) -> Sequence[Failure]:
        """Of the stream's resources, and of endpoints what ipam alone can put right; what else is
        wrong with these is told to who attaches them."""
        return [
            *(
                Failure(f"{_OURS}{name}", NOT_ALLOCATED, why)
                for name, why in self._disowned().items()
            ),
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

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls it after every round."""
        self._reconciler.on_change(listener)


def route_stream(
    node: NodeName,
    channels: Mapping[str, grpc.aio.Channel],
    reconciler: Reconciler,
    spool: Spool,
    receiver: Receiver[Resource],
    observer: StreamObserver | None = None,
    disowned: Callable[[], Mapping[EndpointName, str]] = dict,
) -> AgentStream[Resource]:
    """The node's stream of routes.

    Args:
        node: This node.
        channels: To replicas of ipam, by address.
        reconciler: Gets it.
        spool: Where it is kept.
        receiver: From the spool, or empty.
        observer: Is told how the stream fares.
        disowned: Endpoints whose addresses ipam has not for them, and why.
    """
    peers = [_peer(address, channel) for address, channel in channels.items()]
    answers = answering(
        reconciler.in_kernel,
        messages.kernel_parts,
        sync_routes_pb2.KernelRoutes,
        lambda part: sync_routes_pb2.SyncRoutesRequest(kernel=part),
    )
    return AgentStream(
        node, peers, RouteSink(reconciler, disowned), spool.save, receiver, observer, answers
    )


def _peer(address: str, channel: grpc.aio.Channel) -> Peer[Resource]:
    stub: IpamServiceAsyncStub = IpamServiceStub(channel)

    def begin() -> Call:
        return cast("Call", stub.SyncRoutes())  # what it is, but for its type in the stubs

    return Peer(
        address,
        begin,
        messages.hello,
        messages.ack,
        messages.parse_response,
        lambda message: message.question.id,
    )
