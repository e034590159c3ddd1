"""A watch that goes on for ever: with another replica when one goes, from the start each time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import grpc.aio
import structlog

from services.common.backoff import Backoff, BackoffPolicy
from services.common.rpc.status import error_of

log = structlog.get_logger(__name__)

RETRY: Final = BackoffPolicy(initial=0.1, maximum=2.0)

Stub = TypeVar("Stub")
Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Watch(Generic[Stub, Message]):
    """What is followed, and who hears of it."""

    name: str
    stubs: Sequence[Stub]
    """Of the replicas, of which any will do."""
    open: Callable[[Stub], AsyncIterable[Message]]
    begin: Callable[[], None]
    """A stream begins: the messages that follow are all there is, up to the one that says so."""
    take: Callable[[Message], None]
    following: Callable[[str], None] = lambda _: None
    """Called with "" when the watch is up, and with the reason when it is not."""


async def follow(watch: Watch[Stub, Message]) -> None:
    """Follows for ever."""
    backoff = Backoff(RETRY, random.random)
    turn = 0
    while True:
        try:
            watch.begin()
            async for message in watch.open(watch.stubs[turn % len(watch.stubs)]):
                watch.take(message)
                backoff.succeeded()
                watch.following("")
            reason = "the stream ended"
        except grpc.aio.AioRpcError as error:
            reason = error_of(error).message
        log.warning("watch_lost", watch=watch.name, message=reason)
        watch.following(reason)
        turn += 1
        await asyncio.sleep(backoff.failed())
