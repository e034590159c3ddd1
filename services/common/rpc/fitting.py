"""Answers that fit into a message.

What was done has to be told: an answer above the limit would be an error after the fact. So a batch
has room for the result of each of its items before anything is done, errors are shortened where
there are many, and lists that only explain are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeVar

from google.protobuf.message import Message
from google.rpc import status_pb2

from services.common.errors import RomanaError
from services.common.rpc.status import fit
from services.common.sizes import ANSWER_BYTES, STATUS_BYTES

_AROUND: Final = 16
"""Bytes around an item of a list, and around a status in it."""

M = TypeVar("M", bound=Message)


def statuses_that_fit(
    errors: int, others: int, status_of: Callable[[RomanaError], status_pb2.Status]
) -> Callable[[RomanaError], status_pb2.Status]:
    """Makes statuses for that many errors of a batch, whose other results need `others` bytes.

    An error that several items have is translated once.
    """
    most = max((ANSWER_BYTES - others) // max(errors, 1) - _AROUND, STATUS_BYTES)

    made: dict[int, tuple[RomanaError, status_pb2.Status]] = {}
    """By identity, with the error, so that it is nobody else's meanwhile."""

    def shortened(error: RomanaError) -> status_pb2.Status:
        known = made.get(id(error))
        if known is None:
            status = status_of(error)
            known = error, status if status.ByteSize() <= most else fit(status, most)
            made[id(error)] = known
        return known[1]

    return shortened


def cut(answer: Message, *lists: str) -> None:
    """Shortens lists of an answer from their ends, one after the other, until it fits."""
    for name in lists:
        items = getattr(answer, name)
        while items and answer.ByteSize() > ANSWER_BYTES:
            del items[len(items) // 2 :]


def chunks(items: Iterable[M], count: int, most: int = ANSWER_BYTES) -> Iterator[Sequence[M]]:
    """The items in parts of at most `count` and `most` bytes, though at least one."""
    part: list[M] = []
    size = 0
    for item in items:
        bytes_ = item.ByteSize()
        if part and (len(part) == count or size + bytes_ > most):
            yield part
            part, size = [], 0
        part.append(item)
        size += bytes_
    if part:
        yield part
