"""What is kept of a change: who made it, which objects changed, and what these were.

Who and what can be read with etcdctl; the objects themselves are compressed, since topologies are
large and alike.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from services.common.records.errors import RecordError

NAMED_MOST: Final = 1_000
"""Objects of one change that are named."""
KEPT_MOST: Final = 200
"""Objects of one change of which is kept what they were: each costs time in the event loop."""
DOCUMENTS_BYTES: Final = 256 << 10
"""What they may have, compressed."""
PLAIN_BYTES_MOST: Final = 64 << 20
"""No record has more when it is unpacked: what does is not ours."""


class ObjectKind(StrEnum):
    TOPOLOGY = "topology"
    NODE = "node"
    RESERVATION = "reservation"
    ADDRESS = "address"
    POLICY = "policy"
    TENANT = "tenant"
    DEVICE_GROUP = "device_group"


class ObjectAction(StrEnum):
    CREATED = "created"
    UPDATED = "updated"
    REMOVED = "removed"


class Who(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asked for a change."""

    identity: str
    """The certificate's names, or that there was none; of no request: the service."""
    roles: tuple[str, ...] = ()
    client: str = ""
    """The program, as it says."""
    request_id: str = ""


class Named(msgspec.Struct, frozen=True, array_like=True):
    """An object that changed."""

    kind: ObjectKind
    name: str
    action: ObjectAction


class Before(msgspec.Struct, frozen=True, array_like=True):
    """What an object was and became, as JSON; empty: it was not there."""

    before: str
    after: str


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change, as stored."""

    at: int
    """Unix time in milliseconds."""
    replica: str
    """That made it."""
    who: Who
    objects: tuple[Named, ...]
    count: int
    """Of all objects, named or not."""
    packed: bytes = b""
    """`Before` of each, compressed; empty: too large."""

    @property
    def is_cut(self) -> bool:
        return not self.packed

    def documents(self) -> Sequence[Before]:
        """In the order of the objects; none if they were too large. Raises RecordError."""
        if self.is_cut:
            return ()
        unpacking = zlib.decompressobj()
        try:
            plain = unpacking.decompress(self.packed, PLAIN_BYTES_MOST)
            return _documents.decode(plain)
        except (zlib.error, msgspec.MsgspecError) as error:
            raise RecordError(f"not the objects of a change: {error}") from error


class InForceRecord(msgspec.Struct, frozen=True):
    """That all nodes have applied a change."""

    at: int
    """Unix time in milliseconds."""
    nodes: int
    """How many it concerned."""


NOT_KNOWN: Final = ""
"""In place of a model: the object was there, and its record could not be read."""


class Changed(msgspec.Struct, frozen=True):
    """An object that a change writes, as models or as text already; None: it was not, or is not
    there."""

    kind: ObjectKind
    name: str
    before: object | None
    after: object | None

    @property
    def action(self) -> ObjectAction:
        if self.before is None:
            return ObjectAction.CREATED
        return ObjectAction.REMOVED if self.after is None else ObjectAction.UPDATED


_encoder = msgspec.json.Encoder(order="sorted")
_documents = msgspec.json.Decoder(tuple[Before, ...])
_records = msgspec.json.Decoder(AuditRecord)
_in_force = msgspec.json.Decoder(InForceRecord)


def pack(documents: Sequence[Before]) -> bytes:
    """Compresses what objects were; empty: it is too large."""
    packed = zlib.compress(_encoder.encode(documents))
    return packed if len(packed) <= DOCUMENTS_BYTES else b""


def encode(record: AuditRecord | InForceRecord) -> bytes:
    return _encoder.encode(record)


def decode(document: bytes) -> AuditRecord:
    """Reads a record; raises RecordError."""
    try:
        return _records.decode(document)
    except msgspec.MsgspecError as error:
        raise RecordError(f"not a change: {error}") from error


def decode_in_force(document: bytes) -> InForceRecord:
    """Reads when a change was in force; raises RecordError."""
    try:
        return _in_force.decode(document)
    except msgspec.MsgspecError as error:
        raise RecordError(f"not when a change was in force: {error}") from error
