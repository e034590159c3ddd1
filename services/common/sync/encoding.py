"""The messages of a stream, as bytes: resources are serialised once, responses are put together.

Every service's response has the same fields: nonce, position, phase, updated, removed,
trace_parent and question.
"""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message
from romana.sync.v1 import sync_pb2 as pb

from services.common.sync import wire
from services.common.sync.source import Piece
from services.common.sync.stream_server import Dialect

_DELIMITED = 2
"""Wire type of what has its length before it."""


def dialect(response: type[Message]) -> Dialect:
    """How a service writes responses of that type."""
    # each has the fields named here, which the type of a message cannot say
    make: Callable[..., Message] = response
    number = response.DESCRIPTOR.fields_by_name["updated"].number
    tag = bytes([number << 3 | _DELIMITED])

    def head(nonce: int, span: str) -> bytes:
        return make(nonce=nonce, trace_parent=span).SerializeToString()

    def body(piece: Piece) -> bytes:
        rest = make(
            position=wire.position(piece.position),
            phase=wire.PHASES[piece.phase],
            removed=piece.removed,
        )
        parts = [rest.SerializeToString()]
        for value in piece.updated.values():
            parts += (tag, _varint(len(value)), value)
        return b"".join(parts)

    def question(number: int) -> bytes:
        return make(question=pb.Question(id=number)).SerializeToString()

    return Dialect(head, body, question)


def serialise(resource: Message) -> bytes:
    """A resource; the same content gives the same bytes on every replica."""
    return resource.SerializeToString(deterministic=True)


def _varint(number: int) -> bytes:
    """https://protobuf.dev/programming-guides/encoding/#varints"""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
