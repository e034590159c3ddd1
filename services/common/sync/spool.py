"""What an agent keeps on its disk of a stream, so that its next start needs no service.

JSON: {"format", "position": {"epoch", "revision", "digest"}, "held": {id: value}}. Writing the file
in one step is up to the caller. A spool that is not what it should be is no spool.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, TypeVar

from services.common.sync.model import Position
from services.common.sync.receiver import Receiver

V = TypeVar("V")
Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"

FORMAT: Final = 1


class SpoolUnreadable(Exception):
    """The bytes are no spool: begin without."""


def save(receiver: Receiver[V], encode: Callable[[V], Json]) -> bytes:
    """What to write once everything that is held is applied; `encode` makes a value JSON."""
    position = receiver.position
    return json.dumps(
        {
            "format": FORMAT,
            "position": position
            and {
                "epoch": position.epoch,
                "revision": position.revision,
                "digest": f"{position.digest:016x}",
            },
            "held": {name: encode(value) for name, value in receiver.held.items()},
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()


def restore(data: bytes, decode: Callable[[Json], V]) -> Receiver[V]:
    """A receiver as it was saved. `decode` raises ValueError, KeyError or TypeError.

    Raises SpoolUnreadable.
    """
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise SpoolUnreadable(f"format {document['format']!r} is not {FORMAT}")
        held = {str(name): decode(value) for name, value in document["held"].items()}
        return Receiver(held, _position(document["position"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpoolUnreadable(f"{type(error).__name__}: {error}") from error


def _position(value: Mapping[str, Json] | None) -> Position | None:
    if value is None:
        return None
    revision = value["revision"]
    if not isinstance(revision, int):
        raise TypeError("revision is no number")
    return Position(str(value["epoch"]), revision, int(str(value["digest"]), 16))
