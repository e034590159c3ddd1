"""Pages of lists, with tokens that stay good while the list changes.

A token says after which name to go on, so that what is added or removed meanwhile neither repeats
nor hides another item. For a list that is not in the order of names it says the place too, for the
case that the name has gone.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from services.common.errors import InvalidInput
from services.common.paging.token import make_token, read_token
from services.common.sizes import ANSWER_BYTES

DEFAULT_SIZE = 100
MAX_SIZE = 1000


class Sized(Protocol):
    def ByteSize(self) -> int:  # noqa: N802 - protobuf's name
        """Its bytes on the wire."""


T = TypeVar("T", bound=Sized)


def page(names: Sequence[str], size: int, token: str, *, in_order: bool) -> tuple[range, str]:
    """Which items to send, and the token for those after them, empty if there are none.

    Raises:
        InvalidInput: the token is not one of ours, or the size is too large.
    """
    if size > MAX_SIZE:
        raise InvalidInput.at("page_size", f"{size} is more than {MAX_SIZE}")
    start = _start(names, token, in_order=in_order)
    end = min(start + (size or DEFAULT_SIZE), len(names))
    more = end < len(names) and end > start
    return range(start, end), make_token(end, names[end - 1]) if more else ""


def filled(
    names: Sequence[str],
    size: int,
    token: str,
    make: Callable[[int], T],
    *,
    in_order: bool,
    most: int = ANSWER_BYTES,
) -> tuple[list[T], str]:
    """The items of a page, which `make` makes by their number, and the token for those after them.

    A page has fewer items than were asked for if they would have more than `most` bytes, though at
    least one. Raises InvalidInput as `page`.
    """
    chosen, after = page(names, size, token, in_order=in_order)
    items: list[T] = []
    left = most
    for number in chosen:
        item = make(number)
        left -= item.ByteSize()
        if left < 0 and items:
            return items, make_token(number, names[number - 1])
        items.append(item)
    return items, after


def _start(names: Sequence[str], token: str, *, in_order: bool) -> int:
    after = read_token(token, (int, str))
    if after is None:
        return 0
    place, name = int(after[0]), str(after[1])
    if place < 1:
        raise InvalidInput.at("page_token", "is not from a response of this method")
    if in_order:
        return bisect.bisect_right(names, name)
    try:
        return names.index(name) + 1
    except ValueError:
        return min(place - 1, len(names))
