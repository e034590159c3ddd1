"""What a stream brings is taken in whole, whatever happens on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest

from services.agent.streams import agent_stream
from services.agent.streams.agent_stream import AgentStream
from services.common.backoff import BackoffPolicy
from services.common.model.names import NodeName
from services.common.sync.model import Failure, Phase, Position, Response
from services.common.sync.receiver import Batch, Receiver
from tests.support.ipam_process import poll

WHOLE, PART = Position("e", 5, 77), Position("e", 4)


class Sink:
    """Holds what it was handed; fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.has: dict[str, str] = {}
        self.left = failures

    def replace(self, held: Mapping[str, str]) -> None:
        self._fail()
        self.has = dict(held)

    async def apply(self, batch: Batch[str]) -> None:
        self._fail()
        for name in batch.removed:
            del self.has[name]
        self.has.update(batch.updated)

    def _fail(self) -> None:
        if self.left:
            self.left -= 1
            raise KeyError("unexpected")

    async def reached(self) -> None:
        return

    def failures(self) -> Sequence[Failure]:
        return ()

    def on_change(self, _listener: Callable[[], None], /) -> None:
        return


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_stream, "RETRY", BackoffPolicy(0.2, 1.0, 0.2))


async def until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await poll(holds, 10)


def stream(sink: Sink, receiver: Receiver[str]) -> AgentStream[str]:
    return AgentStream(NodeName("n"), (), sink, lambda *_: None, receiver)


def received(
    receiver: Receiver[str], phase: Phase, position: Position, **updated: str
) -> Batch[str]:
    batch = receiver.receive(Response(1, position, phase, updated))
    assert batch is not None
    return batch


async def test_a_defect_while_it_is_taken_in_is_shown_and_all_that_is_held_is_taken_in() -> None:
    receiver: Receiver[str] = Receiver({"a": "1"}, WHOLE)
    sink = Sink()
    made = stream(sink, receiver)
    assert sink.has == {"a": "1"}
    sink.left = 3
    batch = received(receiver, Phase.DELTA, WHOLE, b="2")
    task = asyncio.create_task(made._apply(batch))
    await until(lambda: bool(made.reasons))
    assert "a defect in the agent: KeyError" in made.reasons[0]
    await task
    assert sink.has == {"a": "1", "b": "2"} == dict(receiver.held)
    assert not made.reasons


async def test_a_defect_in_a_part_waits_for_the_whole() -> None:
    receiver: Receiver[str] = Receiver({"a": "1"}, WHOLE)
    sink = Sink()
    made = stream(sink, receiver)
    sink.left = 1
    await made._apply(received(receiver, Phase.DELTA, PART, b="2"))
    assert sink.has == {"a": "1"}
    assert made.reasons
    await made._apply(received(receiver, Phase.DELTA, WHOLE, c="3"))
    assert sink.has == {"a": "1", "b": "2", "c": "3"}
    assert not made.reasons


async def test_what_was_on_disk_and_cannot_be_taken_in_was_not_there() -> None:
    made = stream(Sink(1), Receiver({"a": "1"}, WHOLE))
    assert not made._receiver.complete
    assert made._receiver.hello("n").resume is None
