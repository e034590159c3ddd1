"""The service's end of a stream. Its whole state is a cursor and what is in flight.

    next()           what to send now; None: one is in flight, or there is nothing to say
    acknowledge()    what the agent says
    follow()         the node is on other topics now

It begins with what the agent resumes, if the source knows that; else, and whenever changes were
forgotten that the agent does not have, with a snapshot. A node without topics (None, not the empty
set) is told nothing. Pure: no clock, no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import InvalidInput, Unavailable
from services.common.sync.model import Ack, Failure, Phase, Position
from services.common.sync.source import Piece, Source, Topics, TopicSnapshot


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A response."""

    nonce: int
    piece: Piece


class Sender:
    """One stream."""

    __slots__ = (
        "_applied", "_begun", "_cursor", "_ending", "_greet", "_in_flight", "_nonce", "_part",
        "_resume", "_sent", "_settled", "_snapshots", "_source", "_topics", "failures", "resumed",
        "snapshots",
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
        self._snapshots: list[TopicSnapshot] = []
        self._part = 0
        self._ending = False
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
            and not (self._ending or self._greet)
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
        """Says that the node is on these topics now; the agent will get a snapshot."""
        if topics == self._topics:
            return
        waited = self._topics is None and self._nonce == 0
        self._topics = topics
        if not waited:
            self._restart()

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

    def _next_piece(self, topics: Topics) -> Piece | None:
        source = self._source
        if self._cursor is None or source.is_lost(self._cursor, topics):
            self._begin(topics)
        while self._snapshots:
            snapshot = self._snapshots[-1]
            if snapshot.stale:
                self._begin(topics)
            elif self._part < len(snapshot.pieces):
                self._part += 1
                return snapshot.pieces[self._part - 1]
            else:
                self._snapshots.pop()
                self._part = 0
        assert self._cursor is not None
        if not (self._ending or self._greet or source.is_pending(self._cursor, topics)):
            return None
        piece = source.delta(self._cursor, topics, ending=self._ending)
        self._cursor = piece.cursor
        self._greet = False
        self._ending = piece.phase is Phase.SNAPSHOT
        return piece

    def _begin(self, topics: Topics) -> None:
        """Begins a snapshot."""
        if self._begun:
            raise Unavailable("the snapshot is outdated; begin again", reason="SNAPSHOT_OUTDATED")
        self._restart()
        self._snapshots = self._source.snapshots(topics)
        self._cursor = min((item.cursor for item in self._snapshots), default=self._source.head)
        self._ending = True
        self.snapshots += 1

    def _restart(self) -> None:
        self._cursor = None
        self._snapshots = []
        self._part = 0
        self._greet = False
        self._ending = False
