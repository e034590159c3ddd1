"""Errors of a server, through a real connection, to errors of a client."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2

from services.common import errors
from services.common.errors import RomanaError, Violation
from services.common.rpc.status import (
    DETAILS_KEY,
    StatusEncoder,
    error_of,
    remote_status,
)
from tests.contract.rpc.probe import Running, start_probe

CODES = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    RomanaError: grpc.StatusCode.INTERNAL,
}


class NoRoom(errors.Exhausted):
    """A service's own error."""


def raising(error: BaseException) -> Any:
    async def behaviour(_request: StringValue, _context: object) -> StringValue:
        raise error

    return behaviour


async def failure(running: Running, error: BaseException) -> grpc.aio.AioRpcError:
    running.probe.behaviour = raising(error)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.unary(StringValue(value="x"))
    return caught.value


def detail(status: status_pb2.Status, into: Any) -> list[Any]:
    found = []
    for packed in status.details:
        message = type(into)()
        if packed.Unpack(message):
            found.append(message)
    return found


@pytest.mark.parametrize("kind", CODES)
async def test_an_error_class_arrives_as_its_code_and_comes_back_as_the_same_class(
    running: Running, kind: type[RomanaError]
) -> None:
    call = await failure(running, kind("no luck", "NO_LUCK", {"node": "n1"}))

    assert call.code() is CODES[kind]
    assert call.details() == "no luck"
    error = error_of(call)
    assert type(error) is kind
    assert (error.message, error.reason, error.metadata) == ("no luck", "NO_LUCK", {"node": "n1"})
    status = remote_status(error)
    assert status is not None
    infos = detail(status, error_details_pb2.ErrorInfo())
    assert [(info.reason, info.domain) for info in infos] == [("NO_LUCK", "romana")]


async def test_violations_come_back_with_their_paths(running: Running) -> None:
    violations = (Violation("groups[2].cidr", "host bits"), Violation("name", "empty"))
    error = error_of(await failure(running, errors.InvalidInput.of(violations)))

    assert isinstance(error, errors.InvalidInput)
    assert error.violations == violations


@pytest.mark.parametrize("kind", [errors.Unavailable, errors.Conflict])
async def test_what_may_be_retried_says_when(running: Running, kind: type[RomanaError]) -> None:
    status = remote_status(error_of(await failure(running, kind("again"))))

    assert status is not None
    (retry,) = detail(status, error_details_pb2.RetryInfo())
    assert 0 < retry.retry_delay.ToMilliseconds() <= 1000


async def test_an_unexpected_exception_is_internal_and_says_nothing_of_the_inside(
    running: Running,
) -> None:
    call = await failure(running, ValueError("secret path /etc/x"))

    assert call.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(call)
    assert error_of(call).reason == "INTERNAL"
    assert running.sample("romana_rpc_errors_unexpected_total", "Unary") == 1


async def test_an_error_out_of_a_task_group_is_that_error(running: Running) -> None:
    call = await failure(running, ExceptionGroup("tasks", [errors.NotFound("gone")]))

    assert call.code() is grpc.StatusCode.NOT_FOUND


async def test_a_bug_beside_one_of_our_errors_is_internal(running: Running) -> None:
    both = ExceptionGroup("tasks", [errors.NotFound("gone"), KeyError("bug")])

    assert (await failure(running, both)).code() is grpc.StatusCode.INTERNAL


async def test_a_service_adds_details_of_its_own_errors_and_forwarding_keeps_them() -> None:
    encoder = StatusEncoder({NoRoom: lambda error: StringValue(value=f"tried {error.message}")})
    origin, forwarder = await start_probe(encoder), await start_probe()
    try:
        origin.probe.behaviour = raising(NoRoom("net1"))

        async def forward(request: StringValue, _context: object) -> StringValue:
            try:
                answer: StringValue = await origin.stub.unary(request)
            except grpc.aio.AioRpcError as error:
                raise error_of(error) from error
            return answer

        forwarder.probe.behaviour = forward
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await forwarder.stub.unary(StringValue())
        error = error_of(caught.value)
        status = remote_status(error)
        assert isinstance(error, errors.Exhausted)
        assert status is not None
        assert detail(status, StringValue()) == [StringValue(value="tried net1")]
        assert len(detail(status, error_details_pb2.ErrorInfo())) == 1
    finally:
        await origin.close()
        await forwarder.close()


async def test_a_status_too_large_for_metadata_is_cut_and_still_arrives(running: Running) -> None:
    violations = [Violation(f"groups[{index}]", "x" * 50) for index in range(2000)]
    call = await failure(running, errors.InvalidInput("m" * 9000, violations=violations))

    error = error_of(call)
    assert isinstance(error, errors.InvalidInput)
    assert error.reason == "INVALID_INPUT"
    assert error.violations[0].path == "groups[0]"
    assert 1 < len(error.violations) < 2000


async def test_huge_error_metadata_is_dropped_and_the_reason_stays(running: Running) -> None:
    call = await failure(running, errors.NotFound("gone", "GONE", {"list": "x" * 20_000}))

    assert error_of(call).reason == "GONE"


async def test_a_method_that_is_not_implemented_says_so(running: Running) -> None:
    async def behaviour(_request: StringValue, context: Any) -> StringValue:
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        raise NotImplementedError

    running.probe.behaviour = behaviour
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.unary(StringValue())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error_of(caught.value).reason == "UNIMPLEMENTED"


async def test_nobody_there_is_unavailable(running: Running) -> None:
    await running.server.stop(grace=0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.unary(StringValue())

    error = error_of(caught.value)
    assert type(error) is errors.Unavailable
    assert error.reason == "UNAVAILABLE"


async def test_a_deadline_is_unavailable_with_a_reason_of_its_own(running: Running) -> None:
    async def never(_request: StringValue, _context: object) -> StringValue:
        await asyncio.Event().wait()
        raise AssertionError

    running.probe.behaviour = never
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await running.stub.unary(StringValue(), timeout=0.05)

    error = error_of(caught.value)
    assert type(error) is errors.Unavailable
    assert error.reason == "DEADLINE_EXCEEDED"


def test_a_foreign_status_keeps_its_message_and_takes_its_code_as_reason() -> None:
    error = error_of(
        grpc.aio.AioRpcError(grpc.StatusCode.UNAUTHENTICATED, None, None, "who are you")
    )

    assert type(error) is errors.Forbidden
    assert (error.message, error.reason) == ("who are you", "UNAUTHENTICATED")


def test_a_stream_that_broke_while_it_was_written_to_may_be_tried_again() -> None:
    error = error_of(
        grpc.aio.AioRpcError(
            grpc.StatusCode.INTERNAL,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(),
            "Internal error from Core",
            'Failed "execute_batch": (SendMessageOperation,)',
        )
    )
    assert isinstance(error, errors.Unavailable)
    assert StatusEncoder().status_of(error).code == grpc.StatusCode.UNAVAILABLE.value[0]


def test_details_that_are_no_status_are_ignored() -> None:
    metadata = grpc.aio.Metadata((DETAILS_KEY, b"\xff\xff\xff"))
    error = error_of(grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, None, metadata, "gone"))

    assert type(error) is errors.NotFound
