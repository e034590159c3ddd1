"""Pages of lists, with tokens that stay good while the list changes.

A token says after which name to go on, so that what is added or removed meanwhile neither repeats
nor hides another item. For a list that is not in the order of names it says the place too, for the
case that the name has gone.
"""

from __future__ import annotations

import base64
import bisect
import contextlib
import json
from collections.abc import Sequence

from services.common.errors import InvalidInput

DEFAULT_SIZE = 100
MAX_SIZE = 1000
_MAX_TOKEN = 1024


def page(names: Sequence[str], size: int, token: str, *, in_order: bool) -> tuple[range, str]:
    """Which items to send, and the token for those after them, empty if there are none.

    Raises:
        InvalidInput: the token is not one of ours, or the size is too large.
    """
    if size > MAX_SIZE:
        raise InvalidInput.at("page_size", f"{size} is more than {MAX_SIZE}")
    start = _start(names, token, in_order=in_order) if token else 0
    end = min(start + (size or DEFAULT_SIZE), len(names))
    more = end < len(names) and end > start
    return range(start, end), _encode(end, names[end - 1]) if more else ""


def _start(names: Sequence[str], token: str, *, in_order: bool) -> int:
    place, name = _decode(token)
    if in_order:
        return bisect.bisect_right(names, name)
    try:
        return names.index(name) + 1
    except ValueError:
        return min(place - 1, len(names))


def _encode(place: int, name: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([place, name]).encode()).decode()


def _decode(token: str) -> tuple[int, str]:
    decoded: object = None
    if len(token) <= _MAX_TOKEN:
        with contextlib.suppress(ValueError):
            decoded = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    match decoded:
        case [int(place), str(name)] if place > 0:
            return place, name
        case _:
            raise InvalidInput.at("page_token", "is not from a response of this method")
