from __future__ import annotations

import pytest

from services.common.sync.model import Ack, Failure, Phase, Position, Response
from services.common.sync.receiver import ProtocolViolation, Receiver

AT_1 = Position("e", 1, 11)
AT_2 = Position("e", 2, 22)


def snapshot(nonce: int = 1, position: Position = AT_1, **values: str) -> Response[str]:
    return Response(nonce, position, Phase.SNAPSHOT_END, values)


def synced(**values: str) -> Receiver[str]:
    receiver = Receiver[str]()
    receiver.hello("n")
    batch = receiver.receive(snapshot(**values))
    assert batch is not None
    receiver.applied(batch)
    return receiver


def test_a_new_agent_asks_for_a_snapshot() -> None:
    assert Receiver[str]().hello("n", "1").resume is None


def test_parts_of_a_snapshot_are_held_at_its_end() -> None:
    receiver = Receiver[str]()
    receiver.hello("n")
    part = Response(1, AT_1, Phase.SNAPSHOT, {"a": "1", "b": "1"})
    assert receiver.receive(part) is None
    assert receiver.received(part) == Ack(1)
    assert not receiver.held
    assert not receiver.complete
    end = Response(2, AT_1, Phase.SNAPSHOT_END, {"b": "2", "c": "1"}, ["a"])
    batch = receiver.receive(end)
    assert batch is not None
    assert batch.snapshot
    assert batch.updated == receiver.held == {"b": "2", "c": "1"}
    assert receiver.complete
    assert receiver.in_sync


def test_a_snapshot_tells_only_what_differs() -> None:
    receiver = synced(a="1", b="1", c="1")
    receiver.hello("n")
    batch = receiver.receive(snapshot(a="1", b="2", d="1"))
    assert batch is not None
    assert batch.updated == {"b": "2", "d": "1"}
    assert batch.removed == {"c"}


def test_a_snapshot_that_does_not_end_removes_nothing() -> None:
    receiver = synced(a="1")
    receiver.hello("n")
    assert receiver.receive(Response(1, AT_2, Phase.SNAPSHOT, {"b": "1"})) is None
    assert receiver.held == {"a": "1"}
    receiver.hello("n")
    batch = receiver.receive(snapshot(c="1"))
    assert batch is not None
    assert receiver.held == {"c": "1"}


def test_deltas_apply_and_removals_are_explicit() -> None:
    receiver = synced(a="1", b="1")
    batch = receiver.receive(Response(2, AT_2, Phase.DELTA, {"a": "2", "c": "1"}, ["b", "x"]))
    assert batch is not None
    assert (batch.updated, batch.removed) == ({"a": "2", "c": "1"}, {"b"})
    assert receiver.applied(batch) == Ack(2, AT_2)


def test_a_delta_without_snapshot_is_a_violation_and_leads_to_a_snapshot() -> None:
    receiver = Receiver[str]()
    receiver.hello("n")
    with pytest.raises(ProtocolViolation):
        receiver.receive(Response(1, AT_1, Phase.DELTA, {"a": "1"}))
    assert receiver.hello("n").resume is None


def test_what_is_held_is_resumed_and_what_is_applied_is_reported() -> None:
    receiver = synced(a="1")
    batch = receiver.receive(Response(2, AT_2, Phase.DELTA, {"a": "2"}))
    assert batch is not None
    assert receiver.hello("n").resume == AT_2
    assert receiver.status() == Ack(0, AT_1)
    assert receiver.applied(batch) == Ack(0, AT_2), "its nonce is another stream's"


def test_nothing_is_resumed_from_the_middle_of_something() -> None:
    receiver = synced(a="1")
    receiver.receive(Response(2, Position("e", 2), Phase.DELTA, {"a": "2"}))
    assert receiver.hello("n").resume is None


def test_failures_are_told_when_they_change() -> None:
    receiver = synced(a="1")
    failure = Failure("a", "NO_DEVICE")
    assert receiver.failing([failure]) == Ack(0, AT_1, (failure,))
    assert receiver.failing([failure]) is None
    assert receiver.failing([]) == Ack(0, AT_1)


def test_what_was_on_disk_is_what_is_held() -> None:
    receiver: Receiver[str] = Receiver({"a": "1"}, AT_1)
    assert receiver.held == {"a": "1"}
    assert receiver.complete
    assert not receiver.in_sync
    assert receiver.hello("n").resume == AT_1
    assert receiver.status().applied is None
    assert receiver.restored().applied == AT_1
