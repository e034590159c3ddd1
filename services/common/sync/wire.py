"""`romana.sync.v1` messages as values, and back."""

from __future__ import annotations

from typing import Final

from romana.sync.v1 import sync_pb2 as pb

from services.common.errors import InvalidInput, Violation
from services.common.model import names
from services.common.sync.model import Ack, Failure, Hello, Phase, Position

FAILURES_MOST: Final = 1000
"""Failures of one node that are kept; the others show when these are gone."""
TEXT_MOST: Final = 500
"""Characters of a failure's message, and of a version, that are kept."""

PHASES: Final = {
    Phase.SNAPSHOT: pb.PHASE_SNAPSHOT,
    Phase.SNAPSHOT_END: pb.PHASE_SNAPSHOT_END,
    Phase.DELTA: pb.PHASE_DELTA,
}
_PHASES: Final = {number: phase for phase, number in PHASES.items()}


def position(value: Position) -> pb.Position:
    """A position."""
    return pb.Position(epoch=value.epoch, revision=value.revision, digest=value.digest)


def parse_position(message: pb.Position) -> Position:
    """Reads a position."""
    return Position(message.epoch, message.revision, message.digest)


def parse_phase(number: pb.Phase.ValueType) -> Phase:
    """Reads a phase; raises InvalidInput."""
    phase = _PHASES.get(number)
    if phase is None:
        raise InvalidInput.at("phase", f"{number} is not a Phase")
    return phase


def hello(value: Hello) -> pb.Hello:
    """What an agent says first."""
    message = pb.Hello(node=value.node, agent_version=value.agent_version)
    if value.resume is not None:
        message.resume.CopyFrom(position(value.resume))
    return message


def parse_hello(message: pb.Hello, path: str) -> Hello:
    """Reads what an agent says first; raises InvalidInput."""
    violations: list[Violation] = [*names.subject_name(message.node, f"{path}.node")]
    if violations:
        raise InvalidInput.of(violations)
    resume = parse_position(message.resume) if message.HasField("resume") else None
    return Hello(message.node, message.agent_version[:TEXT_MOST], resume)


def ack(value: Ack) -> pb.Ack:
    """An acknowledgment."""
    message = pb.Ack(nonce=value.nonce, failures=[failure(item) for item in value.failures])
    if value.applied is not None:
        message.applied.CopyFrom(position(value.applied))
    return message


def parse_ack(message: pb.Ack) -> Ack:
    """Reads an acknowledgment."""
    return Ack(
        message.nonce,
        parse_position(message.applied) if message.HasField("applied") else None,
        tuple(
            Failure(item.resource, item.reason[:TEXT_MOST], item.message[:TEXT_MOST])
            for item in message.failures[:FAILURES_MOST]
        ),
    )


def failure(value: Failure) -> pb.Failure:
    """A resource that is not applied."""
    return pb.Failure(resource=value.resource, reason=value.reason, message=value.message)
