"""Renews a lease from a thread of its own.

A lease that is renewed by the event loop is lost whenever the loop is busy for as long, and has to
be long for that reason, so that whoever takes over from a dead process waits long, too. The thread
goes on while the loop is busy. It stops when the loop has not said for `STALLED` seconds that it
still turns: a process that hangs is not to keep its lease.

Time spent suspended counts (CLOCK_BOOTTIME), since it does so for etcd.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self, cast

import grpc
import structlog

from services.common.etcd.definitions import rpc_pb2, rpc_pb2_grpc

log = structlog.get_logger(__name__)

STALLED: Final = 5.0
"""Seconds without a sign of life of the event loop after which a lease is given up."""
RENEWALS: Final = 5
"""Per time to live."""
_SHORTEST: Final = 0.1
"""Seconds, of a pause or an attempt."""

MakeChannel = Callable[[str], grpc.Channel]


def clock() -> float:
    """Seconds, those included in which the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LeaseKeeper:
    """One lease, from when it was granted until the context ends."""

    def __init__(
        self,
        targets: Sequence[str],
        make_channel: MakeChannel,
        lease: int,
        ttl: float,
        granted: float,
        *,
        stalled: float = STALLED,
        now: Callable[[], float] = clock,
    ) -> None:
        """Renews nothing before the context begins.

        Args:
            targets: members of the store, the preferred one first.
            make_channel: makes a blocking channel to one of them.
            lease: its id.
            ttl: seconds that it lasts.
            granted: when it was asked for, by `clock`.
            stalled: seconds that the event loop may be silent.
            now: the clock.
        """
        self._targets = itertools.cycle(targets)
        self._make_channel = make_channel
        self._lease = lease
        self._ttl = ttl
        self._expires = granted + ttl
        self._stalled = stalled
        self._now = now
        self._alive = now()
        self._stop = threading.Event()
        self._call: grpc.Call | None = None
        self._thread = threading.Thread(target=self._run, name=f"lease {lease:x}", daemon=True)
        self._loop = asyncio.get_running_loop()
        self.over = asyncio.Event()
        """The lease has ended, or may end before it is renewed."""

    @property
    def remaining(self) -> float:
        """Seconds that the lease lasts at least, counted from when its renewal was sent."""
        return self._expires - self._now()

    def alive(self) -> None:
        """Says that the event loop still turns."""
        self._alive = self._now()

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._call is not None:
            self._call.cancel()
        await asyncio.shield(asyncio.to_thread(self._thread.join))

    def _run(self) -> None:
        channel: grpc.Channel | None = None
        try:
            while not self._stop.wait(self._pause(failed=channel is None)):
                if self.remaining <= 0 or self._now() - self._alive > self._stalled:
                    break
                channel = channel or self._make_channel(next(self._targets))
                sent = self._now()
                try:
                    ttl = self._renew(channel)
                except grpc.RpcError as failure:
                    if not self._stop.is_set():
                        log.warning("lease_renewal_failed", lease=self._lease, why=_why(failure))
                    channel.close()
                    channel = None
                    continue
                if not ttl:
                    break
                self._expires = sent + ttl
        finally:
            if channel is not None:
                channel.close()
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self.over.set)

    def _pause(self, *, failed: bool) -> float:
        return _SHORTEST if failed else self._ttl / RENEWALS

    def _renew(self, channel: grpc.Channel) -> int:
        """Asks for the full time again: seconds; 0: the lease has ended. Raises grpc.RpcError."""
        # the stub is declared for asynchronous channels; on a blocking one its calls block
        stub: Any = rpc_pb2_grpc.LeaseStub(cast("grpc.aio.Channel", channel))
        self._call = call = stub.LeaseKeepAlive(
            iter((rpc_pb2.LeaseKeepAliveRequest(ID=self._lease),)),
            # several attempts fit into what is left, on other members too
            timeout=max(self.remaining / 2, _SHORTEST),
            metadata=(("hasleader", "true"),),
        )
        try:
            answer: rpc_pb2.LeaseKeepAliveResponse = next(call)
        except StopIteration:
            raise grpc.RpcError("the stream has ended") from None
        call.cancel()
        return answer.TTL


def _why(failure: grpc.RpcError) -> str:
    details = getattr(failure, "details", None)  # an error of a call is the call, too
    return str(details() if details is not None else failure)
