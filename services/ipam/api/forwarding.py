"""Has a write decided by whichever replica is active, wherever the caller turned to.

A call waits while there is no active replica, as between two of them, rather than fail: a planned
change takes some milliseconds, and an election after a crash about as long as a lease lasts. What
a replica did not decide because it stopped being the active one is asked for again at the next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
from google.protobuf.message import Message
from grpc.aio import UnaryUnaryMultiCallable
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.errors import RomanaError, Unavailable
from services.common.own_task import is_given_up
from services.common.rpc.channel import open_channel
from services.common.rpc.context import Context
from services.common.rpc.draining import DRAINING
from services.common.rpc.identity import on_behalf_of
from services.common.rpc.request_id import passed_on
from services.common.rpc.status import error_of
from services.common.tls import TlsFiles
from services.ipam.store.group_commit import NOT_ACTIVE
from services.ipam.store.replica import Replica

if TYPE_CHECKING:  # it exists for type checkers only
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

_Asked = TypeVar("_Asked", bound=Message)
_Answer = TypeVar("_Answer")

FORWARDED: Final = "x-romana-forwarded"
"""Metadata of a call that another replica passed on: it is not passed on again."""
METADATA: Final = ((FORWARDED, "1"),)
PATIENCE: Final = 3.0
"""Seconds that a call waits for an active replica; an election takes a lease and half a second."""
NO_ACTIVE_REPLICA: Final = "NO_ACTIVE_REPLICA"
_UNDECIDED: Final = frozenset({NOT_ACTIVE, NO_ACTIVE_REPLICA, DRAINING})
"""Reasons of errors that say that nothing was decided, and another replica would."""
_UNREACHABLE: Final = frozenset(
    {grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN}
)
_AGAIN: Final = 0.02
"""Seconds after which another replica's word is asked for again, if nothing is heard meanwhile."""
_FAREWELL: Final = 1.0
"""Seconds that calls at a replica that is not active any more get to be answered."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another replica, asked for the sake of a caller of ours."""

    stub: IpamServiceAsyncStub
    channel: grpc.aio.Channel
    context: Context

    async def ask(
        self, method: UnaryUnaryMultiCallable[_Asked, _Answer], request: _Asked
    ) -> _Answer:
        """Calls it with what is left of the caller's deadline; raises RomanaError."""
        await self._connected()
        metadata = (*METADATA, *on_behalf_of(self.context), *passed_on())
        try:
            return await method(request, timeout=self.context.time_remaining(), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from error
        except asyncio.CancelledError:
            raise _cut_off() from None

    async def _connected(self) -> None:
        """Raises Unavailable for a process that is gone, before anything was said to it."""
        while True:
            state = self.channel.get_state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.READY:
                return
            if state in _UNREACHABLE:
                raise Unavailable("the active replica cannot be reached", NO_ACTIVE_REPLICA)
            try:
                await self.channel.wait_for_state_change(state)
            except asyncio.CancelledError:
                raise _cut_off() from None


class Forwarding:
    """The way to the active replica, whichever it is."""

    def __init__(self, replica: Replica, tls: TlsFiles | None, *, insecure: bool) -> None:
        """`tls` and `insecure` are for asking other replicas."""
        self._replica = replica
        self._tls = tls
        self._insecure = insecure
        self._address = ""
        self._channel: grpc.aio.Channel | None = None
        self._stub: IpamServiceAsyncStub | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def answer(
        self,
        here: Callable[[], Awaitable[_Answer]],
        there: Callable[[Elsewhere], Awaitable[_Answer]],
        context: Context,
    ) -> _Answer:
        """Has a write answered: `here` decides it at this replica, `there` asks another one."""
        forwarded = any(key == FORWARDED for key, _ in context.invocation_metadata() or ())
        clock = asyncio.get_running_loop().time
        until = clock() + PATIENCE
        while True:
            change = self._replica.next_change
            try:
                if self._replica.active:
                    return await here()
                stub, channel = self._active(forwarded=forwarded)
                return await there(Elsewhere(stub, channel, context))
            except Unavailable as error:
                # whoever passed it on knows better by now who is active
                ours = self._replica.elected or not forwarded
                if error.reason not in _UNDECIDED or clock() >= until or not ours:
                    raise
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(change.wait(), min(_AGAIN, max(until - clock(), 0)))

    async def close(self) -> None:
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _active(self, *, forwarded: bool) -> tuple[IpamServiceAsyncStub, grpc.aio.Channel]:
        """The active replica, which is not this one; raises Unavailable if there is none."""
        address = self._replica.active_address
        if address is None or forwarded or self._replica.elected:
            raise Unavailable("no replica is active at the moment", reason=NO_ACTIVE_REPLICA)
        if self._stub is None or self._channel is None or address != self._address:
            if self._channel is not None:
                task = asyncio.create_task(self._channel.close(_FAREWELL))
                self._closing.add(task)  # what is still in flight there then ends as `_cut_off`
                task.add_done_callback(self._closing.discard)
            self._address = address
            self._channel = open_channel(address, tls=self._tls, insecure=self._insecure)
            self._stub = IpamServiceStub(self._channel)
        return self._stub, self._channel


def undecided(error: object) -> bool:
    """Says whether this is an error for something that nothing was decided on."""
    return isinstance(error, RomanaError) and error.reason in _UNDECIDED


def _cut_off() -> Unavailable:
    """The error to raise for a call that was passed on, when it was cancelled but we were not.

    Its channel was closed, since another replica is active now. A cancellation that leaves the
    handler would be taken for the caller's own, and the caller would wait for an answer in vain.
    Raises CancelledError if it is the caller that is gone.
    """
    if is_given_up():
        raise asyncio.CancelledError
    return Unavailable("another replica became the active one meanwhile", reason="ACTIVE_CHANGED")
