"""What an agent is asked about itself on its stream."""

from __future__ import annotations

import asyncio

import pytest
from romana.policy.v1 import policy_pb2
from romana.policy.v1 import sync_rules_pb2 as pb
from romana.sync.v1 import sync_pb2

from services.common.errors import InvalidInput, RomanaError, Unavailable, WrongState
from services.common.sync.questions import (
    ANSWER_SECONDS,
    LASTS_SECONDS,
    Answer,
    Questions,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def part(question: int, *, last: bool = True, problem: str = "", rules: int = 1) -> pb.KernelRules:
    return pb.KernelRules(
        answer=sync_pb2.AnswerPart(question=question, last=last, problem=problem),
        rules=[pb.KernelRule(policy="p", direction=policy_pb2.POLICY_DIRECTION_EGRESS)] * rules,
    )


def questions(clock: Clock, *, answers: bool = True) -> Questions:
    return Questions("n1", lambda: None, answers=answers, clock=clock)


async def begun(asked: Questions) -> tuple[asyncio.Task[Answer], int]:
    """Somebody who asks, and the id of the question."""
    task = asyncio.create_task(asked.ask())
    await asyncio.sleep(0)
    return task, asked.next()


async def reason(task: asyncio.Task[Answer]) -> str:
    with pytest.raises(RomanaError) as caught:
        await task
    return caught.value.reason


async def test_an_answer_lasts_a_moment() -> None:
    clock = Clock()
    asked = questions(clock)
    task, number = await begun(asked)
    asked.take(part(number, last=False))
    asked.take(part(number))
    first = await task
    assert isinstance(first.message, pb.KernelRules)
    assert len(first.message.rules) == 2
    assert await asked.ask() is first
    clock.now += LASTS_SECONDS
    again, second = await begun(asked)
    assert second == number + 1
    asked.take(part(second))
    assert await again is not first


async def test_what_is_not_answered_in_time_is_given_up_and_asked_anew() -> None:
    clock = Clock()
    asked = questions(clock)
    task, number = await begun(asked)
    late = asyncio.create_task(asked.ask())
    clock.now += ANSWER_SECONDS
    assert await reason(asyncio.create_task(asked.ask())) == "AGENT_DID_NOT_ANSWER"
    for each in (task, late):
        each.cancel()
    again, second = await begun(asked)
    assert second == number + 1
    asked.take(part(number, rules=5))  # nobody waits for it any more
    asked.take(part(second))
    answer = await again
    assert isinstance(answer.message, pb.KernelRules)
    assert len(answer.message.rules) == 1


async def test_who_goes_away_leaves_the_question_to_the_others() -> None:
    asked = questions(Clock())
    task, number = await begun(asked)
    other = asyncio.create_task(asked.ask())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert asked.next() == 0
    asked.take(part(number))
    assert (await other).message == part(number)


async def test_an_agent_that_does_not_answer_is_not_asked() -> None:
    asked = questions(Clock(), answers=False)
    with pytest.raises(WrongState, match="of a version that does not say"):
        await asked.ask()
    assert asked.next() == 0


async def test_a_problem_is_an_error_for_a_moment() -> None:
    asked = questions(Clock())
    task, number = await begun(asked)
    asked.take(part(number, problem="no nf_tables"))
    with pytest.raises(Unavailable, match="no nf_tables"):
        await task
    with pytest.raises(Unavailable, match="no nf_tables"):
        await asked.ask()


async def test_the_end_of_a_stream_ends_the_question() -> None:
    asked = questions(Clock())
    task, _ = await begun(asked)
    asked.end()
    assert await reason(task) == "AGENT_AWAY"


async def test_an_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    size = part(1, last=False).ByteSize()
    monkeypatch.setattr("services.common.sync.questions.ANSWER_BYTES", size)
    asked = questions(Clock())
    task, number = await begun(asked)
    asked.take(part(number, last=False))
    with pytest.raises(InvalidInput, match="more than"):
        asked.take(part(number, last=False))
    asked.end()
    await asyncio.gather(task, return_exceptions=True)
