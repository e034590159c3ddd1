"""Answers what a service asks on its stream: what the kernel has, beside what it shall have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, TypeVar

import structlog
from google.protobuf.message import Message
from romana.sync.v1 import sync_pb2 as pb

from services.common.errors import RomanaError
from services.common.rpc.fitting import chunks
from services.common.sync import wire
from services.common.sync.model import Position
from services.common.sync.questions import Part
from services.common.sync.stream_client import Answering

log = structlog.get_logger(__name__)

PART_BYTES: Final = 256 * 1024
"""Of a message, about: between two of them an acknowledgment gets its turn."""
ITEMS_MOST: Final = 20_000
"""Rules or routes that the service is told of."""
DIFFERENCES_MOST: Final = 1_000
"""That are told; the others show when these are gone."""


class Kind(Enum):
    """How something in the kernel is not as it shall be."""

    MISSING = auto()
    STRANGE = auto()
    """Nobody asked for it."""
    CHANGED = auto()


@dataclass(frozen=True, slots=True)
class Difference:
    kind: Kind
    object: str
    """What of the kernel, for people."""


_Found = TypeVar("_Found")
_Part = TypeVar("_Part", bound=Part)
_Item = TypeVar("_Item")
_Message = TypeVar("_Message", bound=Message)
_KINDS: Final = {
    Kind.MISSING: pb.DIFFERENCE_KIND_MISSING,
    Kind.STRANGE: pb.DIFFERENCE_KIND_STRANGE,
    Kind.CHANGED: pb.DIFFERENCE_KIND_CHANGED,
}


def answering(
    look: Callable[[], Awaitable[_Found]],
    parts: Callable[[_Found], Sequence[_Part]],
    failed: Callable[[], _Part],
    request: Callable[[_Part], object],
) -> Answering:
    """What a stream calls when the service asks.

    Args:
        look: Looks at the kernel; raises RomanaError or OSError.
        parts: Messages, at least one, with what was found.
        failed: One with nothing.
        request: Makes the stream's message of a part.
    """

    async def answer(question: int, held: Position | None) -> Iterable[object]:
        made: Sequence[_Part]
        try:
            made = parts(await look())
        except (RomanaError, OSError) as error:
            made = [_failed(failed, str(error))]
        except Exception:
            log.exception("question_not_answered")
            made = [_failed(failed, "a defect; its log says more")]
        for part in made:
            part.answer.question = question
            if held is not None:
                part.answer.held.CopyFrom(wire.position(held))
        made[-1].answer.last = True
        return map(request, made)

    return answer


def _failed(make: Callable[[], _Part], problem: str) -> _Part:
    part = make()
    part.answer.problem = problem
    return part


def in_parts(
    make: Callable[..., _Part],
    listed: Callable[[Sequence[_Message]], _Part],
    message: Callable[[_Item], _Message],
    items: Sequence[_Item],
    differences: Sequence[Difference],
) -> Sequence[_Part]:
    """What was found, in parts of a bounded size.

    Args:
        make: Makes one with `differences` and how many there was no room for.
        listed: Makes one with items.
        message: Makes one of an item.
        items: The first of them are told.
        differences: So are these.
    """
    told = items[:ITEMS_MOST]
    differing = differences[:DIFFERENCES_MOST]
    return [
        *map(listed, chunks(map(message, told), ITEMS_MOST, PART_BYTES)),
        make(
            differences=[
                pb.KernelDifference(kind=_KINDS[one.kind], object=one.object) for one in differing
            ],
            left_out=len(items) - len(told),
            more_differences=len(differences) - len(differing),
        ),
    ]
