"""All streams of one source: one per node, woken when there is something for them.

hub.flush(revision)        what was put into the source counts; streams concerned are woken
hub.open(hello)            a stream; one that the node had is superseded
hub.ask(node)              what its agent says of itself, asked on its stream
hub.statuses()             what is known of every node that has or had a stream
hub.drain(seconds)         ends all streams, one after the other
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from typing import Final, Protocol

from services.common.errors import Conflict, RomanaError, Unavailable
from services.common.model.failsafe import Failsafe
from services.common.sync.model import Ack, Failure, Hello, Position
from services.common.sync.questions import Answer, Questions, away
from services.common.sync.sender import Outgoing, Sender
from services.common.sync.source import NO_TOPICS, Source, Topics
from services.common.sync.wake import Wake
from services.common.tracing import spans

BEHIND_SECONDS: Final = 5.0
"""An agent that takes longer to apply a response counts as behind."""
GONE_KEPT: Final = 10_000
"""Nodes without a stream of which the last status is kept."""
DRAIN_RATE: Final = 200.0
"""Streams to end in a second: what the other replicas take without being busy with it."""


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a node's stream."""

    node: str
    connected: bool
    agent_version: str
    sent: Position | None
    applied: Position | None
    failures: tuple[Failure, ...]
    failsafe: Failsafe
    update_time: float
    """Unix time of the last acknowledgment, or of the connect."""


class HubObserver(Protocol):
    def begun(self, *, resumed: bool) -> None:
        """An agent was resumed, or got a snapshot."""

    def sent(self, phase: str) -> None:
        """A response was sent: `snapshot`, `snapshot_end` or `delta`."""

    def applied(self, seconds: float) -> None:
        """So long after a change an agent had applied it."""


class Stream:
    __slots__ = (
        "_clock", "_observer", "_span", "_told", "ended", "hello", "questions", "sender", "sent_at",
        "task", "update_time", "wake", "writing",
    )  # fmt: skip

    def __init__(
        self, hello: Hello, sender: Sender, observer: HubObserver, clock: Callable[[], float]
    ) -> None:
        self.hello = hello
        self.sender = sender
        self.ended: RomanaError | None = None
        """Why it has to end."""
        self.wake = Wake()
        """There may be something to send, or it has to end."""
        self.questions = Questions(hello.node, self.wake.set, answers=hello.answers, clock=clock)
        self.task = asyncio.current_task()
        self.writing = False
        self.sent_at = 0.0
        self.update_time = time.time()
        self._observer = observer
        self._clock = clock
        self._span: spans.Open | None = None
        """Of what is in flight, if somebody traces the change that it brings."""
        self._told = 0
        """Revision up to which the agent was told."""

    @property
    def span(self) -> str:
        """What the agent's work on what is in flight belongs to."""
        return self._span.parent if self._span is not None else ""

    def next(self) -> Outgoing | None:
        """What to send now. Raises RomanaError when the stream has to end."""
        if self.ended is not None:
            raise self.ended
        snapshots, resumed = self.sender.snapshots, self.sender.resumed
        outgoing = self.sender.next()
        if outgoing is not None:
            self.sent_at = self._clock()
            self._trace(outgoing.piece.position.revision)
            self._observer.sent(outgoing.piece.phase.name.lower())
            if (snapshots, resumed) != (self.sender.snapshots, self.sender.resumed):
                self._observer.begun(resumed=self.sender.snapshots == snapshots)
        return outgoing

    def acknowledge(self, ack: Ack) -> None:
        """Takes what the agent says; raises InvalidInput."""
        piece = self.sender.acknowledge(ack)
        if ack.nonce and self._span is not None:
            self._span.end()
            self._span = None
        self.update_time = time.time()
        if piece is not None and piece.since is not None:
            self._observer.applied(self._clock() - piece.since)
        if ack.nonce and not self.sender.is_current:
            self.wake.set()

    def end(self, error: RomanaError) -> None:
        """Ends it, even while it waits for an agent that does not read."""
        if self.ended is None:
            self.ended = error
            self.wake.set()
            if self.writing and self.task is not None:
                self.task.cancel()

    def _trace(self, revision: int) -> None:
        if self._told and revision > self._told:
            found = spans.changes(self._told, revision)
            self._span = spans.begin(f"stream to {self.hello.node}", found)
        self._told = max(self._told, revision)

    @property
    def is_behind(self) -> bool:
        """It takes long to apply what it was sent."""
        return self.sender.in_flight is not None and self._clock() - self.sent_at > BEHIND_SECONDS


