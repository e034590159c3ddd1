"""What a service has to say to agents: resources by topic, the topics of each node, what changed.

All streams share one source. A stream has no state here: it asks by its cursor, and gets *pieces*,
which are the same objects for all who ask the same, so that they are serialised once.

**Resuming.** What a node holds is summed up in a digest: the sum (modulo 2**64) of a hash of every
resource. So the digest of several topics is the sum of theirs, and a change costs one hash. An
agent says the digest of what it holds. If its topics have that digest now, or had it at a flush
that is still in the log, then it holds exactly what was here then, whichever replica it was from,
and the changes since are all it needs. A revision could not promise that: two replicas flush at
different moments, and what is derived of many keys may have been there at one of them in between,
and never at the other. It also lets a replica that has just started go on with all agents.

An id belongs to one topic at a time: what is gone with a topic is gone.

Mutations take effect for streams with `flush`, which has to follow before the next await.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from services.common.sync.log import MASK, ChangeLog
from services.common.sync.model import Phase, Position

Topics = frozenset[str]

LOG_CAPACITY: Final = 20_000
"""Changes that are kept at least; half an hour of ten a second, and about 3 MB."""
PIECE_BYTES: Final = 256 * 1024
"""Values in a response, about: small against gRPC's limits and windows."""
PIECES_KEPT: Final = 64
SNAPSHOTS_KEPT: Final = 4
"""Of a topic: for agents that are slow to take theirs."""
_SHARED_LEAST: Final = 256
"""Resources of a topic from which on snapshots of it are kept for others."""
_RENEW_LEAST: Final = 1000
"""A snapshot serves until this many changes, or a quarter of its resources, came after it."""


@dataclass(slots=True, eq=False)
class Piece:
    """What a response says. Shared: not to be changed, but for `encoded`."""

    phase: Phase
    position: Position
    updated: Mapping[str, bytes]
    removed: tuple[str, ...]
    cursor: int
    """Of who has it."""
    since: float | None = None
    """When the first of its changes was made; None: it has none, or is of a snapshot."""
    encoded: bytes | None = None
    """For who sends it: its serialised form."""

    @property
    def is_whole(self) -> bool:
        """Who has it has everything there was then."""
        return self.position.digest != 0


@dataclass(slots=True, eq=False)
class TopicSnapshot:
    """All of a topic at one moment."""

    topic: str
    cursor: int
    count: int
    pieces: tuple[Piece, ...]
    stale: bool = False
    """It is too old; `pieces` is empty."""


@dataclass(slots=True, eq=False)
class _Topic:
    values: dict[str, bytes] = field(default_factory=dict)
    digest: int = 0
    changed: int = 0
    """Sequence of its last change."""
    trimmed: int = 0
    """Sequence of its last change that is no longer in the log."""
    count: int = 0
    """Changes so far."""
    snapshots: list[TopicSnapshot] = field(default_factory=list)


_NONE: Final = _Topic()
NO_TOPICS: Final = Topics()


@dataclass(frozen=True, slots=True)
class Flushed:
    topics: frozenset[str]
    """Topics with changes."""
    nodes: frozenset[str]
    """Nodes that have other topics now."""


