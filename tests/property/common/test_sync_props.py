"""Random interleavings of changes, responses, acknowledgments, drops and moves between replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.common.errors import RomanaError
from services.common.sync.model import Ack, Failure, Response
from services.common.sync.receiver import Batch, Receiver
from services.common.sync.sender import Sender
from services.common.sync.source import Source

TOPICS = ("red", "blue", "green", "gold")
NODE = "n"
CAPACITY = 6

World = dict[str, str]


def derived(world: Mapping[str, str]) -> dict[str, dict[str, bytes]]:
    """Resources by topic. Some follow from many keys, and so come and go between two flushes."""
    found: dict[str, dict[str, bytes]] = {topic: {} for topic in TOPICS}
    for key, value in world.items():
        topic = key.split("/")[0]
        if topic in found:
            found[topic][key] = value.encode()
    for topic, values in found.items():
        total = sum(len(value) for value in values.values())
        values[f"{topic}/sum-{total % 4}"] = b"derived"
    return found


@dataclass
class Replica:
    source: Source = field(
        default_factory=lambda: Source("epoch", capacity=CAPACITY, piece_bytes=8)
    )
    revision: int = 0

    def load(self, world: World, topics: frozenset[str] | None, revision: int) -> bool:
        for topic, values in derived(world).items():
            self.source.replace(topic, values)
        self.source.assign(NODE, topics)
        self.revision = revision
        return NODE in self.source.flush(revision, float(revision)).nodes


class Streams(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.history: list[tuple[World, frozenset[str] | None]] = [({}, frozenset(TOPICS))]
        self.replicas = [Replica(), Replica()]
        for replica in self.replicas:
            replica.load({}, frozenset(TOPICS), 0)
        self.receiver = Receiver[bytes]()
        self.kernel: dict[str, bytes] = {}
        self.sender: Sender | None = None
        self.serving = self.replicas[0]
        self.to_agent: list[Response[bytes]] = []
        self.to_service: list[Ack] = []
        self.batch: Batch[bytes] | None = None
        self.failures: tuple[Failure, ...] = ()

    # What changes.

    @rule(
        topic=st.sampled_from(TOPICS),
        key=st.sampled_from("abcd"),
        value=st.sampled_from(["", "1", "22", "333"]),
    )
    def change(self, topic: str, key: str, value: str) -> None:
        world, topics = self.history[-1]
        world = dict(world)
        if value:
            world[f"{topic}/{key}"] = value
        else:
            world.pop(f"{topic}/{key}", None)
        self.history.append((world, topics))

    @rule(topics=st.none() | st.sets(st.sampled_from(TOPICS)))
    def move(self, topics: set[str] | None) -> None:
        world, _ = self.history[-1]
        self.history.append((world, None if topics is None else frozenset(topics)))

    @rule(which=st.integers(0, 1), steps=st.integers(1, 5))
    def catch_up(self, which: int, steps: int) -> None:
        replica = self.replicas[which]
        self.flush(replica, min(replica.revision + steps, len(self.history) - 1))

    def flush(self, replica: Replica, revision: int) -> None:
        world, topics = self.history[revision]
        moved = replica.load(world, topics, revision)
        if moved and replica is self.serving and self.sender is not None:
            self.sender.follow(replica.source.nodes.get(NODE))

    @rule(which=st.integers(0, 1))
    def restart_replica(self, which: int) -> None:
        replica = self.replicas[which]
        if replica is self.serving:
            self.drop()
        replica.source = Source("epoch", capacity=CAPACITY, piece_bytes=8)
        self.flush(replica, replica.revision)

    # What the stream does.

    @rule(which=st.integers(0, 1))
    def connect(self, which: int) -> None:
        self.drop()
        self.serving = self.replicas[which]
        hello = self.receiver.hello(NODE)
        source = self.serving.source
        self.sender = Sender(source, source.nodes.get(NODE), hello.resume)
        if hello.resume is not None:
            self.to_service.append(self.receiver.status())

    @rule()
    def drop(self) -> None:
        self.sender = None
        self.to_agent, self.to_service = [], []
        self.receiver.disconnected()

    @precondition(lambda self: self.sender is not None)
    @rule()
    def send(self) -> None:
        assert self.sender is not None
        try:
            outgoing = self.sender.next()
        except RomanaError:
            self.drop()
            return
        if outgoing is not None:
            piece = outgoing.piece
            self.to_agent.append(
                Response(
                    outgoing.nonce, piece.position, piece.phase, dict(piece.updated), piece.removed
                )
            )

    @precondition(lambda self: self.to_agent and self.batch is None)
    @rule()
    def receive(self) -> None:
        response = self.to_agent.pop(0)
        before = dict(self.receiver.held)
        self.batch = self.receiver.receive(response)
        if self.batch is None:
            assert self.receiver.held == before
            self.to_service.append(self.receiver.received(response))

    @precondition(lambda self: self.batch is not None)
    @rule(failing=st.booleans())
    def apply(self, *, failing: bool) -> None:
        assert self.batch is not None
        for name in self.batch.removed:
            del self.kernel[name]
        self.kernel.update(self.batch.updated)
        self.failures = (Failure("x", "NO_DEVICE"),) if failing else ()
        ack = self.receiver.applied(self.batch, self.failures)
        self.batch = None
        if self.sender is not None:
            self.to_service.append(ack)

    @precondition(lambda self: self.to_service and self.sender is not None)
    @rule()
    def acknowledge(self) -> None:
        assert self.sender is not None
        self.sender.acknowledge(self.to_service.pop(0))

    # What must hold.

    @invariant()
    def one_response_is_in_flight(self) -> None:
        assert len(self.to_agent) <= 1

    @invariant()
    def the_log_is_bounded(self) -> None:
        for replica in self.replicas:
            assert replica.source.head - replica.source._log.base <= 2 * CAPACITY + 20

    @invariant()
    def sets_of_topics_do_not_pile_up(self) -> None:
        for replica in self.replicas:
            assert len(replica.source._sets) == len(set(replica.source.nodes.values()))

    @invariant()
    def what_is_gone_is_not_remembered_for_ever(self) -> None:
        sender = self.sender
        if sender is not None and not (sender._moving or sender._ending):
            assert not sender._gone
            assert not sender._parts

    @invariant()
    def current_means_equal(self) -> None:
        sender = self.sender
        if sender is not None and sender.is_current:
            assert sender.topics is not None
            source = self.serving.source
            wanted = {
                name: value
                for topic in sender.topics
                for name, value in source.values(topic).items()
            }
            assert self.kernel == wanted
            assert sender.applied == source.position(sender.topics)

    @invariant()
    def applied_is_not_ahead_of_what_was_applied(self) -> None:
        sender = self.sender
        if sender is not None and sender.applied is not None and not sender.is_current:
            reached = self.receiver.applied_position
            assert reached is not None
            assert sender.applied.revision <= reached.revision

    def teardown(self) -> None:
        last = len(self.history) - 1
        self.history.append((self.history[last][0], frozenset(TOPICS)))
        for replica in self.replicas:
            self.flush(replica, last + 1)
        if self.sender is None:
            self.connect(0)
        for _ in range(300):
            if self.sender is None:
                self.connect(1)
            self.send()
            if self.to_agent and self.batch is None:
                self.receive()
            if self.batch is not None:
                self.apply(failing=False)
            while self.to_service and self.sender is not None:
                self.acknowledge()
            if self.sender is not None and self.sender.is_current:
                break
        assert self.sender is not None
        assert self.sender.is_current
        wanted = {
            name: value
            for values in derived(self.history[-1][0]).values()
            for name, value in values.items()
        }
        assert self.receiver.held == self.kernel == wanted
        assert not self.sender.failures


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
