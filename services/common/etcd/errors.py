"""What can go wrong with the store, and the translation of gRPC's errors into it.

Unavailable (services.common.errors)
 └─ OutcomeUnknown       a write was sent and its fate is not known
Compacted                the revision asked for is no longer kept
StoreReplaced            the store is another one, or an older one; what was read is void
RequestRefused           the request is malformed whatever the state: a defect of the caller
"""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from grpc.aio import AioRpcError

from services.common.errors import Unavailable

STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
"""No endpoint answered, or none that may be believed. A write was not carried out."""
STORE_OUTCOME_UNKNOWN = "STORE_OUTCOME_UNKNOWN"
"""A write may or may not have been carried out, or may still be."""
STORE_BEHIND = "STORE_BEHIND"
"""What was waited for has not been seen in time."""


@dataclass(eq=False)
class OutcomeUnknown(Unavailable):
    """A write was sent and its fate is not known: read before deciding what to do."""

    reason: str = STORE_OUTCOME_UNKNOWN


class Compacted(Exception):
    """The revision asked for is no longer kept; read the present state instead."""


class LeaseNotFound(Exception):
    """The lease has ended, and its keys with it; nothing was carried out."""


class StoreReplaced(Exception):
    """The members are not the store that they were."""


class RequestRefused(ValueError):
    """etcd finds the request malformed: too many operations, one key twice, too large."""


_REFUSED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE}
_NEVER_EXECUTED = {
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # too many requests, database space exceeded
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
}
_TRANSIENT = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}


def is_transient(error: AioRpcError) -> bool:
    """Whether another endpoint, or this one later, might answer the same request."""
    return error.code() in _TRANSIENT


def translate(error: AioRpcError, endpoint: str, *, writes: bool) -> Exception:
    """The error to raise from `error`, for a request that `writes` or only reads."""
    code, details = error.code(), error.details() or ""
    if code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in details:
        return Compacted(details)
    if code is grpc.StatusCode.NOT_FOUND and "lease not found" in details:
        return LeaseNotFound(details)
    if code in _REFUSED:
        return RequestRefused(f"etcd refused the request: {details}")
    if not writes or code in _NEVER_EXECUTED:
        return unavailable(endpoint, f"{code.name}: {details}")
    return OutcomeUnknown(
        f"etcd at {endpoint} did not say whether it carried out the write ({code.name}: {details})",
        metadata={"endpoint": endpoint},
    )


def unavailable(endpoint: str, details: str) -> Unavailable:
    """No answer, and nothing was carried out."""
    return Unavailable(
        f"etcd at {endpoint} is not available ({details})",
        reason=STORE_UNAVAILABLE,
        metadata={"endpoint": endpoint},
    )
