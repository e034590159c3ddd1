"""The service's end of a stream. Its whole state is a cursor and what is in flight.

    next()           what to send now; None: one is in flight, or there is nothing to say
    acknowledge()    what the agent says
    follow()         the node is on other topics now

It begins with what the agent resumes, if the source knows that; else, and whenever changes were
forgotten that the agent does not have, with a snapshot. A node without topics (None, not the empty
set) is told nothing. Pure: no clock, no I/O.

A snapshot, and the move to other topics, are one thing: parts with all of the topics that are new
to the agent, then the changes after the oldest of these parts, then what is gone. A move sends them
as deltas, so that what it does not concern is not sent again, and what an agent has to have is
there before what needs it, and gone after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.common.errors import InvalidInput, Unavailable
from services.common.sync.model import Ack, Failure, Phase, Position
from services.common.sync.source import Piece, Source, Topics, TopicSnapshot, weight


@dataclass(frozen=True, slots=True)
class Outgoing:
    nonce: int
    piece: Piece


class Sender:
    __slots__ = (
        "_applied", "_begun", "_cursor", "_ending", "_gone", "_greet", "_in_flight", "_moved_at",
        "_moving", "_nonce", "_part", "_parts", "_resume", "_sent", "_settled", "_source",
        "_topics", "failures", "resumed", "snapshots",
    )  # fmt: skip

    def __init__(self, source: Source, topics: Topics | None, resume: Position | None) -> None:
        """Says nothing yet."""
        self.failures: tuple[Failure, ...] = ()
        """What the agent could not apply."""
        self.resumed = False
        """It went on from where the agent was."""
        self.snapshots = 0
        """Snapshots that were begun."""
        self._source = source
        self._topics = topics
        self._resume = resume
        self._cursor: int | None = None
        self._greet = False
        self._parts: list[TopicSnapshot] = []
        self._part = 0
        self._ending = False
        self._moving = False
        self._moved_at: float | None = None
        self._gone: dict[str, None] = {}
        self._begun = False
        self._nonce = 0
        self._in_flight: Piece | None = None
        self._sent: Position | None = None
        self._applied: Position | None = None
        self._settled = False

    @property
    def topics(self) -> Topics | None:
        """What it tells of."""
        return self._topics

    @property
    def in_flight(self) -> Piece | None:
        """What is not acknowledged yet."""
        return self._in_flight

    @property
    def sent(self) -> Position | None:
        """Of the last response that was sent, and was not a part of something."""
        return self._sent

    @property
    def is_current(self) -> bool:
        """The agent has applied everything there is for it."""
        return (
            self._settled
            and self._in_flight is None
            and self._cursor is not None
            and not (self._ending or self._moving or self._greet)
            and self._topics is not None
            and not self._source.is_pending(self._cursor, self._topics)
        )

    @property
    def applied(self) -> Position | None:
        """Up to where the agent has applied everything that concerns it."""
        if self.is_current:
            assert self._topics is not None
            return self._source.position(self._topics)
        return self._applied

    def follow(self, topics: Topics | None) -> None:
        """Says that the node is on these topics now; the agent will get the difference."""
        before, self._topics = self._topics, topics
        if topics == before:
            return
        if before is None or topics is None or self._cursor is None:
            waited = before is None and self._nonce == 0
            if not waited:
                self._restart()
        else:
            self._move(self._cursor, before, topics)

    def next(self) -> Outgoing | None:
        """What to send; it is in flight then.

        Raises Unavailable if the agent has parts of a snapshot that can no longer be completed: end
        the stream, so that it drops them.
        """
        if self._in_flight is not None or self._topics is None:
            return None
        if self._resume is not None:
            self._cursor = self._source.resume(self._resume, self._topics)
            self._greet = self.resumed = self._cursor is not None
            self._resume = None
        piece = self._next_piece(self._topics)
        if piece is None:
            return None
        self._nonce += 1
        self._in_flight = piece
        self._begun = piece.phase is Phase.SNAPSHOT
        if not self._begun:
            self._sent = piece.position
        return Outgoing(self._nonce, piece)

    def acknowledge(self, ack: Ack) -> Piece | None:
        """Takes what the agent says; returns what it has applied thereby.

        Raises InvalidInput.
        """
        if ack.nonce == 0:
            self.failures = ack.failures
            self._take_report(ack.applied)
            return None
        piece = self._in_flight
        if piece is None or ack.nonce != self._nonce:
            raise InvalidInput(
                f"nonce {ack.nonce} is not of the response in flight",
                reason="WRONG_NONCE",
                metadata={"nonce": str(ack.nonce)},
            )
        self.failures = ack.failures
        self._in_flight = None
        if piece.phase is Phase.SNAPSHOT:
            return None
        self._applied = piece.position
        self._settled = True
        return piece

    def _take_report(self, applied: Position | None) -> None:
        """Before it acknowledged anything here, an agent may say what it has applied elsewhere."""
        if not self._settled and applied is not None and applied.epoch == self._source.epoch:
            self._applied = applied

    def _move(self, cursor: int, before: Topics, topics: Topics) -> None:
        source = self._source
        for topic in before - topics:
            names = source.names(cursor, topic)
            if names is None:
                self._restart()
                return
            self._gone.update(dict.fromkeys(names))
        if self._parts and self._parts[-1].topic not in topics:
            self._part = 0
        parts = [part for part in self._parts if part.topic in topics]
        new = source.snapshots(topics - before, beside=topics)
        self._parts = [*new, *parts]
        self._cursor = min((cursor, *(part.cursor for part in new)))
        if not (self._ending or self._moving):
            self._moving = True
            self._moved_at = source.flushed_at

    def _next_piece(self, topics: Topics) -> Piece | None:
        source = self._source
        if self._cursor is None or source.is_lost(self._cursor, topics):
            self._begin(topics)
        updated: dict[str, bytes] = {}
        size = 0
        while self._parts:
            snapshot = self._parts[-1]
            if snapshot.stale:
                self._begin(topics)
                updated, size = {}, 0
            elif self._part == len(snapshot.pieces):
                self._parts.pop()
                self._part = 0
            elif size >= source.piece_bytes:
                return self._partial(updated)
            else:
                piece = snapshot.pieces[self._part]
                self._part += 1
                if self._ending and not updated and weight(piece.updated) * 2 > source.piece_bytes:
                    self._keep(piece.updated)
                    return piece  # as others get it: it is serialised once
                updated.update(piece.updated)
                size += weight(piece.updated)
        return self._changes(topics, updated)

    def _partial(self, updated: Mapping[str, bytes]) -> Piece:
        """A part of something; it says no position to resume from."""
        self._keep(updated)
        revision = self._sent.revision if self._sent is not None and self._moving else 0
        phase = Phase.SNAPSHOT if self._ending else Phase.DELTA
        assert self._cursor is not None
        return Piece(phase, Position(self._source.epoch, revision), updated, (), self._cursor)

    def _changes(self, topics: Topics, parts: Mapping[str, bytes]) -> Piece | None:
        """What is new after the cursor, together with the last parts and what is gone."""
        source = self._source
        assert self._cursor is not None
        pending = self._ending or self._moving or self._greet
        if not (pending or source.is_pending(self._cursor, topics)):
            return None
        piece = source.delta(self._cursor, topics, ending=self._ending)
        self._keep(parts)
        self._keep(piece.updated)
        if self._moving or parts or self._gone:
            updated = {**parts, **piece.updated}
            for name in piece.removed:
                updated.pop(name, None)
            removed = (*piece.removed, *self._gone) if piece.is_whole else piece.removed
            since = self._moved_at if self._moving else piece.since
            piece = Piece(piece.phase, piece.position, updated, removed, piece.cursor, since)
        self._cursor = piece.cursor
        self._greet = False
        if piece.is_whole:
            self._ending = self._moving = False
            self._gone = {}
        return piece

    def _keep(self, updated: Mapping[str, bytes]) -> None:
        """What is sent is not gone."""
        if self._gone:
            for name in updated:
                self._gone.pop(name, None)

    def _begin(self, topics: Topics) -> None:
        if self._begun:
            raise Unavailable("the snapshot is outdated; begin again", reason="SNAPSHOT_OUTDATED")
        self._restart()
        self._parts = self._source.snapshots(topics)
        self._cursor = min((item.cursor for item in self._parts), default=self._source.head)
        self._ending = True
        self.snapshots += 1

    def _restart(self) -> None:
        self._cursor = None
        self._parts = []
        self._part = 0
        self._greet = self._ending = self._moving = False
        self._gone = {}
