"""What can go wrong with the store, and the translation of gRPC's errors into it.

Unavailable (services.common.errors)
 └─ OutcomeUnknown       a write was sent and its fate is not known
     └─ StoreFull        etcd has answered that its quota is used up: a read tells the fate
Compacted                the revision asked for is no longer kept
StoreReplaced            the store is another one, or an older one; what was read is void
RequestRefused           the request is malformed whatever the state: a defect of the caller
 └─ RequestTooLarge      less at once may do

etcd's codes say little: INVALID_ARGUMENT is a request that is too large as well as a missing user.
So what it says counts, which has been the same since 3.3 (etcdserver/api/v3rpc/rpctypes/error.go).
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
STORE_FULL = "STORE_FULL"
"""etcd's quota is used up (`--quota-backend-bytes`). etcd 3.4 carries out the writes that go beyond
it, and yet answers with this error; those after them are not carried out."""
STORE_BEHIND = "STORE_BEHIND"
"""What was waited for has not been seen in time."""


@dataclass(eq=False)
class OutcomeUnknown(Unavailable):
    """A write was sent and its fate is not known: read before deciding what to do."""

    reason: str = STORE_OUTCOME_UNKNOWN


@dataclass(eq=False)
class StoreFull(OutcomeUnknown):
    """etcd's quota is used up. This write may have been carried out; none will be later on."""

    reason: str = STORE_FULL


class Compacted(Exception):
    """The revision asked for is no longer kept; read the present state instead."""


class LeaseNotFound(Exception):
    """The lease has ended, and its keys with it; nothing was carried out."""


class StoreReplaced(Exception):
    """The members are not the store that they were."""


class RequestRefused(ValueError):
    """etcd finds the request malformed, such as one key twice in a transaction."""


class RequestTooLarge(RequestRefused):
    """The request has too many operations or bytes; nothing was carried out."""


_MALFORMED = (
    "duplicate key given",
    "key is not provided",
    "value is provided",
    "lease is provided",
    "future revision",
    "too large lease TTL",
    "invalid sort option",
)
_TOO_LARGE = (
    "request is too large",
    "too many operations in txn request",
    "larger than max",  # grpc-go's words, for what is above the limit of the server's messages
)
_NO_SPACE = "database space exceeded"
_NEVER_EXECUTED = {
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,  # of authentication: no user, or a wrong one
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,  # too many requests
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
    if any(words in details for words in _TOO_LARGE):
        return RequestTooLarge(f"etcd refused the request: {details}")
    if any(words in details for words in _MALFORMED):
        return RequestRefused(f"etcd refused the request: {details}")
    if _NO_SPACE in details:
        return StoreFull(
            f"etcd at {endpoint} has used up its quota ({details}): make room and disarm its alarm "
            "(the write may have been carried out)",
            metadata={"endpoint": endpoint},
        )
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
