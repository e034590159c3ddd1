"""Asks the other replicas of a service, which come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Final, TypeVar

import grpc.aio
import structlog

from services.common.own_task import is_given_up
from services.common.rpc.channel import open_channel
from services.common.tls import TlsFiles

log = structlog.get_logger(__name__)

SECONDS: Final = 2.0
"""How long another replica may take to say what it knows."""

Answer = TypeVar("Answer")


class SiblingReplicas:
    def __init__(
        self, addresses: Callable[[], Set[str]], tls: TlsFiles | None, *, insecure: bool
    ) -> None:
        """`addresses`: where the others are now."""
        self._addresses = addresses
        self._tls = tls
        self._insecure = insecure
        self._channels: dict[str, grpc.aio.Channel] = {}

    @property
    def count(self) -> int:
        """How many there are now."""
        return len(self._addresses())

    async def ask(
        self, question: Callable[[grpc.aio.Channel, float], Awaitable[Answer]]
    ) -> Sequence[Answer]:
        """What each of them answers to a call with a timeout; those that do not are left out."""
        addresses = self._addresses()
        for gone in self._channels.keys() - addresses:
            await self._channels.pop(gone).close()
        answers = await asyncio.gather(*(self._one(address, question) for address in addresses))
        return [answer for answer in answers if answer is not None]

    async def close(self) -> None:
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    async def _one(
        self, address: str, question: Callable[[grpc.aio.Channel, float], Awaitable[Answer]]
    ) -> Answer | None:
        channel = self._channels.get(address)
        if channel is None:
            channel = open_channel(address, tls=self._tls, insecure=self._insecure)
            self._channels[address] = channel
        try:
            return await question(channel, SECONDS)
        except grpc.aio.AioRpcError as error:
            why = error.details()
        except asyncio.CancelledError:
            if is_given_up():
                raise
            why = "it has gone"
        log.warning("replica_did_not_answer", replica=address, why=why)
        return None
