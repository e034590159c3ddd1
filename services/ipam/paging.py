"""Pages of long lists: a token says after what to go on, and stays valid under changes."""

from __future__ import annotations

import base64
import binascii
import json

from services.common.errors import InvalidInput


def page_size(asked: int, default: int, most: int) -> int:
    """How many items to return; 0 asks for the default."""
    return min(asked or default, most)


def make_token(*place: str | int) -> str:
    """The token that says to go on after a place."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def read_token(token: str, kinds: tuple[type, ...]) -> tuple[str | int, ...] | None:
    """The place to go on after; None for the beginning. Raises InvalidInput."""
    if not token:
        return None
    try:
        place = json.loads(base64.urlsafe_b64decode(token.encode()))
        if isinstance(place, list) and [type(item) for item in place] == list(kinds):
            return tuple(place)
    except (binascii.Error, ValueError):
        pass
    raise InvalidInput.at("page_token", "is not one that this service gave out")
