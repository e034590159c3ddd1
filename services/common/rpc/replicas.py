"""Calls of one of Romana's services, of which several replicas may run: any of them will do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import grpc.aio
from google.protobuf.message import Message
from grpc.aio import UnaryUnaryMultiCallable

from services.common.errors import Unavailable
from services.common.rpc.channel import open_channel
from services.common.rpc.status import error_of
from services.common.tls import TlsFiles

CALL_SECONDS: Final = 10.0

Stub = TypeVar("Stub")
_Asked = TypeVar("_Asked", bound=Message)
_Answer = TypeVar("_Answer", bound=Message)


class Replicas(Generic[Stub]):
    """Their channels; the one that answered last is asked first."""

    def __init__(
        self,
        stub: Callable[[grpc.aio.Channel], Stub],
        addresses: Sequence[str],
        tls: TlsFiles | None,
        *,
        insecure: bool,
        program: str,
    ) -> None:
        """Connects when something is asked; `program`: what the caller calls itself."""
        self._channels = [
            open_channel(one, tls=tls, insecure=insecure, program=program) for one in addresses
        ]
        self._stubs = [stub(channel) for channel in self._channels]

    @property
    def stubs(self) -> Sequence[Stub]:
        """One for each."""
        return tuple(self._stubs)

    async def close(self) -> None:
        """Closes all channels."""
        for channel in self._channels:
            await channel.close()

    async def call(
        self,
        method: Callable[[Stub], UnaryUnaryMultiCallable[_Asked, _Answer]],
        request: _Asked,
        seconds: float = CALL_SECONDS,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> _Answer:
        """Asks each replica once at most; raises RomanaErrors, Unavailable if none is there."""
        for _ in range(len(self._stubs)):
            stub = self._stubs[0]
            try:
                return await method(stub)(request, timeout=seconds, metadata=tuple(metadata))
            except grpc.aio.AioRpcError as error:
                failed = error_of(error)
            if not isinstance(failed, Unavailable):
                raise failed
            if self._stubs[0] is stub:  # else another call has turned away from it already
                self._stubs.append(self._stubs.pop(0))
        raise failed
