"""`romana.sync.v1` messages as values, and back."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Final, Literal, Protocol

from romana.sync.v1 import sync_pb2 as pb

from services.common.errors import InvalidInput, Violation
from services.common.model import names
from services.common.model.failsafe import Failsafe, Port, parse_port
from services.common.sync.model import Ack, Failure, Hello, Phase, Position
from services.common.sync.questions import Part

FAILURES_MOST: Final = 1000
"""Failures of one node that are kept; the others show when these are gone."""
TEXT_MOST: Final = 500
"""Characters of a failure's message, and of a version, that are kept."""
PORTS_MOST: Final = 1000
"""Fail-safe ports of one node and direction that are kept."""

PHASES: Final = {
    Phase.SNAPSHOT: pb.PHASE_SNAPSHOT,
    Phase.SNAPSHOT_END: pb.PHASE_SNAPSHOT_END,
    Phase.DELTA: pb.PHASE_DELTA,
}
_PHASES: Final = {number: phase for phase, number in PHASES.items()}


class Request(Protocol):
    """What every service's stream takes: one of these, in the oneof `message`."""

    @property
    def hello(self) -> pb.Hello:
        """Once."""

    @property
    def ack(self) -> pb.Ack:
        pass

    @property
    def kernel(self) -> Part:
        """Of an answer."""

    def WhichOneof(  # noqa: N802
        self, oneof_group: Literal["message"]
    ) -> Literal["hello", "ack", "kernel"] | None:
        """Which of them it is; None: neither."""


def position(value: Position) -> pb.Position:
    return pb.Position(epoch=value.epoch, revision=value.revision, digest=value.digest)


def parse_position(message: pb.Position) -> Position:
    return Position(message.epoch, message.revision, message.digest)


def parse_phase(number: pb.Phase.ValueType) -> Phase:
    """Reads a phase; raises InvalidInput."""
    phase = _PHASES.get(number)
    if phase is None:
        raise InvalidInput.at("phase", f"{number} is not a Phase")
    return phase


def parse_request(message: Request) -> Hello | Ack | Part:
    """Reads what an agent says; parts of answers are left as they are. Raises InvalidInput."""
    match message.WhichOneof("message"):
        case "hello":
            return _parse_hello(message.hello)
        case "ack":
            return _parse_ack(message.ack)
        case "kernel":
            return message.kernel
        case _:
            raise InvalidInput.at("message", "is missing")


def hello(value: Hello) -> pb.Hello:
    """What an agent says first."""
    message = pb.Hello(
        node=value.node,
        agent_version=value.agent_version,
        failsafe_inbound=map(str, value.failsafe.inbound),
        failsafe_outbound=map(str, value.failsafe.outbound),
        answers=value.answers,
    )
    if value.resume is not None:
        message.resume.CopyFrom(position(value.resume))
    return message


def ack(value: Ack) -> pb.Ack:
    message = pb.Ack(nonce=value.nonce, failures=[failure(item) for item in value.failures])
    if value.applied is not None:
        message.applied.CopyFrom(position(value.applied))
    return message


def failure(value: Failure) -> pb.Failure:
    return pb.Failure(resource=value.resource, reason=value.reason, message=value.message)


def _parse_hello(message: pb.Hello) -> Hello:
    violations: list[Violation] = [*names.subject_name(message.node, "hello.node")]
    if violations:
        raise InvalidInput.of(violations)
    resume = parse_position(message.resume) if message.HasField("resume") else None
    failsafe = parse_failsafe(message.failsafe_inbound, message.failsafe_outbound)
    return Hello(message.node, message.agent_version[:TEXT_MOST], resume, failsafe, message.answers)


def parse_failsafe(inbound: Iterable[str], outbound: Iterable[str]) -> Failsafe:
    """Reads ports, but for those that this version does not understand."""
    return Failsafe(tuple(_ports(inbound)), tuple(_ports(outbound)))


def _ports(items: Iterable[str]) -> Iterator[Port]:
    for item in itertools.islice(items, PORTS_MOST):
        with contextlib.suppress(ValueError):
            yield parse_port(item)


def _parse_ack(message: pb.Ack) -> Ack:
    return Ack(
        message.nonce,
        parse_position(message.applied) if message.HasField("applied") else None,
        tuple(
            Failure(item.resource, item.reason[:TEXT_MOST], item.message[:TEXT_MOST])
            for item in message.failures[:FAILURES_MOST]
        ),
    )
