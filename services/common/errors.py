"""The errors that callers see, whatever the transport.

    RomanaError
     ├─ InvalidInput         bad request; says which fields and why
     ├─ NotFound             no such network, node, name, ...
     ├─ AlreadyExists        the name is taken by something else
     ├─ Exhausted            no room left; says where was looked
     ├─ WrongState           not now: in use, stranded, other owner
     ├─ Conflict             lost a race or sent a stale etag; read again and retry
     ├─ Forbidden            this caller may not do that
     └─ Unavailable          store away, no active replica, draining; retry as it is

The mapping to gRPC is in `services.common.rpc.status`, and nowhere else. Libraries' exceptions are
translated by the adapter that called the library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

DOMAIN = "romana"
"""`ErrorInfo.domain` of every error."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request."""

    path: str
    """Field path in the request, such as `topologies[0].groups[2].weight`; empty: all of it."""
    message: str


@dataclass(eq=False)
class RomanaError(Exception):
    """An error with a reason for programs and a message with the remedy for people."""

    message: str
    reason: str = "INTERNAL"
    """UPPER_SNAKE_CASE, constant per kind of error: `ErrorInfo.reason`."""
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Names and numbers of this case: `ErrorInfo.metadata`."""

    def __str__(self) -> str:
        return self.message


def internal_error() -> RomanaError:
    """What callers are told of a defect of ours: nothing of the inside."""
    return RomanaError("internal error; the service's log says more")


@dataclass(eq=False)
class InvalidInput(RomanaError):
    """The request is wrong whatever the state."""

    reason: str = "INVALID_INPUT"
    violations: Sequence[Violation] = ()

    @classmethod
    def of(cls, violations: Sequence[Violation]) -> InvalidInput:
        """Sums up violations, of which there is at least one."""
        first = violations[0]
        place = f"{first.path}: " if first.path else ""
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        return cls(f"{place}{first.message}{more}", violations=tuple(violations))

    @classmethod
    def at(cls, path: str, message: str) -> InvalidInput:
        """One violation."""
        return cls.of((Violation(path, message),))


@dataclass(eq=False)
class NotFound(RomanaError):
    """What the request names is not there."""

    reason: str = "NOT_FOUND"


def node_not_found(node: str, field: str = "node") -> NotFound:
    """The error for a node that a field names."""
    return NotFound(
        f"node {node!r} is not registered",
        reason="NODE_NOT_FOUND",
        metadata={"field": field, "node": node},
    )


@dataclass(eq=False)
class AlreadyExists(RomanaError):
    """The name stands for something else."""

    reason: str = "ALREADY_EXISTS"


@dataclass(eq=False)
class Exhausted(RomanaError):
    """No room is left."""

    reason: str = "EXHAUSTED"


@dataclass(eq=False)
class WrongState(RomanaError):
    """The state does not allow it; retrying as it is does not help."""

    reason: str = "WRONG_STATE"


@dataclass(eq=False)
class Conflict(RomanaError):
    """The state changed meanwhile."""

    reason: str = "CONFLICT"


@dataclass(eq=False)
class Forbidden(RomanaError):
    """The caller may not do that."""

    reason: str = "FORBIDDEN"


@dataclass(eq=False)
class Unavailable(RomanaError):
    """Nothing is wrong with the request; the same again will succeed later."""

    reason: str = "UNAVAILABLE"
