"""The words of the agent streams, as in `romana.sync.v1`, without protobuf.

A resource is an id and a value. Values are opaque here: bytes on the side of the service, whatever
the agent makes of them on the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar

from services.common.model.failsafe import NOTHING, Failsafe

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Position:
    """A moment in the history of a store, and what a node holds then."""

    epoch: str
    revision: int
    """Everything up to this revision of the store is in it."""
    digest: int = 0
    """Equal if what the node holds is equal; 0: in the middle of something, no place to resume."""


class Phase(Enum):
    """Where in the stream a response is."""

    SNAPSHOT = auto()
    SNAPSHOT_END = auto()
    DELTA = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """A resource that could not be applied."""

    resource: str
    reason: str
    """Upper-case word for programs."""
    message: str = ""
    """For people."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What an agent says first."""

    node: str
    agent_version: str = ""
    resume: Position | None = None
    failsafe: Failsafe = NOTHING
    """Of an agent that enforces policies."""
    answers: bool = False
    """It says what its kernel has, when it is asked on its stream."""


@dataclass(frozen=True, slots=True)
class Ack:
    """What an agent says of a response, or of its failures."""

    nonce: int
    """0: of nothing new."""
    applied: Position | None = None
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Response(Generic[V]):
    nonce: int
    position: Position
    phase: Phase
    updated: Mapping[str, V] = field(default_factory=dict)
    removed: Sequence[str] = ()
    span: str = ""
    """What applying it belongs to, if somebody traces the change."""
