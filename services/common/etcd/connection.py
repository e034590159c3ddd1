"""Channels to the members of a store, and which of them is in use.

Each endpoint has a channel of its own, made when it is first used. gRPC's targets of several
addresses are not used: they take only address literals, hide which member answered and stay with
one that accepts connections but does not answer. Here every failure that another member might not
have moves on to the next endpoint, for everybody.

A black-holed connection is noticed in three ways: the deadline of a call, HTTP/2 pings while a
stream is open, and TCP_USER_TIMEOUT, which gRPC sets along with the pings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import grpc.aio
import structlog

from services.common.errors import InvalidInput
from services.common.etcd.definitions import rpc_pb2, rpc_pb2_grpc
from services.common.etcd.errors import unavailable
from services.common.grpc_channel import make_blocking_channel, make_channel
from services.common.tls import FollowedFiles, TlsFiles

log = structlog.get_logger(__name__)

KEEPALIVE = 10.0
"""Seconds between pings. etcd closes connections that ping more often than every 5 s
(`--grpc-keepalive-min-time`), or without a call in flight."""

_STATUS_TIMEOUT = 1.0


def _options(keepalive: float) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", int(keepalive * 1000)),
        ("grpc.keepalive_timeout_ms", int(keepalive * 500)),
        ("grpc.keepalive_permit_without_calls", 0),
        # only one ping is under way at a time: a probe of the bandwidth that gets no answer holds
        # the keepalive's back, for a minute by default
        ("grpc.http2.ping_timeout_ms", int(keepalive * 500)),
        ("grpc.http2.max_pings_without_data", 0),
        # gRPC waits up to two minutes between attempts to connect; a restarted member is back
        # within a second
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1_000),  # this is also how long a connect may take
        ("grpc.max_reconnect_backoff_ms", 1000),
        # channels with equal options would share a connection, and two clients a fate
        ("grpc.use_local_subchannel_pool", 1),
    ]


class Endpoint:
    """One member and the stubs to call it with."""

    def __init__(self, target: str, channel: grpc.aio.Channel) -> None:
        self.target = target
        self.channel = channel
        self.kv = rpc_pb2_grpc.KVStub(channel)
        self.watch = rpc_pb2_grpc.WatchStub(channel)
        self.lease = rpc_pb2_grpc.LeaseStub(channel)
        self.maintenance = rpc_pb2_grpc.MaintenanceStub(channel)

    async def ready(self, timeout: float) -> None:
        """Returns once connected, so that a request that fails to be sent can be told.

        Raises:
            Unavailable: it cannot be connected to.
        """
        if self.channel.get_state() is grpc.ChannelConnectivity.READY:
            return
        try:
            async with asyncio.timeout(timeout):
                while True:
                    state = self.channel.get_state(try_to_connect=True)
                    if state is grpc.ChannelConnectivity.READY:
                        return
                    if state in {
                        grpc.ChannelConnectivity.TRANSIENT_FAILURE,
                        grpc.ChannelConnectivity.SHUTDOWN,
                    }:
                        break
                    await self.channel.wait_for_state_change(state)
        except TimeoutError:
            raise unavailable(self.target, "timed out connecting") from None
        await self._explain()

    async def _explain(self) -> None:
        """Raises Unavailable with the reason that the channel's state does not tell."""
        try:
            await self.maintenance.Status(rpc_pb2.StatusRequest(), timeout=_STATUS_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise unavailable(self.target, error.details() or error.code().name) from error


class Endpoints:
    """The members in the order given, and the one in use."""

    def __init__(self, targets: Sequence[str], tls: TlsFiles | None, keepalive: float) -> None:
        """Takes `host:port`, also with `http://` or `https://` before it as etcd prints it."""
        self._targets = [
            target.removeprefix("https://").removeprefix("http://").rstrip("/")
            for target in targets
        ]
        if not all(self._targets) or not self._targets:
            raise InvalidInput.at("endpoints", "at least one endpoint, as host:port")
        self._files = FollowedFiles(tls) if tls else None
        self._options = (*_options(keepalive), *(tls.channel_options if tls else ()))
        self._made: dict[int, Endpoint] = {}
        self._index = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def current(self) -> Endpoint:
        if self._closed:
            raise unavailable(self._targets[self._index], "the client is closed")
        if self._index not in self._made:
            self._made[self._index] = self._make(self._targets[self._index])
        return self._made[self._index]

    def _make(self, target: str) -> Endpoint:
        return Endpoint(target, make_channel(target, self._files, self._options))

    @property
    def targets(self) -> Sequence[str]:
        """All members, the one in use first."""
        return (*self._targets[self._index :], *self._targets[: self._index])

    def make_blocking_channel(self, target: str) -> grpc.Channel:
        """A channel to a member for a thread of its own."""
        return make_blocking_channel(target, self._files, self._options)

    def failed(self, endpoint: Endpoint, reason: str) -> bool:
        """Moves on from `endpoint`, unless somebody did so already; returns whether it did."""
        if self._closed or self._made.get(self._index) is not endpoint or len(self) == 1:
            return False
        self._index = (self._index + 1) % len(self)
        log.warning(
            "etcd_endpoint_failed",
            endpoint=endpoint.target,
            reason=reason,
            next=self._targets[self._index],
        )
        return True

    async def close(self) -> None:
        """Ends all channels and the calls on them."""
        self._closed = True
        for endpoint in self._made.values():
            await endpoint.channel.close()
        self._made.clear()
