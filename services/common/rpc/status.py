"""The one mapping between our errors and gRPC statuses, both ways.

    RomanaError > google.rpc.Status{code, message, ErrorInfo, RetryInfo?, extra?, BadRequest?}
    AioRpcError > RomanaError, with the status it came in still at hand: `remote_status`

An error that came from another replica keeps its details when it is passed on. What is no
RomanaError is INTERNAL, without a word about the inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from services.common import errors
from services.common.errors import DOMAIN, RomanaError

DETAILS_KEY = "grpc-status-details-bin"
"""Metadata key of the rich status: https://grpc.io/docs/guides/error/, richer error model."""

MAX_MESSAGE = 1024
"""Characters."""
MAX_STATUS = 5 * 1024
"""Bytes on the wire. gRPC's clients refuse metadata above 8 KiB by default, all together, and the
message travels twice, once percent-encoded."""

_CODES: Mapping[type[RomanaError], grpc.StatusCode] = MappingProxyType(
    {
        errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
        errors.NotFound: grpc.StatusCode.NOT_FOUND,
        errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
        errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
        errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
        errors.Conflict: grpc.StatusCode.ABORTED,
        errors.Forbidden: grpc.StatusCode.PERMISSION_DENIED,
        errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    }
)
_CLASSES: Mapping[grpc.StatusCode, type[RomanaError]] = MappingProxyType(
    {
        **{code: kind for kind, code in _CODES.items()},
        grpc.StatusCode.OUT_OF_RANGE: errors.InvalidInput,
        grpc.StatusCode.UNAUTHENTICATED: errors.Forbidden,
        grpc.StatusCode.DEADLINE_EXCEEDED: errors.Unavailable,
        grpc.StatusCode.CANCELLED: errors.Unavailable,
    }
)
_RETRY_AFTER: Mapping[type[RomanaError], float] = MappingProxyType(
    {errors.Unavailable: 1.0, errors.Conflict: 0.05}
)
"""Seconds. An election takes about a second; who lost a race may read again nearly at once."""

_WRITE_FAILED = "Internal error from Core"
"""What grpc.aio's client says, as INTERNAL, when a stream ends while it is written to, whatever
status it ended with: https://github.com/grpc/grpc/issues/36066. No server of ours says so."""

_BY_NUMBER: Mapping[int, grpc.StatusCode] = MappingProxyType(
    {code.value[0]: code for code in grpc.StatusCode}
)

_T = TypeVar("_T")
_M = TypeVar("_M", bound=Message)

DetailEncoder = Callable[[RomanaError], Message]


def code_of(status: status_pb2.Status) -> grpc.StatusCode:
    """The status' code; UNKNOWN for a number that is none."""
    return _BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)


class StatusEncoder:
    """Makes statuses of errors; services add encoders for the details of their own errors."""

    def __init__(
        self,
        detail_encoders: Mapping[type[RomanaError], DetailEncoder] = MappingProxyType({}),
    ) -> None:
        """Takes encoders by error class, subclasses included; the nearest class counts."""
        self._encoders = dict(detail_encoders)

    def status_of(self, error: BaseException) -> status_pb2.Status:
        """The status of a call, or of an item of a batch, that failed with this error."""
        if not isinstance(error, RomanaError):
            return _status(grpc.StatusCode.INTERNAL, errors.internal_error(), ())
        remote = remote_status(error)
        if remote is not None and _error_info(remote) is not None:
            return remote
        code = _nearest(_CODES, error) or grpc.StatusCode.INTERNAL
        encoder = _nearest(self._encoders, error)
        return _status(code, error, () if encoder is None else (encoder(error),))


