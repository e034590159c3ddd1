"""What a stream says when its node's topics change."""

from __future__ import annotations

from collections.abc import Iterable

from services.common.sync.model import Ack, Phase
from services.common.sync.sender import Sender
from services.common.sync.source import Piece, Source

NODE = "n"


class World:
    """A source, and one node that has taken all there is."""

    def __init__(self, *topics: str, capacity: int = 1000, piece_bytes: int = 1000) -> None:
        self.source = Source("epoch", capacity=capacity, piece_bytes=piece_bytes)
        for topic in ("a", "b", "c"):
            for number in range(3):
                self.source.put(topic, f"{topic}{number}", topic.encode() * 10)
        self.revision = 0
        self.source.assign(NODE, topics)
        self.flush()
        self.sender = Sender(self.source, self.source.nodes[NODE], None)
        self.take()

    def flush(self) -> None:
        self.revision += 1
        moved = self.source.flush(self.revision, float(self.revision)).nodes
        if moved and hasattr(self, "sender"):
            self.sender.follow(self.source.nodes.get(NODE))

    def move(self, topics: Iterable[str] | None) -> None:
        self.source.assign(NODE, topics)
        self.flush()

    def one(self) -> Piece | None:
        outgoing = self.sender.next()
        if outgoing is None:
            return None
        self.sender.acknowledge(Ack(outgoing.nonce))
        return outgoing.piece

    def take(self) -> list[Piece]:
        found = []
        while (piece := self.one()) is not None:
            found.append(piece)
        assert self.sender.is_current
        return found


def test_a_small_snapshot_is_one_response() -> None:
    world = World()
    world.sender = Sender(world.source, frozenset("abc"), None)
    (piece,) = world.take()
    assert piece.phase is Phase.SNAPSHOT_END
    assert len(piece.updated) == 9


def test_other_topics_are_one_delta_with_the_difference() -> None:
    world = World("a", "b")
    world.move(("b", "c"))
    (piece,) = world.take()
    assert piece.phase is Phase.DELTA
    assert set(piece.updated) == {"c0", "c1", "c2"}
    assert set(piece.removed) == {"a0", "a1", "a2"}
    assert piece.position == world.source.position(frozenset("bc"))
    assert piece.since == 2.0


def test_changes_of_the_same_moment_are_in_it() -> None:
    world = World("a", "b")
    world.source.drop("a", "a0")
    world.source.put("b", "b0", b"new")
    world.source.put("c", "c3", b"new")
    world.move(("b", "c"))
    (piece,) = world.take()
    assert set(piece.updated) == {"b0", "c0", "c1", "c2", "c3"}
    assert set(piece.removed) == {"a0", "a1", "a2"}


def test_what_is_new_comes_before_and_what_is_gone_after_the_changes() -> None:
    world = World("a", "b", piece_bytes=20)
    world.source.put("b", "b0", b"new")
    world.move(("b", "c"))
    first, last = world.take()
    assert first.phase is last.phase is Phase.DELTA
    assert set(first.updated) == {"c0", "c1"}
    assert not first.removed
    assert not first.position.digest, "nobody can resume from the middle"
    assert set(last.updated) == {"c2", "b0"}
    assert set(last.removed) == {"a0", "a1", "a2"}


def test_a_topic_that_comes_back_before_it_was_taken_away_stays() -> None:
    world = World("a", "b")
    world.move("b")
    world.source.drop("a", "a0")
    world.move("ab")
    (piece,) = world.take()
    assert set(piece.updated) == {"a1", "a2"}
    assert set(piece.removed) == {"a0"}


def test_topics_that_change_during_a_snapshot_do_not_begin_it_again() -> None:
    world = World()
    world.sender = Sender(world.source, frozenset("ab"), None)
    world.source._piece_bytes = 10
    world.source.assign(NODE, "ab")
    world.flush()
    begun = world.one()
    assert begun is not None
    assert begun.phase is Phase.SNAPSHOT
    world.move("bc" if "a0" in begun.updated else "ac")
    rest = world.take()
    assert rest[-1].phase is Phase.SNAPSHOT_END
    assert set(begun.updated) <= set(rest[-1].removed)
    assert world.sender.snapshots == 1


def test_a_topic_of_which_changes_are_forgotten_needs_a_snapshot() -> None:
    world = World("a", "b", capacity=2)
    world.source.drop("a", "a0")
    for number in range(20):
        world.source.put("c", "c0", b"%d" % number)
    world.flush()
    world.move("b")
    pieces = world.take()
    assert pieces[-1].phase is Phase.SNAPSHOT_END
    assert world.sender.snapshots == 2


def test_sets_of_topics_are_forgotten_with_the_last_node_that_has_them() -> None:
    source = Source("epoch")
    for number in range(100):
        source.assign("one", (f"t{number}",))
        source.assign("two", (f"t{number}", "x"))
        source.assign("three", (f"t{number}",))
    assert len(source._sets) == 2
    assert source.nodes["one"] is source.nodes["three"]
    for node in ("one", "two", "three"):
        source.assign(node, None)
    assert not source._sets


def test_nodes_that_come_onto_a_small_topic_together_share_its_snapshot() -> None:
    source = World().source
    (first,), (second,) = source.snapshots(["a"]), source.snapshots(["a"])
    assert first is second


def test_a_shared_snapshot_has_what_the_topic_has_now() -> None:
    source = World().source
    source.snapshots(["a"])
    source.put("a", "a0", b"other")
    source.flush(2, 2.0)
    (snapshot,) = source.snapshots(["a"])
    assert snapshot.pieces[0].updated["a0"] == b"other"
