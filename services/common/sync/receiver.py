"""The agent's end of a stream: what it should hold, and what of that is applied.

    hello()                 at every connect: what to resume from; parts of a snapshot are dropped
    receive(response)       None: acknowledge at once (`received`); else a Batch to apply
    applied(batch, failures)   the Ack to send once the kernel holds it
    failing(failures)       the Ack to send when that changes by itself

*Held* and *applied* are two things. A batch counts as held as soon as it is received, and the agent
applies it whether or not the stream still stands: so what it resumes from is what it holds, and the
position of what is applied travels in acknowledgments only. Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from services.common.sync.model import Ack, Failure, Hello, Phase, Position, Response

V = TypeVar("V")


class ProtocolViolation(Exception):
    """A response that must not come here. Connect anew; the receiver will ask for a snapshot."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch(Generic[V]):
    """What to apply. `Receiver.held` is already as it will be after it."""

    updated: Mapping[str, V]
    """New resources, and those with another value than before."""
    removed: frozenset[str]
    """Ids of resources that were held and are gone."""
    position: Position
    snapshot: bool
    """It ended a full transfer: what is not in `held` has to go, whoever made it."""
    stream: int
    """Number of the stream it came by."""
    nonce: int


class Receiver(Generic[V]):
    """One stream's resources on one node, over any number of connections."""

    def __init__(
        self, held: Mapping[str, V] | None = None, position: Position | None = None
    ) -> None:
        """Begins empty, or with what was on disk."""
        self._held = dict(held or {})
        self._position = position
        self._applied: Position | None = None
        self._complete = held is not None
        self._in_sync = False
        self._staged: dict[str, V] | None = None
        self._stream = 0
        self._failures: tuple[Failure, ...] = ()

    @property
    def held(self) -> Mapping[str, V]:
        """What should be, by id; a live view."""
        return MappingProxyType(self._held)

    @property
    def complete(self) -> bool:
        """`held` is all there was at some time: nothing may be written to a kernel before."""
        return self._complete

    @property
    def in_sync(self) -> bool:
        """The stream stands, and has said all there was when it began."""
        return self._in_sync

    @property
    def position(self) -> Position | None:
        """Of what is held; None: a snapshot is needed."""
        return self._position

    @property
    def applied_position(self) -> Position | None:
        """Of what is applied."""
        return self._applied

    @property
    def failures(self) -> tuple[Failure, ...]:
        return self._failures

    def hello(self, node: str, agent_version: str = "") -> Hello:
        """What to say first on a new stream."""
        self.disconnected()
        self._stream += 1
        resume = self._position
        return Hello(node, agent_version, resume if resume and resume.digest else None)

    def disconnected(self) -> None:
        self._in_sync = False
        self._staged = None

    def receive(self, response: Response[V]) -> Batch[V] | None:
        """Takes a response in; None: there is nothing to apply yet, send `received`.

        Raises ProtocolViolation.
        """
        if response.phase is Phase.DELTA:
            return self._receive_delta(response)
        staged = self._staged if self._staged is not None else {}
        staged.update(response.updated)
        for name in response.removed:
            staged.pop(name, None)
        if response.phase is Phase.SNAPSHOT:
            self._staged = staged
            return None
        before, self._held, self._staged = self._held, staged, None
        self._complete = True
        updated = {
            name: value
            for name, value in staged.items()
            if name not in before or before[name] != value
        }
        return self._batch(response, updated, before.keys() - staged.keys())

    def _receive_delta(self, response: Response[V]) -> Batch[V]:
        if self._staged is not None or not self._complete:
            self._position = None
            raise ProtocolViolation("a change came before the end of the snapshot")
        held = self._held
        updated = {
            name: value
            for name, value in response.updated.items()
            if name not in held or held[name] != value
        }
        removed = [name for name in response.removed if name in held]
        held.update(updated)
        for name in removed:
            del held[name]
        return self._batch(response, updated, removed)

    def _batch(
        self, response: Response[V], updated: Mapping[str, V], removed: Iterable[str]
    ) -> Batch[V]:
        self._position = response.position
        self._in_sync = True
        return Batch(
            updated=updated,
            removed=frozenset(removed),
            position=response.position,
            snapshot=response.phase is Phase.SNAPSHOT_END,
            stream=self._stream,
            nonce=response.nonce,
        )

    def received(self, response: Response[V]) -> Ack:
        """The acknowledgment of a part of a snapshot."""
        return Ack(response.nonce, self._applied, self._failures)

    def applied(self, batch: Batch[V], failures: Iterable[Failure] = ()) -> Ack:
        """Says that a batch is applied, but for `failures`: all that are not applied now.

        The Ack is for the stream that stands now, which may be another than the batch came by.
        """
        self._applied = batch.position
        self._failures = _sorted(failures)
        nonce = batch.nonce if batch.stream == self._stream else 0
        return Ack(nonce, self._applied, self._failures)

    def restored(self, failures: Iterable[Failure] = ()) -> Ack:
        """Says that all that is held is applied, such as what came from a spool."""
        self._applied = self._position
        self._failures = _sorted(failures)
        return self.status()

    def failing(self, failures: Iterable[Failure]) -> Ack | None:
        """Says what is not applied now; None: that is nothing new."""
        changed = _sorted(failures)
        if changed == self._failures:
            return None
        self._failures = changed
        return self.status()

    def status(self) -> Ack:
        """An Ack of nothing new: what is applied, and the failures."""
        return Ack(0, self._applied, self._failures)

    def forget(self) -> None:
        """Asks for a snapshot at the next connect; what is held stays."""
        self._position = None


def _sorted(failures: Iterable[Failure]) -> tuple[Failure, ...]:
    return tuple(sorted(failures, key=lambda failure: failure.resource))
