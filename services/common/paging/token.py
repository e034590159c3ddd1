"""Page tokens: opaque text for the place after which a list goes on."""

from __future__ import annotations

import base64
import json

from services.common.errors import InvalidInput

_MAX_TOKEN = 1024
"""Characters; places are a name or two and a number."""


def make_token(*place: str | int) -> str:
    """The token that says to go on after a place."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def read_token(token: str, kinds: tuple[type, ...]) -> tuple[str | int, ...] | None:
    """The place to go on after, of these types; None for the beginning. Raises InvalidInput."""
    if not token:
        return None
    try:
        if len(token) <= _MAX_TOKEN:
            place = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
            if isinstance(place, list) and [type(item) for item in place] == list(kinds):
                return tuple(place)
    except (ValueError, RecursionError):
        pass
    raise InvalidInput.at("page_token", "is not from a response of this method")


def page_size(requested: int, default: int, most: int) -> int:
    """How many items to return; 0 asks for the default."""
    return min(requested or default, most)
