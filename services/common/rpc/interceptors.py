"""What every call goes through: request id, metrics, errors to statuses, refusal while draining.

Not `grpc.aio.ServerInterceptor`s: those are asked anew for every call, and a chain of them costs
more than the work done here. Instead each method's handler is wrapped once, when its service is
registered. Unary methods, coroutines that use `context.read` and `context.write`, and asynchronous
generators all become one coroutine shape, so that there is one place that sees how a call ends.

A caller's `x-request-id` is echoed. A call without gets an id for the log, which is returned only
with an error, where it is of use: trailing metadata on every answer would cost more than the rest.
What the message itself says, in its `request_id`, goes before either in the logs.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Final, NoReturn, TypeAlias

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError, Message
from google.rpc import status_pb2

from services.common.audit.methods import AUDITED
from services.common.errors import Exhausted, InvalidInput, RomanaError
from services.common.process.logs import current_request
from services.common.rpc.calling import current_call
from services.common.rpc.context import Context
from services.common.rpc.draining import Draining
from services.common.rpc.metadata_keys import REQUEST_ID_KEY
from services.common.rpc.metrics import MethodMetrics, RpcMetrics
from services.common.rpc.request_id import of_metadata, take_from
from services.common.rpc.revoked import RevokedCertificates
from services.common.rpc.roles import guarded
from services.common.rpc.status import DETAILS_KEY, StatusEncoder, code_of, fit
from services.common.sizes import MESSAGE_BYTES
from services.common.tracing import spans

log = structlog.get_logger(__name__)

# Messages' types are the method's own; all that is known here is that they are messages.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour: TypeAlias = Callable[[Any, Context], Awaitable[Message | None]]
Decoder: TypeAlias = Callable[[bytes], object]

OK = grpc.StatusCode.OK
HEALTH: Final = "grpc.health."
"""Asked all the time, and of no interest in a trace."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class CallWrapper:
    """Wraps the handlers of one server."""

    def __init__(
        self,
        metrics: RpcMetrics,
        encoder: StatusEncoder,
        draining: Draining,
        revoked: RevokedCertificates,
    ) -> None:
        """Request ids made here share a random prefix, which tells processes apart."""
        self._revoked = revoked
        self.on_refused: Callable[[str, RomanaError], None] | None = None
        """Told of every call of an audited method that ends with an error of ours."""
        self._metrics = metrics
        self._encoder = encoder
        self._draining = draining
        self._id_prefix = secrets.token_hex(6)
        self._ids = itertools.count(1)
        self._running = 0
        self._streams = 0
        self._late = 0
        """Calls that came once draining had begun."""
        self._fewer = asyncio.Event()

    async def streams_ended(self) -> None:
        """Returns when no stream runs; once draining, none begins."""
        while self._streams:
            self._fewer.clear()
            await self._fewer.wait()

    async def idle(self) -> None:
        """Returns when no call runs; once draining is closed, none begins."""
        while self._running:
            self._fewer.clear()
            await self._fewer.wait()

    async def quiet(self, seconds: float) -> None:
        """Returns when no call runs, and none has come for so long; once draining is closed, those
        that come are refused."""
        late = -1
        while late != self._late:
            await self.idle()
            late = self._late
            await asyncio.sleep(seconds)

    def wrap(self, method: str, handler: Handler, *, ends_on_drain: bool = False) -> Handler:
        """A handler that does the same as this one, and the above.

        Args:
            method: `package.Service/Method`.
            handler: Of the generated registration code.
            ends_on_drain: Whether calls are ended with UNAVAILABLE when the server stops, for
                streams that do not wait for `Draining` themselves.
        """
        streams = handler.request_streaming or handler.response_streaming
        decode = _decoder(handler)
        behaviour = _behaviour(handler)
        if streams:
            behaviour = self._revoked.ending(behaviour)
        behaviour = guarded(method, behaviour, self._revoked)
        if not handler.request_streaming:
            # not left to grpc, which would answer UNKNOWN past all that is done here
            behaviour, decode = _decoding(decode, behaviour), None
        if not handler.response_streaming:
            behaviour = _checking_size(behaviour)
        if ends_on_drain:
            behaviour = self._ending_on_drain(behaviour)
        if spans.is_on() and not streams and not method.startswith(HEALTH):
            behaviour = _traced(method, behaviour)
        call = self._call(
            behaviour, method, self._metrics.of(method, unary=not streams), streams=streams
        )
        make: Any = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        wrapped: Handler = make(call, decode, handler.response_serializer)
        return wrapped

    def _ending_on_drain(self, behaviour: Behaviour) -> Behaviour:
        async def bounded(request: object, context: Context) -> Message | None:
            async def work() -> Message | None:
                return await behaviour(request, context)

            return await self._draining.bound(work())

        return bounded

    def _call(
        self, behaviour: Behaviour, method: str, metrics: MethodMetrics, *, streams: bool
    ) -> Behaviour:
        draining, ids, id_prefix = self._draining, self._ids, self._id_prefix
        clock = time.perf_counter

        async def call(request: object, context: Context) -> Message | None:
            metrics.started += 1
            self._running += 1
            self._streams += streams
            begun = clock()
            code = OK
            request_id = of_metadata(context)
            if request_id:
                context.set_trailing_metadata(((REQUEST_ID_KEY, request_id),))
            else:
                request_id = f"{id_prefix}-{next(ids):x}"
            current_request.set(request_id)
            current_call.set(context)
            try:
                if draining.begun:
                    self._late += 1
                    (draining.check if streams else draining.check_call)()
                response = await behaviour(request, context)
                if context.code():  # the handler set one; 0 is OK
                    code = _code_set(context, OK)
            except asyncio.CancelledError:
                code = _cancelled_code(context)
                raise
            except grpc.aio.AbortError:
                code = _code_set(context, grpc.StatusCode.UNKNOWN)
                raise
            except Exception as error:  # noqa: BLE001 - the top of a call: becomes its status
                status = self._status_of(_cause(error), context, method, metrics)
                code = code_of(status)
                await _abort(context, status, current_request.get())
            else:
                return response
            finally:
                metrics.ended(code, clock() - begun)
                self._running -= 1
                self._streams -= streams
                if draining.begun:
                    self._fewer.set()

        return call

    def _status_of(
        self, error: BaseException, context: Context, method: str, metrics: MethodMetrics
    ) -> status_pb2.Status:
        if isinstance(error, RomanaError):
            if self.on_refused is not None and method in AUDITED:
                self.on_refused(method, error)
            return fit(self._encoder.status_of(error))
        if (
            isinstance(error, NotImplementedError)
            and _code_set(context, grpc.StatusCode.OK) is grpc.StatusCode.UNIMPLEMENTED
        ):  # a method of the generated base class
            return status_pb2.Status(
                code=grpc.StatusCode.UNIMPLEMENTED.value[0], message=f"{method} is not implemented"
            )
        metrics.unexpected += 1
        log.error("call_failed", method=method, exc_info=error)
        return self._encoder.status_of(error)