class Source:
    def __init__(
        self, epoch: str, *, capacity: int = LOG_CAPACITY, piece_bytes: int = PIECE_BYTES
    ) -> None:
        self.epoch = epoch
        self._revision = 0
        self.flushed_at: float | None = None
        """Time of the last flush."""
        self._topics: dict[str, _Topic] = {}
        self._nodes: dict[str, Topics] = {}
        self._sets: dict[Topics, tuple[Topics, int]] = {}
        """The sets of topics that nodes have, each once, and how many nodes have it."""
        self._log = ChangeLog(capacity)
        self._piece_bytes = piece_bytes
        self._pieces: OrderedDict[tuple[int, int, int, Topics, bool], Piece] = OrderedDict()
        self._before: dict[str, int] = {}
        self._moved: set[str] = set()
        self._small: dict[str, TopicSnapshot] = {}
        """Of small topics, as they are now: for all nodes that come onto them by the same flush."""

    # Filling it.

    def put(self, topic: str, name: str, value: bytes) -> None:
        """Sets a resource. The same value again is no change."""
        had = self._topics.get(topic)
        if had is None:
            had = self._topics[topic] = _Topic()
        old = had.values.get(name)
        if old == value:
            return
        change = _hash(name, value) - (_hash(name, old) if old is not None else 0)
        had.values[name] = value
        self._note(topic, had, name, change)

    def drop(self, topic: str, name: str) -> None:
        """Removes a resource, if there is one."""
        had = self._topics.get(topic)
        old = had.values.pop(name, None) if had is not None else None
        if had is not None and old is not None:
            self._note(topic, had, name, -_hash(name, old))

    def replace(self, topic: str, values: Mapping[str, bytes]) -> None:
        """Makes a topic hold these resources and no others; says only what differs."""
        for name in [name for name in self.values(topic) if name not in values]:
            self.drop(topic, name)
        for name, value in values.items():
            self.put(topic, name, value)

    def assign(self, node: str, topics: Iterable[str] | None) -> None:
        """Says which topics a node needs; None: it is not known, and is told nothing."""
        wanted = None if topics is None else frozenset(topics)
        before = self._nodes.get(node)
        if before == wanted:
            return
        self._moved.add(node)
        if before is not None:
            self._release(before)
            del self._nodes[node]
        if wanted is not None:
            shared, users = self._sets.get(wanted, (wanted, 0))
            self._sets[shared] = shared, users + 1
            self._nodes[node] = shared

    def flush(self, revision: int, now: float) -> Flushed:
        """Makes changes count; `revision`: everything up to it is in it; `now`: monotonic."""
        self._revision = max(self._revision, revision)
        self.flushed_at = now
        changed, moved = self._before, self._moved
        self._before, self._moved = {}, set()
        self._small.clear()
        if changed:
            digests = {
                topic: self._topics[topic].digest - before & MASK
                for topic, before in changed.items()
            }
            self._log.close(self._revision, now, digests)
            self._trim()
        return Flushed(frozenset(changed), frozenset(moved))

    # Looking.

    @property
    def revision(self) -> int:
        """Everything up to it is in it."""
        return self._revision

    @property
    def topics(self) -> Iterable[str]:
        return [name for name, topic in self._topics.items() if topic.values]

    @property
    def nodes(self) -> Mapping[str, Topics]:
        """The topics of each node that is known."""
        return self._nodes

    @property
    def piece_bytes(self) -> int:
        """Bytes of values in a response, about."""
        return self._piece_bytes

    @property
    def head(self) -> int:
        """The cursor of who has everything."""
        return self._log.head

    def values(self, topic: str) -> Mapping[str, bytes]:
        return self._topics.get(topic, _NONE).values

    def position(self, topics: Topics) -> Position:
        """That of who has everything of these topics."""
        digest = sum(self._topics.get(topic, _NONE).digest for topic in topics) & MASK
        return Position(self.epoch, self._revision, digest or 1)

    def resume(self, position: Position, topics: Topics) -> int | None:
        """The cursor of who holds what a position says; None: not known any more."""
        if position.epoch != self.epoch or not position.digest:
            return None
        cursor = self._log.find(position.digest, self.position(topics).digest, topics)
        return None if cursor is None or self.is_lost(cursor, topics) else cursor

    def is_pending(self, cursor: int, topics: Topics) -> bool:
        """Says whether there is something new after a cursor."""
        return cursor < self._log.head and any(
            self._topics.get(topic, _NONE).changed > cursor for topic in topics
        )

    def has_changed(self, revision: int, topics: Topics) -> bool:
        """Says whether topics may hold something else than at a revision."""
        return self.is_pending(self._log.cursor_at(revision), topics)

    def is_lost(self, cursor: int, topics: Topics) -> bool:
        """Says whether changes after a cursor are no longer known: only a snapshot helps."""
        return cursor < self._log.base and any(
            self._topics.get(topic, _NONE).trimmed > cursor for topic in topics
        )

    def names(self, cursor: int, topic: str) -> Iterable[str] | None:
        """Ids of all that somebody with a cursor may hold of a topic; None: not known any more."""
        had = self._topics.get(topic)
        if had is None:
            return None if cursor < self._log.base else ()
        if had.trimmed > cursor:
            return None
        return {**had.values, **{name: b"" for _, _, name in self._log.since(cursor, (topic,))}}

    def delta(self, cursor: int, topics: Topics, *, ending: bool) -> Piece:
        """What is new after a cursor that is not lost, or the first part of that.

        `ending`: it ends a snapshot, or is a part of it.
        """
        key = (cursor, self._log.head, self._revision, topics, ending)
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._pieces[key] = self._make(cursor, topics, ending=ending)
            if len(self._pieces) > PIECES_KEPT:
                self._pieces.popitem(last=False)
        return piece

    def snapshots(self, topics: Iterable[str], beside: Topics = NO_TOPICS) -> list[TopicSnapshot]:
        """All of some topics, each as it was a while ago at most. None is before what was lost of
        any of them or of those `beside`, so that the changes after the oldest make them whole."""
        wanted = sorted(topics)
        least = max(
            (self._topics.get(topic, _NONE).trimmed for topic in (*wanted, *beside)), default=0
        )
        return [self._snapshot(topic, least) for topic in wanted]

    def _snapshot(self, topic: str, least: int) -> TopicSnapshot:
        had = self._topics.get(topic)
        if had is None:
            return TopicSnapshot(topic, self._log.head, 0, ())
        last = had.snapshots[-1] if had.snapshots else self._small.get(topic)
        most = max(_RENEW_LEAST, len(had.values) // 4) if had.snapshots else 0
        if last is not None and had.count - last.count <= most and last.cursor >= least:
            return last
        made = TopicSnapshot(topic, self._log.head, had.count, tuple(self._cut(had.values)))
        if len(had.values) < _SHARED_LEAST:
            if len(self._small) >= PIECES_KEPT:
                self._small.clear()
            self._small[topic] = made
            return made
        had.snapshots.append(made)
        while len(had.snapshots) > SNAPSHOTS_KEPT or had.snapshots[0].cursor < had.trimmed:
            old = had.snapshots.pop(0)
            old.stale, old.pieces = True, ()
        return made

    # How it is done.

    def _release(self, topics: Topics) -> None:
        """A node does not have that set any more."""
        shared, users = self._sets.pop(topics)
        if users > 1:
            self._sets[shared] = shared, users - 1

    def _note(self, topic: str, had: _Topic, name: str, change: int) -> None:
        self._before.setdefault(topic, had.digest)
        had.digest = had.digest + change & MASK
        had.changed = self._log.add(topic, name)
        had.count += 1

    def _trim(self) -> None:
        trimmed = self._log.trim()
        if not trimmed:
            return
        for topic, sequence in trimmed.items():
            self._topics[topic].trimmed = sequence
        needed = set().union(*self._nodes.values())
        for topic in [
            topic
            for topic, had in self._topics.items()
            if not had.values and had.changed <= self._log.base and topic not in needed
        ]:
            del self._topics[topic]

    def _make(self, cursor: int, topics: Topics, *, ending: bool) -> Piece:
        updated: dict[str, bytes] = {}
        removed: dict[str, None] = {}
        size, end = 0, self._log.head
        for sequence, topic, name in self._log.since(cursor, topics):
            if name in updated or name in removed:
                continue
            if size >= self._piece_bytes:
                end = sequence - 1
                break
            value = self._topics[topic].values.get(name)
            if value is None:
                removed[name] = None
                size += len(name)
            else:
                updated[name] = value
                size += len(value)
        whole = end == self._log.head
        if whole:
            phase = Phase.SNAPSHOT_END if ending else Phase.DELTA
            position = self.position(topics)
        else:
            phase = Phase.SNAPSHOT if ending else Phase.DELTA
            position = Position(self.epoch, self._log.revision_at(cursor))
        since = self._log.time_after(cursor) if updated or removed else None
        return Piece(phase, position, updated, tuple(removed), end, None if ending else since)

    def _cut(self, values: Mapping[str, bytes]) -> Iterable[Piece]:
        position = Position(self.epoch, 0)
        part: dict[str, bytes] = {}
        size = 0
        for name, value in values.items():
            part[name] = value
            size += len(value)
            if size >= self._piece_bytes:
                yield Piece(Phase.SNAPSHOT, position, part, (), self._log.head)
                part, size = {}, 0
        if part:
            yield Piece(Phase.SNAPSHOT, position, part, (), self._log.head)


def weight(values: Mapping[str, bytes]) -> int:
    return sum(map(len, values.values()))


def _hash(name: str, value: bytes) -> int:
    return int.from_bytes(blake2b(value, digest_size=8, key=_key(name)).digest(), "little")


def _key(name: str) -> bytes:
    """blake2b takes keys of 64 bytes at most."""
    encoded = name.encode()
    return encoded if len(encoded) <= blake2b.MAX_KEY_SIZE else blake2b(encoded).digest()
