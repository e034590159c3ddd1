"""What the policy service said last, on disk for the next start.

rules.bin: a line of JSON with the position, then for each resource the lengths of its id and of its
message, the id, the message. A file that is not what it should be is no file: endpoints that come
are then closed until the service has spoken.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from services.common.files import write_atomic
from services.common.sync.model import Position
from services.common.sync.receiver import Receiver

log = structlog.get_logger(__name__)

FILE: Final = "rules.bin"
_FORMAT: Final = 1
_LENGTHS: Final = struct.Struct("!HI")


class _Head(msgspec.Struct):
    format: int
    epoch: str
    revision: int
    digest: str
    resources: int


class RuleSpool:
    """The file. Its methods block."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def save(self, held: Mapping[str, bytes], position: Position) -> None:
        """Writes all that is held; raises OSError."""
        if held and not position.digest:
            return  # in the middle of a change: what is on disk is whole
        head = _Head(_FORMAT, position.epoch, position.revision, f"{position.digest:x}", len(held))
        buffer = io.BytesIO()
        buffer.write(msgspec.json.encode(head) + b"\n")
        for name, message in held.items():
            packed = name.encode()
            buffer.write(_LENGTHS.pack(len(packed), len(message)))
            buffer.write(packed)
            buffer.write(message)
        write_atomic(self._path, buffer.getbuffer())

    def forget(self) -> None:
        """Removes the file; raises OSError."""
        self._path.unlink(missing_ok=True)

    def load(self) -> Receiver[bytes]:
        """A receiver with what was saved; an empty one if there is nothing of use."""
        try:
            return _read(self._path.read_bytes())
        except FileNotFoundError:
            return Receiver()
        except (OSError, ValueError, msgspec.MsgspecError, struct.error) as error:
            log.warning("spool_unreadable", file=str(self._path), message=str(error))
            return Receiver()


def _read(data: bytes) -> Receiver[bytes]:
    at = data.index(b"\n") + 1
    head = msgspec.json.decode(data[:at], type=_Head)
    if head.format != _FORMAT:
        raise ValueError(f"format {head.format} is not {_FORMAT}")
    held: dict[str, bytes] = {}
    for _ in range(head.resources):
        name, message = _LENGTHS.unpack_from(data, at)
        at += _LENGTHS.size
        held[data[at : at + name].decode()] = data[at + name : at + name + message]
        at += name + message
    if at != len(data):
        raise ValueError(f"{len(data)} bytes, {at} expected")
    return Receiver(held, Position(head.epoch, head.revision, int(head.digest, 16)))