def _traced(method: str, behaviour: Behaviour) -> Behaviour:
    """A behaviour in a span of its own, of the caller's if it says one."""

    async def traced(request: object, context: Context) -> Message | None:
        parent = spans.of_metadata(context.invocation_metadata())
        with spans.span(method, parent=parent, serves=True):
            return await behaviour(request, context)

    return traced


def _checking_size(behaviour: Behaviour) -> Behaviour:
    """A behaviour that refuses an answer which gRPC would not send, without saying why."""

    async def checked(request: object, context: Context) -> Message | None:
        response = await behaviour(request, context)
        size = response.ByteSize() if response is not None else 0
        if size > MESSAGE_BYTES:
            raise Exhausted(
                f"the answer has {size} bytes, and {MESSAGE_BYTES} is the most that is sent: ask "
                "for less at a time",
                reason="ANSWER_TOO_LARGE",
                metadata={"bytes": str(size), "most": str(MESSAGE_BYTES)},
            )
        return response

    return checked


def _behaviour(handler: Handler) -> Behaviour:
    """The method as a coroutine, whatever its style."""
    function: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    if not inspect.isasyncgenfunction(function):
        behaviour: Behaviour = function
        return behaviour

    async def write_all(request: object, context: Context) -> None:
        responses: AsyncGenerator[Message, None] = function(request, context)
        async with contextlib.aclosing(responses):
            async for response in responses:
                await context.write(response)

    return write_all


def _decoder(handler: Handler) -> Decoder | None:
    """Reads a message of the method; raises InvalidInput."""
    deserialize = handler.request_deserializer
    if deserialize is None:
        return None

    def decode(data: bytes) -> object:
        try:
            return deserialize(data)
        except DecodeError as error:
            raise InvalidInput.at("", f"the message cannot be decoded: {error}") from None

    return decode


def _decoding(decode: Decoder | None, behaviour: Behaviour) -> Behaviour:
    """A behaviour that is given bytes."""
    if decode is None:
        return behaviour

    async def decoding(data: bytes, context: Context) -> Message | None:
        message = decode(data)
        take_from(message)
        return await behaviour(message, context)

    return decoding


async def _abort(context: Context, status: status_pb2.Status, request_id: str) -> NoReturn:
    await context.abort(
        code_of(status),
        status.message,
        trailing_metadata=(
            (REQUEST_ID_KEY, request_id),
            (DETAILS_KEY, status.SerializeToString()),
        ),
    )


def _cause(error: Exception) -> BaseException:
    """The error to report of a task group's: one of ours if nothing worse happened beside it."""
    if not isinstance(error, ExceptionGroup):
        return error
    causes = [_cause(inner) for inner in error.exceptions]
    worst = next((cause for cause in causes if not isinstance(cause, RomanaError)), None)
    return causes[0] if worst is None else error


def _code_set(context: Context, default: grpc.StatusCode) -> grpc.StatusCode:
    """The code that the handler itself set."""
    code: object = context.code()  # a number, or what set_code was given
    if not code:
        return default
    if isinstance(code, grpc.StatusCode):
        return code
    return _CODES.get(code, default) if isinstance(code, int) else default


def _cancelled_code(context: Context) -> grpc.StatusCode:
    """What the caller sees: grpc cancels the handler in both cases."""
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED
