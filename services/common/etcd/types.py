"""The words of the store, independent of how it is reached.

Keys are text and values bytes. A revision is etcd's: it grows by one with every transaction that
writes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto

Revision = int


@dataclass(frozen=True, slots=True)
class KeyValue:
    key: str
    value: bytes
    create_revision: Revision = 0
    mod_revision: Revision = 0
    version: int = 0
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Range:
    """The keys of a range at one revision."""

    items: Sequence[KeyValue]
    """By key."""
    revision: Revision
    """That of the store when it was read."""


@dataclass(frozen=True, slots=True)
class Put:
    key: str
    value: bytes
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Deletes a key, or with `prefix` every key that starts with it."""

    key: str
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Get:
    """Reads a key in a transaction, or with `prefix` every key that starts with it."""

    key: str
    prefix: bool = False


Operation = Put | Delete | Get


class Field(Enum):
    CREATE = auto()
    """create_revision; 0 for a key that is not there."""
    MOD = auto()
    """mod_revision; 0 for a key that is not there."""
    VERSION = auto()
    """Number of writes since creation; 0 for a key that is not there."""


class Relation(Enum):
    EQUAL = auto()
    LESS = auto()
    GREATER = auto()


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction.

    With `prefix` it must hold for every key that starts with `key`; for none at all, the value
    compared is 0.
    """

    key: str
    field: Field
    relation: Relation
    operand: int
    prefix: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    succeeded: bool
    """All conditions held and the operations were carried out."""
    revision: Revision
    """That of the store after it."""
    reads: Sequence[Sequence[KeyValue]] = ()
    """One per Get among the operations that ran, in order."""


@dataclass(frozen=True, slots=True)
class Event:
    key: str
    item: KeyValue | None
    """None: it was deleted."""
    revision: Revision
    """At which it happened."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys of a prefix at one revision: what was known before is void.

    A follower that proves what is gone says so in `gone`; then a key that is in neither is to be
    taken for what it was, until its change is delivered.
    """

    items: Sequence[KeyValue]
    revision: Revision
    gone: Collection[str] = ()
    """Keys delivered before of which a transaction proved that they are not there."""
    earlier: Sequence[KeyValue] = ()
    """Of items that cannot be read, and were not delivered before: what could be read last."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes after a snapshot, in order; whole transactions, never parts of one."""

    events: Sequence[Event]
    """Empty: only the revision moved on."""
    revision: Revision
    """Everything up to it has been seen."""


WatchBatch = Snapshot | Changes
