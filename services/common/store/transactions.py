"""What fits into one transaction of etcd: both by operations and by bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from services.common.etcd.types import Compare, Operation, Put
from services.common.sizes import TRANSACTION_BYTES, TRANSACTION_OPERATIONS

ENTRY_BYTES: Final = 32
"""What etcd's messages have around a key and a value, at most."""

Group = Sequence[Operation]
"""Operations that go into one transaction together."""


def size_of(part: Operation | Compare) -> int:
    """Bytes that it has in a request, or a few more."""
    value = len(part.value) if isinstance(part, Put) else 0
    # the end of a prefix is as long as its beginning
    keys = 1 if isinstance(part, Put) or not part.prefix else 2
    return keys * len(part.key.encode()) + value + ENTRY_BYTES


class Room:
    """What is left of a transaction."""

    def __init__(
        self, demands: Iterable[Compare] = (), operations: Iterable[Operation] = ()
    ) -> None:
        """That of one which has these already."""
        operations = tuple(operations)
        self._operations = TRANSACTION_OPERATIONS - len(operations)
        self._bytes = TRANSACTION_BYTES - sum(map(size_of, chain(demands, operations)))

    def add(self, group: Group) -> bool:
        """Says whether a group fits, and takes the room for it then."""
        size = sum(map(size_of, group))
        if len(group) > self._operations or size > self._bytes:
            return False
        self._operations -= len(group)
        self._bytes -= size
        return True


def head(groups: Iterable[Group], room: Room) -> Iterator[Group]:
    """The first groups, as many as there is room for."""
    for group in groups:
        if not room.add(group):
            return
        yield group


def parts(
    operations: Iterable[Operation], demands: Sequence[Compare], beside: Sequence[Operation]
) -> Iterator[Sequence[Operation]]:
    """As many transactions as it takes, each with `demands` and with `beside`, which are not in it.

    An operation that is too large by itself has a part of its own; etcd refuses that.
    """
    part: list[Operation] = []
    room = Room(demands, beside)
    for operation in operations:
        if not room.add((operation,)):
            if part:
                yield part
            part, room = [], Room(demands, beside)
            if not room.add((operation,)):
                yield [operation]
                continue
        part.append(operation)
    if part:
        yield part
