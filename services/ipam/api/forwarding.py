"""Passes writes on from a replica that is not active to the one that is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.errors import InvalidInput, Unavailable
from services.common.rpc.channel import open_channel
from services.common.tls import TlsFiles

if TYPE_CHECKING:  # it exists for type checkers only
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

FORWARDED: Final = "x-romana-forwarded"
"""Metadata of a call that another replica passed on: it is not passed on again."""
METADATA: Final = ((FORWARDED, "1"),)

_Message = TypeVar("_Message")


class Forwarding:
    """One channel, to whichever replica is active."""

    def __init__(self, tls: TlsFiles | None, *, insecure: bool) -> None:
        self._tls = tls
        self._insecure = insecure
        self._address = ""
        self._channel: grpc.aio.Channel | None = None
        self._stub: IpamServiceAsyncStub | None = None

    async def to(self, address: str | None, *, forwarded: bool) -> IpamServiceAsyncStub:
        """The active replica.

        Raises Unavailable if there is none, or if the call was passed on before: then the replica
        that did so does not know yet that this one is no longer active.
        """
        if address is None or forwarded:
            raise Unavailable("no replica is active at the moment", reason="NO_ACTIVE_REPLICA")
        stub = self._stub
        if stub is None or address != self._address:
            # all is exchanged before the first await: other calls come here meanwhile
            before = self._channel
            self._address = address
            self._channel = open_channel(address, tls=self._tls, insecure=self._insecure)
            self._stub = stub = IpamServiceStub(self._channel)
            if before is not None:
                await before.close()  # what is in flight there ends as `cut_off`
        return self._stub or stub

    async def close(self) -> None:
        """Closes the channel."""
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()


class Passed(AsyncIterator[_Message]):
    """A caller's messages on their way to the active replica.

    One that cannot be decoded ends them and is kept: grpc's client would take it for a defect of
    its own, cancel the call and say nothing of the reason.
    """

    def __init__(self, messages: AsyncIterator[_Message]) -> None:
        self._messages = messages
        self.error: InvalidInput | None = None

    async def __anext__(self) -> _Message:
        if self.error is None:
            try:
                return await anext(self._messages)
            except InvalidInput as error:
                self.error = error
        raise StopAsyncIteration


def cut_off() -> Unavailable:
    """The error to raise for a call that was passed on, when it was cancelled but we were not.

    Its channel was closed, since another replica is active now. A cancellation that leaves the
    handler would be taken for the caller's own, and the caller would wait for an answer in vain.
    Raises CancelledError if it is the caller that is gone.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    return Unavailable("another replica became the active one meanwhile", reason="ACTIVE_CHANGED")
