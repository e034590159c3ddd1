"""What went wrong, as a value: from a call's status, or found by the command itself.

One `Failure` carries everything a person needs: the message, each wrong field, where room was
looked for, and what to do next. How it looks is `services.ctl.failures.failure_view`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

import grpc
from google.rpc import error_details_pb2, status_pb2
from romana.ipam.v1 import utilization_pb2

from services.common.errors import InvalidInput, RomanaError, Violation
from services.common.rpc.connecting import cause_of
from services.common.rpc.metadata_keys import REQUEST_ID_KEY
from services.common.rpc.status import StatusEncoder, code_of, error_of, remote_status
from services.ctl.failures.exit_codes import ExitCode, exit_code

THOSE_HERE = "`romana endpoint list` names those on this node"
AGENT_HINT = (
    "does the agent run on this node, and are you its user? --agent-socket or ROMANA_AGENT says "
    "where it listens"
)


@dataclass(eq=False)
class Failure(Exception):
    """A call or a check that failed."""

    message: str
    status: str = "INTERNAL"
    """Name of the gRPC code."""
    reason: str = ""
    """`ErrorInfo.reason`; empty: the server sent none."""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    violations: tuple[Violation, ...] = ()
    exhaustions: tuple[utilization_pb2.Exhaustion, ...] = ()
    service: str = ""
    """Who said it, such as "topology at 127.0.0.1:9610"; empty: the command itself."""
    request_id: str = ""
    """By which the request is found in the services' logs."""
    hint: str = ""
    """What to do about it, when that needs saying."""
    file: str = ""
    """Where the user wrote what is wrong, unless the message says it."""

    def __str__(self) -> str:
        return self.message

    @property
    def exit_code(self) -> ExitCode:
        return exit_code(self.status)


def usage(message: str) -> Failure:
    """Wrong use that only shows after the options were parsed one by one."""
    return Failure(message, status="INVALID_ARGUMENT")


@contextmanager
def about(what: str) -> Iterator[None]:
    """What is wrong with it is said with what it is, since it may stand in the environment."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(
            f"{what}: {error.message}", error.reason, violations=error.violations
        ) from error


def of_status(status: status_pb2.Status) -> Failure:
    """Unpacks a status and its details; unknown details are left out."""
    code = code_of(status)
    failure = Failure(status.message or code.value[1], status=code.name)
    exhaustions: list[utilization_pb2.Exhaustion] = []
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        bad = error_details_pb2.BadRequest()
        exhaustion = utilization_pb2.Exhaustion()
        if detail.Unpack(info):
            failure.reason = info.reason
            failure.metadata = MappingProxyType(dict(info.metadata))
        elif detail.Unpack(bad):
            failure.violations += tuple(
                Violation(violation.field, violation.description)
                for violation in bad.field_violations
            )
        elif detail.Unpack(exhaustion):
            exhaustions.append(exhaustion)
    failure.exhaustions = tuple(exhaustions)
    return failure


def of_error(error: RomanaError) -> Failure:
    """Translates an error that was raised on this side."""
    return of_status(StatusEncoder().status_of(error))


def of_call(error: grpc.aio.AioRpcError, *, name: str, address: str, tls: bool = False) -> Failure:
    """Translates what a call raised; the rest says which service was called, and how."""
    status = remote_status(error_of(error))
    assert status is not None
    failure = of_status(status)
    failure.service = f"{name} at {address}"
    for key, value in error.trailing_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str):
            failure.request_id = value
    if name == "agent" and failure.reason == "ENDPOINT_NOT_FOUND":
        failure.hint = THOSE_HERE
    elif error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not failure.reason:
        failure.message = f"{failure.service} did not answer in time"
        failure.hint = "--timeout gives it longer"
    elif error.code() is grpc.StatusCode.UNAVAILABLE and failure.reason:
        failure.message = f"{failure.service}: {failure.message}"  # of several, one is not ready
    elif error.code() is grpc.StatusCode.UNAVAILABLE:
        cause = cause_of(failure.message, tls=tls)
        failure.message = f"{failure.service} cannot be reached: {cause.text}"
        failure.hint = cause.hint or (AGENT_HINT if name == "agent" else _service_hint(name))
    elif error.code() is grpc.StatusCode.UNIMPLEMENTED:
        failure.message = f"{failure.service} does not offer this: {failure.message}"
        failure.hint = "is this the right address, and as new as this command?"
    return failure


def _service_hint(name: str) -> str:
    return (
        f"`romana up` starts a cluster here; --{name}-address or ROMANA_{name.upper()} says "
        "where another one is"
    )
