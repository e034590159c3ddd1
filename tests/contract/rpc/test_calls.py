"""What every call goes through: request ids, metrics, cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from services.common.errors import NotFound
from services.common.process.logs import current_request
from services.common.rpc.metadata_keys import REQUEST_ID_KEY
from services.common.rpc.request_id import MAX_REQUEST_ID
from services.common.rpc.status import error_of
from services.common.sizes import MESSAGE_BYTES
from tests.contract.rpc.probe import SERVICE, Running, until
from tests.support.hidden_ends import hides_its_end

SHAPES = ["Unary", "Generate", "Echo"]


async def call(running: Running, shape: str, **arguments: Any) -> list[str]:
    request = StringValue(value="ab")
    if shape == "Unary":
        return [(await running.stub.unary(request, **arguments)).value]
    if shape == "Generate":
        return [reply.value async for reply in running.stub.generate(request, **arguments)]
    stream = running.stub.echo(iter([request, request]), **arguments)
    return [reply.value async for reply in stream]


def handled(running: Running, shape: str, code: grpc.StatusCode) -> float:
    """Calls that were counted; a client may have its answer a moment before that."""
    labels = {"method": f"{SERVICE}/{shape}", "code": code.name}
    return running.registry.get_sample_value("romana_rpc_handled_total", labels) or 0


def raising(error: Exception) -> Any:
    async def behaviour(_request: StringValue, _context: Any) -> StringValue:
        raise error

    return behaviour


def waiting(entered: asyncio.Event, ended: asyncio.Event) -> Any:
    async def behaviour(request: StringValue, _context: Any) -> StringValue:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return request

    return behaviour


@pytest.mark.parametrize(
    ("shape", "answer"), [("Unary", ["ab"]), ("Generate", ["a", "b"]), ("Echo", ["ab", "ab"])]
)
async def test_each_shape_works_and_is_counted(
    running: Running, shape: str, answer: list[str]
) -> None:
    assert await call(running, shape) == answer

    await until(lambda: running.sample("romana_rpc_in_flight", shape) == 0)
    assert running.sample("romana_rpc_started_total", shape) == 1
    assert handled(running, shape, grpc.StatusCode.OK) == 1


@pytest.mark.parametrize("shape", SHAPES)
async def test_each_shape_fails_with_its_code_and_is_counted(running: Running, shape: str) -> None:
    running.probe.behaviour = raising(NotFound("gone"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(running, shape)

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND or hides_its_end(caught.value)
    await until(lambda: handled(running, shape, grpc.StatusCode.NOT_FOUND) == 1)
    assert running.sample("romana_rpc_in_flight", shape) == 0


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_message_that_cannot_be_decoded_is_the_callers_mistake(
    running: Running, shape: str
) -> None:
    garbage, method = b"\xff\xff\xff", f"/{SERVICE}/{shape}"
    calls: dict[str, Any] = {
        "Unary": lambda: running.channel.unary_unary(method)(garbage),
        "Generate": lambda: running.channel.unary_stream(method)(garbage).read(),
        "Echo": lambda: running.channel.stream_stream(method)(iter([garbage])).read(),
    }
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await calls[shape]()

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT or hides_its_end(caught.value)
    await until(lambda: handled(running, shape, grpc.StatusCode.INVALID_ARGUMENT) == 1)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_cancelled_call_of_each_shape_reaches_the_handler_and_is_counted(
    running: Running, shape: str
) -> None:
    entered, ended = asyncio.Event(), asyncio.Event()
    running.probe.behaviour = waiting(entered, ended)
    task = asyncio.create_task(call(running, shape))
    await entered.wait()
    assert running.sample("romana_rpc_in_flight", shape) == 1
    task.cancel()

    await ended.wait()
    await until(lambda: handled(running, shape, grpc.StatusCode.CANCELLED) == 1)
    assert running.sample("romana_rpc_in_flight", shape) == 0
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_deadline_that_passes_is_counted_as_one(running: Running) -> None:
    entered, ended = asyncio.Event(), asyncio.Event()
    running.probe.behaviour = waiting(entered, ended)
    with pytest.raises(grpc.aio.AioRpcError):
        await running.stub.unary(StringValue(), timeout=0.1)

    await ended.wait()
    await until(lambda: handled(running, "Unary", grpc.StatusCode.DEADLINE_EXCEEDED) == 1)


async def test_an_abort_by_the_handler_keeps_its_code(running: Running) -> None:
    async def behaviour(_request: StringValue, context: Any) -> StringValue:
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, "beyond")
        raise AssertionError

    running.probe.behaviour = behaviour
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.unary(StringValue())

    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE
    await until(lambda: handled(running, "Unary", grpc.StatusCode.OUT_OF_RANGE) == 1)


async def test_only_unary_calls_have_a_latency(running: Running) -> None:
    for shape in SHAPES:
        await call(running, shape)

    await until(lambda: running.sample("romana_rpc_duration_seconds_count", "Unary") == 1)
    labels = {"method": "probe.v1.Probe/Echo"}
    assert running.registry.get_sample_value("romana_rpc_duration_seconds_count", labels) is None


async def test_the_callers_request_id_is_echoed_and_known_to_the_log(running: Running) -> None:
    seen = []

    async def behaviour(request: StringValue, _context: Any) -> StringValue:
        seen.append(current_request.get())
        return request

    running.probe.behaviour = behaviour
    reply = running.stub.unary(StringValue(), metadata=((REQUEST_ID_KEY, "req-7"),))
    await reply

    assert seen == ["req-7"]
    assert dict(await reply.trailing_metadata())[REQUEST_ID_KEY] == "req-7"


async def test_calls_without_a_request_id_get_different_ones(running: Running) -> None:
    seen = []

    async def behaviour(request: StringValue, _context: Any) -> StringValue:
        seen.append(current_request.get())
        return request

    running.probe.behaviour = behaviour
    await running.stub.unary(StringValue())
    await running.stub.unary(StringValue(), metadata=((REQUEST_ID_KEY, "x" * MAX_REQUEST_ID * 2),))

    assert len(set(seen)) == 2
    assert all(0 < len(request_id) <= MAX_REQUEST_ID for request_id in seen)


async def test_a_failed_call_returns_the_id_that_is_in_the_log(running: Running) -> None:
    seen = []

    async def behaviour(_request: StringValue, _context: Any) -> StringValue:
        seen.append(current_request.get())
        raise NotFound("gone")

    running.probe.behaviour = behaviour
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.unary(StringValue())

    assert dict(caught.value.trailing_metadata())[REQUEST_ID_KEY] == seen[0]


async def test_known_label_sets_exist_before_the_first_call(running: Running) -> None:
    for shape in SHAPES:
        assert handled(running, shape, grpc.StatusCode.RESOURCE_EXHAUSTED) == 0


async def test_what_is_scraped_is_well_formed(running: Running) -> None:
    await call(running, "Unary")
    await until(lambda: handled(running, "Unary", grpc.StatusCode.OK) == 1)
    text = generate_latest(running.registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    duration = [
        sample
        for sample in families["romana_rpc_duration_seconds"].samples
        if sample.labels["method"] == "probe.v1.Probe/Unary"
    ]

    assert {sample.labels["le"]: sample.value for sample in duration if "le" in sample.labels}[
        "+Inf"
    ] == 1
    assert families["romana_rpc_handled"].type == "counter"
    assert families["romana_rpc_in_flight"].type == "gauge"


async def test_an_answer_that_is_too_large_is_refused_with_its_size(running: Running) -> None:
    async def much(_request: StringValue, _context: Any) -> StringValue:
        return StringValue(value="x" * MESSAGE_BYTES)

    running.probe.behaviour = much
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.unary(StringValue(value="ab"))
    error = error_of(caught.value)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.reason == "ANSWER_TOO_LARGE"
    assert int(error.metadata["bytes"]) > int(error.metadata["most"]) == MESSAGE_BYTES