class Hub:
    def __init__(
        self, source: Source, observer: HubObserver, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.source = source
        self._observer = observer
        self._clock = clock
        self._streams: dict[str, Stream] = {}
        self._by_topic: dict[str, set[Stream]] = {}
        self._gone: dict[str, Status] = {}
        self._draining = False
        self.on_nodes: Callable[[], None] = lambda: None
        """Is called when a node's stream has begun or ended."""

    @property
    def streams(self) -> Iterable[Stream]:
        return self._streams.values()

    @property
    def nodes(self) -> Set[str]:
        """Those that have a stream."""
        return self._streams.keys()

    def is_current(self, node: str) -> bool:
        """Says whether a node has a stream here, and has applied everything there is for it."""
        stream = self._streams.get(node)
        return stream is not None and stream.sender.is_current

    async def ask(self, node: str) -> Answer:
        """What a node's agent says of itself.

        Raises:
            WrongState: It has no stream here, or does not answer questions.
            Unavailable: It does not answer in time.
        """
        stream = self._streams.get(node)
        if stream is None:
            raise away(node)
        return await stream.questions.ask()

    def flush(self, revision: int) -> None:
        """Makes what was put into the source count; `revision`: everything up to it is in it."""
        flushed = self.source.flush(revision, self._clock())
        for node in flushed.nodes:
            stream = self._streams.get(node)
            if stream is not None:
                self._move(stream, self.source.nodes.get(node))
                stream.wake.set()
        for topic in flushed.topics:
            for stream in self._by_topic.get(topic, ()):
                stream.wake.set()

    def open(self, hello: Hello) -> Stream:
        """Begins a stream in the current task; raises Unavailable while draining."""
        if self._draining:
            raise _draining()
        before = self._streams.get(hello.node)
        if before is not None:
            self._remove(before)
            before.end(Conflict(f"{hello.node} has begun another stream", reason="SUPERSEDED"))
        sender = Sender(self.source, self.source.nodes.get(hello.node), hello.resume)
        stream = Stream(hello, sender, self._observer, self._clock)
        self._streams[hello.node] = stream
        self._gone.pop(hello.node, None)
        self._index(stream, sender.topics or NO_TOPICS)
        self.on_nodes()
        return stream

    def close(self, stream: Stream) -> None:
        stream.questions.end()
        if self._streams.get(stream.hello.node) is stream:
            self._remove(stream)
            self._gone[stream.hello.node] = _status(stream, connected=False)
            if len(self._gone) > GONE_KEPT:
                del self._gone[next(iter(self._gone))]
            self.on_nodes()

    def statuses(self, nodes: Iterable[str] = ()) -> list[Status]:
        """What is known of these nodes, or of all that have or had a stream."""
        found = []
        for node in sorted(set(nodes) or {*self._streams, *self._gone}):
            stream = self._streams.get(node)
            if stream is not None:
                found.append(_status(stream, connected=True))
            elif node in self._gone:
                found.append(self._gone[node])
        return found

    async def drain(self, seconds: float) -> None:
        """Ends all streams within that time, so that their agents do not come elsewhere at once."""
        self._draining = True
        loop = asyncio.get_running_loop()
        streams = list(self._streams.values())
        pause = min(1 / DRAIN_RATE, seconds / max(len(streams), 1))
        begin = loop.time()
        for number, stream in enumerate(streams):
            stream.end(_draining())
            await asyncio.sleep(max(begin + (number + 1) * pause - loop.time(), 0))

    def _move(self, stream: Stream, topics: Topics | None) -> None:
        before, now = stream.sender.topics or NO_TOPICS, topics or NO_TOPICS
        stream.sender.follow(topics)
        self._unindex(stream, before - now)
        self._index(stream, now - before)

    def _index(self, stream: Stream, topics: Topics) -> None:
        for topic in topics:
            self._by_topic.setdefault(topic, set()).add(stream)

    def _unindex(self, stream: Stream, topics: Topics) -> None:
        for topic in topics:
            streams = self._by_topic[topic]
            streams.discard(stream)
            if not streams:
                del self._by_topic[topic]

    def _remove(self, stream: Stream) -> None:
        self._unindex(stream, stream.sender.topics or NO_TOPICS)
        del self._streams[stream.hello.node]


def _status(stream: Stream, *, connected: bool) -> Status:
    sender = stream.sender
    return Status(
        node=stream.hello.node,
        connected=connected,
        agent_version=stream.hello.agent_version,
        sent=sender.sent,
        applied=sender.applied,
        failures=sender.failures,
        failsafe=stream.hello.failsafe,
        update_time=stream.update_time,
    )


def _draining() -> Unavailable:
    return Unavailable("this replica is about to stop; another one serves", reason="DRAINING")


def topics_text(topics: Topics | None) -> str:
    return "not registered" if topics is None else ", ".join(sorted(topics)) or "none"
