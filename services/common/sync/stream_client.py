"""The agent's loop around a `Receiver`: connect, converse, connect anew, for ever.

    client = StreamClient(receiver, node="n1", version="0.1.0", apply=apply, peers=[peer, ...])
    await client.run()                              # ends when it is cancelled
    client.report(failures)                         # they changed by themselves

A peer is one replica's stream method with the agent's way to read and write its messages. After a
failure the next one is tried, after a pause with back-off and jitter. That a connection went silent
is found out by the channel's keepalive (`services.common.rpc.options`), within 20 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import grpc
import grpc.aio
import structlog

from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import RomanaError, Unavailable
from services.common.rpc.status import error_of
from services.common.sync.model import Ack, Failure, Hello, Position, Response
from services.common.sync.receiver import Batch, ProtocolViolation, Receiver
from services.common.tracing import spans

log = structlog.get_logger(__name__)

V = TypeVar("V")
Message = TypeVar("Message")
Answering: TypeAlias = Callable[[int, Position | None], Awaitable[Iterable[object]]]
"""Makes the request messages that answer a question, from its id and the position of what is held.
It does not raise for what it cannot say."""
Call: TypeAlias = "grpc.aio.StreamStreamCall[Any, Any]"

RECONNECT: Final = BackoffPolicy(initial=0.1, maximum=5.0)
SUPERSEDED: Final = "SUPERSEDED"
"""Reason for which the service ends a stream when the node has begun another."""
_OVER: Final = (grpc.aio.AioRpcError, asyncio.InvalidStateError)
"""What a write says when the stream is over: the reader finds out too, and the next stream says the
failures anyway."""
STABLE_SECONDS: Final = 5.0
"""A stream that stood for so long, and then ended, is no failure in a row."""


class StreamObserver(Protocol):
    def connected(self, peer: str) -> None:
        pass

    def disconnected(self, error: RomanaError) -> None:
        """The stream ended, or did not come about."""


@dataclass(frozen=True, slots=True)
class Peer(Generic[V]):
    """One replica: how to open a stream to it, and its messages."""

    address: str
    """For the log."""
    open: Callable[[], Call]
    """Begins a call: `lambda: stub.SyncRoutes()`."""
    hello: Callable[[Hello], object]
    """Makes the request message."""
    ack: Callable[[Ack], object]
    """Makes the request message."""
    response: Callable[[Any], Response[V]]
    """Reads a response message; raises RomanaError."""
    question: Callable[[Any], int] = lambda _: 0
    """Id of the question that a message asks; 0: it is a response."""


class StreamClient(Generic[V]):
    def __init__(
        self,
        receiver: Receiver[V],
        *,
        node: str,
        version: str,
        apply: Callable[[Batch[V]], Awaitable[Iterable[Failure]]],
        peers: Sequence[Peer[V]],
        answering: Answering | None = None,
        observer: StreamObserver | None = None,
        policy: BackoffPolicy = RECONNECT,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Nothing happens before `run`.

        Args:
            receiver: what is held; nobody else feeds it.
            node: the node's name.
            version: the agent's version.
            apply: makes the kernel equal to `receiver.held`; returns all resources that are not
                applied now. Called with one batch at a time, and not cut short when the stream
                ends. It does not raise for what is in a resource.
            peers: replicas, of which any will do; tried in turn.
            answering: answers questions about the kernel, one at a time; None: they are not asked.
            observer: told how it goes.
            policy: of the pauses between attempts.
            draw: random numbers of [0, 1).
        """
        self._receiver = receiver
        self._node = node
        self._version = version
        self._apply = apply
        self._peers = tuple(peers)
        self._observer = observer
        self._policy = policy
        self._backoff = Backoff(policy, draw)
        self._next = int(draw() * len(self._peers))
        self._call: Call | None = None
        self._peer: Peer[V] | None = None
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._applying: asyncio.Task[None] | None = None
        self._answering = answering
        self._question = 0
        self._asked = asyncio.Event()

    @property
    def connected(self) -> bool:
        """A stream stands, as far as is known."""
        return self._call is not None

    def report(self, failures: Iterable[Failure]) -> None:
        """Says which resources are not applied now, when that changed without a batch."""
        if self._receiver.failing(failures) is not None:
            self._changed.set()

    async def run(self) -> None:
        """Keeps the stream until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            peer = self._peers[self._next % len(self._peers)]
            self._next += 1
            begun = loop.time()
            error = await self._attend(peer)
            if self._observer is not None:
                self._observer.disconnected(error)
            if loop.time() - begun >= STABLE_SECONDS:
                self._backoff.succeeded()
            pause = self._backoff.failed()
            if error.reason == SUPERSEDED:  # two agents in one node's name: do not fight
                pause = self._policy.maximum
            log.info(
                "sync_disconnected", peer=peer.address, why=str(error), reason=error.reason,
                pause=round(pause, 3),
            )  # fmt: skip
            await asyncio.sleep(pause)

    async def _attend(self, peer: Peer[V]) -> RomanaError:
        """One stream, to its end; returns why it ended."""
        call = peer.open()
        self._asked.clear()
        beside = [
            asyncio.create_task(self._send_reports()),
            asyncio.create_task(self._send_answers()),
        ]
        try:
            await self._converse(peer, call)
        except grpc.aio.AioRpcError as error:
            return error_of(error)
        except ProtocolViolation as error:
            return Unavailable(str(error), reason="PROTOCOL_VIOLATION")
        except RomanaError as error:
            self._receiver.forget()
            return error
        except asyncio.InvalidStateError:
            return await _ended(call)  # written to after its end
        finally:
            self._call = self._peer = None
            self._receiver.disconnected()
            for task in beside:
                task.cancel()
            call.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        return await _ended(call)

    async def _converse(self, peer: Peer[V], call: Call) -> None:
        try:
            await self._listen(peer, call)
        except asyncio.CancelledError:
            if self._applying is not None:
                self._applying.cancel()
            raise
        finally:
            applying, self._applying = self._applying, None
            if applying is not None:
                await asyncio.gather(applying, return_exceptions=True)

    async def _listen(self, peer: Peer[V], call: Call) -> None:
        hello = replace(
            self._receiver.hello(self._node, self._version), answers=self._answering is not None
        )
        async with self._writing:
            self._call, self._peer = call, peer
            await call.write(peer.hello(hello))
            if hello.resume is not None:
                await call.write(peer.ack(self._receiver.status()))
        first = True
        while True:
            message = await _read(call, self._applying)
            if message is grpc.aio.EOF:
                return
            if first:
                first = False
                log.info("sync_connected", peer=peer.address, resumed=hello.resume is not None)
                if self._observer is not None:
                    self._observer.connected(peer.address)
            if question := peer.question(message):
                self._question = question
                self._asked.set()
            else:
                await self._take(peer, peer.response(message))

    async def _take(self, peer: Peer[V], response: Response[V]) -> None:
        if self._applying is not None:  # it is done: one response is in flight at a time
            await self._applying
        batch = self._receiver.receive(response)
        if batch is None:
            await self._write(peer.ack(self._receiver.received(response)))
        else:
            # beside reading: a kernel that takes long is just what somebody asks about
            self._applying = asyncio.create_task(self._carry_out(batch, response.span, peer))

    async def _carry_out(self, batch: Batch[V], span: str, peer: Peer[V]) -> None:
        with spans.shared("apply", (span,)):
            failures = await self._apply(batch)
        await self._write(peer.ack(self._receiver.applied(batch, failures)))

    async def _send_reports(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            peer = self._peer
            if peer is not None:
                with contextlib.suppress(*_OVER):
                    await self._write(peer.ack(self._receiver.status()))

    async def _send_answers(self) -> None:
        while self._answering is not None:
            await self._asked.wait()
            self._asked.clear()
            messages = await self._answering(self._question, self._receiver.position)
            with contextlib.suppress(*_OVER):
                for message in messages:
                    await self._write(message)

    async def _write(self, message: object) -> None:
        async with self._writing:
            if self._call is not None:
                await self._call.write(message)


async def _read(call: Call, applying: asyncio.Task[None] | None) -> object:
    """The next message; raises at once what applying raises meanwhile."""
    if applying is None:
        return await call.read()
    reading = asyncio.ensure_future(call.read())
    try:
        await asyncio.wait({reading, applying}, return_when=asyncio.FIRST_COMPLETED)
        if applying.done():
            applying.result()
        return await reading
    finally:
        reading.cancel()


async def _ended(call: Call) -> RomanaError:
    """Why a call is over."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        return Unavailable("the service ended the stream", reason="STREAM_ENDED")
    details = await call.details()
    trailing = await call.trailing_metadata()
    initial = grpc.aio.Metadata()
    return error_of(grpc.aio.AioRpcError(code, initial, trailing, details))
