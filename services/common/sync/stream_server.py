"""The service's loop around a `Sender`: a task that reads, and the handler itself, which writes.

Responses are bytes already: a piece is serialised once for all agents that get it, and a response
is that with the stream's own nonce before it, which protobuf's encoding allows. `writing_bytes`
makes a service's registration let them through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

import grpc
import grpc.aio
import structlog

from services.common.errors import InvalidInput
from services.common.rpc.context import Context
from services.common.sync import wire
from services.common.sync.hub import Hub, Stream, topics_text
from services.common.sync.model import Ack, Hello
from services.common.sync.source import Piece

log = structlog.get_logger(__name__)

HELLO_SECONDS: Final = 10.0
"""An agent that says nothing for so long is none."""

Servicer = TypeVar("Servicer")


@dataclass(frozen=True, slots=True)
class Dialect:
    """A service's responses. Requests are alike: `services.common.sync.wire` reads them."""

    head: Callable[[int, str], bytes]
    """Serialises a response with nothing but a nonce and a span."""
    body: Callable[[Piece], bytes]
    """Serialises a response with everything else."""
    question: Callable[[int], bytes]
    """Serialises one that asks, and says nothing."""


class Admission(Protocol):
    """Decides on a stream once it has said for whom it is."""

    def __call__(self, hello: Hello) -> Awaitable[None]:
        """Returns if it may begin, perhaps after waiting; raises RomanaError."""


async def serve(hub: Hub, dialect: Dialect, context: Context, admit: Admission) -> None:
    """Serves one stream to its end; raises RomanaError for why it ends."""
    hello = await _read_hello(context)
    if hello is None:
        return
    await admit(hello)
    stream = hub.open(hello)
    log.info(
        "sync_stream_begun", node=hello.node, agent_version=hello.agent_version,
        topics=topics_text(stream.sender.topics),
    )  # fmt: skip
    reader = asyncio.create_task(_read(context, stream))
    reader.add_done_callback(lambda _: stream.wake.set())
    try:
        await _write(dialect, context, stream, reader)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if stream.ended is None or task is None or task.uncancel():
            raise
        raise stream.ended from None
    finally:
        hub.close(stream)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        log.info("sync_stream_ended", node=hello.node, why=str(stream.ended or ""))


async def _read_hello(context: Context) -> Hello | None:
    """None: the client has gone."""
    try:
        async with asyncio.timeout(HELLO_SECONDS):
            message = await context.read()
    except TimeoutError:
        raise InvalidInput(f"no Hello came within {HELLO_SECONDS:g} s", "NO_HELLO") from None
    if message is grpc.aio.EOF:
        return None
    hello = wire.parse_request(cast("wire.Request", message))
    if not isinstance(hello, Hello):
        raise InvalidInput("the first message is not a Hello", "NO_HELLO")
    return hello


async def _read(context: Context, stream: Stream) -> None:
    """Takes acknowledgments and answers until the agent has no more to say."""
    while (message := await context.read()) is not grpc.aio.EOF:
        said = wire.parse_request(cast("wire.Request", message))
        if isinstance(said, Hello):
            raise InvalidInput("a second Hello on one stream", "SECOND_HELLO")
        if isinstance(said, Ack):
            stream.acknowledge(said)
        else:
            stream.questions.take(said)


async def _write(
    dialect: Dialect, context: Context, stream: Stream, reader: asyncio.Task[None]
) -> None:
    """Sends what there is, one response at a time, until the reader or the stream ends."""
    while not reader.done():
        outgoing = stream.next()
        if outgoing is not None:
            piece = outgoing.piece
            if piece.encoded is None:
                piece.encoded = dialect.body(piece)
            message = dialect.head(outgoing.nonce, stream.span) + piece.encoded
        elif question := stream.questions.next():
            message = dialect.question(question)
        else:
            await stream.wake.wait()
            continue
        stream.writing = True
        try:
            await context.write(message)
        finally:
            stream.writing = False
    reader.result()


def writing_bytes(
    add: Callable[[Servicer, grpc.aio.Server], None], methods: Collection[str]
) -> Callable[[Servicer, grpc.aio.Server], None]:
    """A service's registration in which these methods write bytes instead of messages."""

    def add_all(servicer: Servicer, server: grpc.aio.Server) -> None:
        add(servicer, cast("grpc.aio.Server", _Registrar(server, methods)))

    return add_all


class _Registrar:
    """Stands in for a server in the generated registration code."""

    def __init__(self, server: grpc.aio.Server, methods: Collection[str]) -> None:
        self._server = server
        self._methods = methods

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Nothing: the same handlers are given by name below."""

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        self._server.add_registered_method_handlers(
            service,
            {
                name: grpc.stream_stream_rpc_method_handler(
                    cast("Any", handler.stream_stream), handler.request_deserializer, None
                )
                if name in self._methods
                else handler
                for name, handler in handlers.items()
            },
        )