def error_of(error: grpc.RpcError) -> RomanaError:
    """What a failed call means: the error that the server raised, or one of ours that fits.

    Deadline, cancellation and connection failures are Unavailable; their reason tells them apart.
    So is a stream that ended while it was written to. The call's error is the cause of the returned
    one.
    """
    status = _status_from(error)
    code = code_of(status)
    if code is grpc.StatusCode.INTERNAL and status.message == _WRITE_FAILED:
        code, status.message = grpc.StatusCode.UNAVAILABLE, "the stream broke while it was written"
    kind = _CLASSES.get(code, RomanaError)
    info = _error_info(status)
    result = kind(
        status.message or code.name,
        reason=info.reason if info else code.name,
        metadata=dict(info.metadata) if info else {},
    )
    if isinstance(result, errors.InvalidInput):
        result.violations = _violations(status)
    result.__cause__ = error
    return result


def remote_status(error: RomanaError) -> status_pb2.Status | None:
    """The status that an error of `error_of` came in, with all its details; None for our own."""
    return _status_from(error.__cause__) if isinstance(error.__cause__, grpc.RpcError) else None


def error_of_status(status: status_pb2.Status) -> RomanaError | None:
    """What an item's status in the answer to a batch means; None when it is OK."""
    if code_of(status) is grpc.StatusCode.OK:
        return None
    metadata = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    return error_of(grpc.aio.AioRpcError(code_of(status), None, metadata, status.message))


def fit(status: status_pb2.Status, most: int = MAX_STATUS) -> status_pb2.Status:
    """The status cut to so many bytes, by default what fits into a call's metadata.

    The ErrorInfo's reason and the beginning of the message always stay.
    """
    if len(status.message) <= MAX_MESSAGE and status.ByteSize() <= most:
        return status
    fitted = status_pb2.Status()
    fitted.CopyFrom(status)
    fitted.message = _cut(status.message, min(MAX_MESSAGE, most // 3))
    while fitted.ByteSize() > most and len(fitted.details) > 1:
        last = fitted.details[-1]
        bad_request = error_details_pb2.BadRequest()
        if last.Unpack(bad_request) and len(bad_request.field_violations) > 1:
            del bad_request.field_violations[len(bad_request.field_violations) // 2 :]
            last.Pack(bad_request)
        else:
            del fitted.details[-1]
    if fitted.ByteSize() > most and fitted.details:
        info = error_details_pb2.ErrorInfo()
        fitted.details[0].Unpack(info)
        info.metadata.clear()
        fitted.details[0].Pack(info)
    return fitted


def _cut(text: str, limit: int) -> str:
    """At most so many bytes; a character is not divided."""
    data = text.encode()
    return text if len(data) <= limit else data[: limit - 3].decode(errors="ignore") + "..."


def _nearest(table: Mapping[type[RomanaError], _T], error: RomanaError) -> _T | None:
    return next((table[kind] for kind in type(error).__mro__ if kind in table), None)


def _status(
    code: grpc.StatusCode, error: RomanaError, extra: Sequence[Message]
) -> status_pb2.Status:
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    ]
    retry_after = _nearest(_RETRY_AFTER, error)
    if retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(retry_after * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    details += extra
    if isinstance(error, errors.InvalidInput) and error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=violation.path, description=violation.message
                    )
                    for violation in error.violations
                ]
            )
        )
    status = status_pb2.Status(code=code.value[0], message=error.message)
    for detail in details:
        status.details.add().Pack(detail)
    return status


def _status_from(error: grpc.RpcError) -> status_pb2.Status:
    """The rich status of a failed call, or a bare one of its code and message."""
    if not isinstance(error, grpc.aio.AioRpcError | grpc.Call):
        return status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    code = error.code()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                break
            if status.code == code.value[0]:
                return status
    return status_pb2.Status(code=code.value[0], message=error.details() or "")


def _unpack_first(details: Sequence[any_pb2.Any], into: _M) -> _M | None:
    return next((into for detail in details if detail.Unpack(into)), None)


def _error_info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo | None:
    info = _unpack_first(status.details, error_details_pb2.ErrorInfo())
    return info if info is not None and info.domain == DOMAIN else None


def _violations(status: status_pb2.Status) -> tuple[errors.Violation, ...]:
    bad_request = _unpack_first(status.details, error_details_pb2.BadRequest())
    if bad_request is None:
        return ()
    return tuple(
        errors.Violation(violation.field, violation.description)
        for violation in bad_request.field_violations
    )
