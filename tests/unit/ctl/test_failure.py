from __future__ import annotations

import json

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from romana.ipam.v1 import utilization_pb2

from services.common.errors import (
    Exhausted,
    InvalidInput,
    NotFound,
    RomanaError,
    Unavailable,
    Violation,
)
from services.common.rpc.metadata_keys import REQUEST_ID_KEY
from services.common.rpc.status import DETAILS_KEY, StatusEncoder, code_of
from services.ctl.failures import failure, failure_view
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import Failure
from services.ctl.views.output import Format

EXHAUSTION = utilization_pb2.Exhaustion(
    networks=[
        utilization_pb2.NetworkRefusal(
            network="prod",
            refusal=utilization_pb2.REFUSAL_GROUP_FULL,
            group="dc/r1",
            message="full",
        ),
        utilization_pb2.NetworkRefusal(
            network="qa",
            refusal=utilization_pb2.REFUSAL_RESTING,
            resting=3,
            retry_after_seconds=12,
        ),
    ]
)
ENCODER = StatusEncoder({Exhausted: lambda _: EXHAUSTION})


def failed(error: RomanaError, *metadata: tuple[str, str | bytes]) -> Failure:
    """What the command makes of an error that a service raised."""
    status = ENCODER.status_of(error)
    code = code_of(status)
    call = grpc.aio.AioRpcError(
        code,
        grpc.aio.Metadata(),
        grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()), *metadata),
        status.message,
    )
    return failure.of_call(call, name="ipam", address="127.0.0.1:9620")


def bare(code: grpc.StatusCode, message: str = "") -> Failure:
    """What it makes of an error that gRPC itself raised."""
    call = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), message)
    return failure.of_call(call, name="ipam", address="127.0.0.1:9620")


def test_a_services_error_keeps_message_reason_and_request_id() -> None:
    made = failed(NotFound("no node n9", "NODE_NOT_FOUND"), (REQUEST_ID_KEY, "r-1"))
    assert (made.message, made.reason, made.request_id) == ("no node n9", "NODE_NOT_FOUND", "r-1")
    assert made.exit_code is ExitCode.NOT_FOUND


def test_the_file_in_which_things_are_wrong_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [Violation("networks[0].cidr", "has host bits"), Violation("networks[1].name", "x")]
    for violations, says in (
        (wrong, "dc.yaml: 2 things are wrong"),
        (wrong[:1], "dc.yaml: networks[0].cidr: has host bits"),
    ):
        made = failed(InvalidInput.of(violations))
        made.file = "dc.yaml"
        failure_view.show(made, form=Format.TABLE)
        assert capsys.readouterr().err.startswith(f"Error: {says} [INVALID_INPUT]")
        failure_view.show(made, form=Format.JSON)
        told = json.loads(capsys.readouterr().err)["error"]["message"]
        assert told.startswith("dc.yaml: networks[0].cidr: has host bits")


def test_all_violations_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    error = InvalidInput.of(
        [
            Violation("networks[0].cidr", "has host bits"),
            Violation("networks[1].name", "is missing"),
        ]
    )
    failure_view.show(failed(error), form=Format.TABLE)
    assert capsys.readouterr().err.splitlines() == [
        "Error: 2 things are wrong [INVALID_INPUT]",
        "  networks[0].cidr: has host bits",
        "  networks[1].name: is missing",
    ]


def test_a_single_violation_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    failure_view.show(failed(InvalidInput.at("name", "is missing")), form=Format.TABLE)
    assert capsys.readouterr().err == "Error: name: is missing [INVALID_INPUT]\n"


def test_exhaustion_is_a_table_of_the_networks_that_were_tried(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = failed(Exhausted("no address for web-1"))
    failure_view.show(made, form=Format.TABLE)
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line.split() for line in printed.err.splitlines()]
    assert ["prod", "group", "full", "dc/r1", "full"] in lines
    assert "3 rest, the first for 12 s more" in printed.err
    assert made.exit_code is ExitCode.REFUSED


def test_for_programs_a_failure_is_one_document_on_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failure_view.show(failed(Exhausted("no address")), form=Format.JSON)
    printed = capsys.readouterr()
    error = json.loads(printed.err)["error"]
    assert printed.out == ""
    assert error["status"] == "RESOURCE_EXHAUSTED"
    assert error["exhaustions"][0]["networks"][0]["refusal"] == "REFUSAL_GROUP_FULL"
    assert error["exit_code"] == 4


def test_a_service_that_is_away_is_named_with_the_way_to_reach_it() -> None:
    made = bare(grpc.StatusCode.UNAVAILABLE, "failed to connect: x: Connection refused")
    assert made.message == "ipam at 127.0.0.1:9620 cannot be reached: Connection refused"
    assert "ROMANA_IPAM" in made.hint
    assert made.exit_code is ExitCode.UNREACHABLE


def test_a_service_that_is_not_ready_is_quoted_and_named() -> None:
    made = failed(Unavailable("no replica is active", "NO_ACTIVE_REPLICA"))
    assert made.message == "ipam at 127.0.0.1:9620: no replica is active"


def test_of_an_endpoint_that_an_agent_has_not_its_own_list_is_named() -> None:
    call = grpc.aio.AioRpcError(
        grpc.StatusCode.NOT_FOUND,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(
            (
                DETAILS_KEY,
                ENCODER.status_of(NotFound("no", "ENDPOINT_NOT_FOUND")).SerializeToString(),
            )
        ),
        "no",
    )
    made = failure.of_call(call, name="agent", address="unix:/x")
    assert "romana endpoint list" in made.hint
    assert failure.of_call(call, name="policy", address="h:1").hint == ""


def test_an_answer_too_late_names_the_option() -> None:
    made = bare(grpc.StatusCode.DEADLINE_EXCEEDED)
    assert "did not answer in time" in made.message
    assert "--timeout" in made.hint


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 2),
        (grpc.StatusCode.NOT_FOUND, 3),
        (grpc.StatusCode.ALREADY_EXISTS, 4),
        (grpc.StatusCode.FAILED_PRECONDITION, 4),
        (grpc.StatusCode.ABORTED, 4),
        (grpc.StatusCode.PERMISSION_DENIED, 4),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 5),
        (grpc.StatusCode.UNIMPLEMENTED, 5),
        (grpc.StatusCode.INTERNAL, 70),
        (grpc.StatusCode.UNKNOWN, 70),
    ],
)
def test_codes_become_exit_codes(code: grpc.StatusCode, expected: int) -> None:
    assert bare(code).exit_code == expected


def test_details_of_unknown_kind_are_passed_over() -> None:
    status = status_pb2.Status(code=9, message="not now")
    status.details.add().Pack(error_details_pb2.RetryInfo())
    assert failure.of_status(status).message == "not now"
