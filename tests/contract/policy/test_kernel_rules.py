"""What a kernel has is asked of the node's agent, on whichever replica its stream is."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable

import grpc
import pytest
from romana.policy.v1 import policy_pb2
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1 import sync_rules_pb2 as pb

from services.agent.rules.in_kernel import InKernel, RuleThere
from services.agent.rules.messages import kernel_parts
from services.agent.rules.render_rules import Counted
from services.agent.streams.answering import Difference, Kind, answering
from services.common.errors import Unavailable
from services.common.model.rules import Direction, PolicyName
from services.common.rpc.status import error_of
from services.common.sync.model import Position
from services.common.sync.stream_client import Answering
from tests.contract.policy.conftest import Pair
from tests.support.policy_process import endpoint, report, rules_agent
from tests.support.sync_agent import SyncAgent


class Kernel:
    """Stands for the kernel of an agent without one."""

    def __init__(self, found: InKernel | None = None) -> None:
        self.found = found or InKernel(
            (RuleThere(Counted(PolicyName("p"), Direction.INGRESS, "0"), 2, 1, 7, 700),),
            (Difference(Kind.MISSING, "rule 1 of chain r-0"),),
        )
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    async def look(self) -> InKernel:
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.found

    @property
    def answering(self) -> Answering:
        return answering(
            self.look,
            kernel_parts,
            pb.KernelRules,
            lambda part: pb.SyncRulesRequest(kernel=part),
        )


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


def agent_of(pair: Pair, kernel: Kernel, node: str = "h1") -> SyncAgent:
    """At the first replica alone."""
    return rules_agent(node, [pair.first.address], answering=kernel.answering)


async def ask(pair: Pair, at: str, node: str = "h1") -> api.GetKernelRulesResponse:
    request = api.GetKernelRulesRequest(node=node)
    answer: api.GetKernelRulesResponse = await getattr(pair, at).GetKernelRules(request, timeout=30)
    return answer


async def refusal(pair: Pair, at: str, node: str = "h1") -> tuple[grpc.StatusCode, str]:
    """Code and reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(pair, at, node)
    return caught.value.code(), error_of(caught.value).reason


@pytest.mark.parametrize("at", ["stub", "other"])
async def test_any_replica_says_what_a_kernel_has(pair: Pair, kernel: Kernel, at: str) -> None:
    async with agent_of(pair, kernel) as agent:
        await agent.until_in_sync()
        answer = await ask(pair, at)
        own = await pair.stub.GetStatus(api.GetStatusRequest())
    (rule,) = answer.kernel.rules
    assert (rule.policy, rule.direction, rule.rule) == (
        "p",
        policy_pb2.POLICY_DIRECTION_INGRESS,
        "0",
    )
    assert (rule.wanted, rule.there, rule.packets, rule.bytes) == (2, 1, 7, 700)
    assert [one.object for one in answer.kernel.differences] == ["rule 1 of chain r-0"]
    assert answer.replica == own.replica
    assert answer.holds_all


@pytest.mark.parametrize("at", ["stub", "other"])
async def test_an_agent_without_a_stream_is_said_to_be_away(pair: Pair, at: str) -> None:
    assert await refusal(pair, at, "h3") == (grpc.StatusCode.FAILED_PRECONDITION, "AGENT_AWAY")


@pytest.mark.parametrize("at", ["stub", "other"])
async def test_an_agent_that_knows_no_questions_is_said_to_be_too_old(pair: Pair, at: str) -> None:
    async with rules_agent("h1", [pair.first.address]) as agent:
        await agent.until_in_sync()
        assert await refusal(pair, at) == (grpc.StatusCode.FAILED_PRECONDITION, "AGENT_TOO_OLD")


@pytest.mark.parametrize("at", ["stub", "other"])
async def test_a_node_that_is_not_registered_is_not_found(pair: Pair, at: str) -> None:
    assert await refusal(pair, at, "nobody") == (grpc.StatusCode.NOT_FOUND, "NODE_NOT_FOUND")


@pytest.mark.parametrize("at", ["stub", "other"])
async def test_a_kernel_that_cannot_be_read_is_told_with_the_reason(
    pair: Pair, kernel: Kernel, at: str
) -> None:
    kernel.error = Unavailable("nf_tables: no")
    async with agent_of(pair, kernel) as agent:
        await agent.until_in_sync()
        with pytest.raises(grpc.aio.AioRpcError, match="nf_tables: no") as caught:
            await ask(pair, at)
        assert error_of(caught.value).reason == "KERNEL_NOT_READ"


async def test_an_agent_ends_while_it_is_asked(pair: Pair, kernel: Kernel) -> None:
    kernel.gate.clear()
    async with agent_of(pair, kernel) as agent:
        await agent.until_in_sync()
        asking = asyncio.create_task(refusal(pair, "other"))
        await agent.until(lambda: kernel.asked > 0)
    assert await asking == (grpc.StatusCode.FAILED_PRECONDITION, "AGENT_AWAY")


async def test_many_who_ask_are_one_question(pair: Pair, kernel: Kernel) -> None:
    kernel.gate.clear()
    async with agent_of(pair, kernel) as agent:
        await agent.until_in_sync()
        asking = [asyncio.create_task(ask(pair, at)) for at in ("stub", "other") * 10]
        await agent.until(lambda: kernel.asked > 0)
        kernel.gate.set()
        answers = await asyncio.gather(*asking)
    assert {len(answer.kernel.rules) for answer in answers} == {1}
    # who came when the first answer had lasted its time has one of the next
    assert kernel.asked <= len({answer.answer_time.ToNanoseconds() for answer in answers})


async def test_an_agent_answers_while_its_kernel_takes_long(pair: Pair, kernel: Kernel) -> None:
    applied = asyncio.Event()
    async with agent_of(pair, kernel) as agent:
        await agent.until_in_sync()
        agent.hold = applied.wait  # type: ignore[assignment]
        before = agent.receiver.position
        await report(pair, "h1", endpoint("near", "10.0.0.1"))
        await agent.until(lambda: agent.receiver.position != before)
        answer = await ask(pair, "other")
        assert len(answer.kernel.rules) == 1
        assert answer.holds_all
        applied.set()
        await agent.until_in_sync()


async def test_thousands_of_rules_come_in_parts(pair: Pair) -> None:
    long = PolicyName("x" * 200)
    rules = [
        RuleThere(Counted(long, Direction.EGRESS, str(one)), 1, 1, 0, 0) for one in range(9000)
    ]
    kernel, parts = Kernel(InKernel(tuple(rules), ())), 0
    answers = kernel.answering

    async def counting(question: int, held: Position | None) -> Iterable[object]:
        nonlocal parts
        made = list(await answers(question, held))
        parts = len(made)
        return made

    async with rules_agent("h1", [pair.first.address], answering=counting) as agent:
        await agent.until_in_sync()
        answer = await ask(pair, "other")
    assert [rule.rule for rule in answer.kernel.rules] == [str(one) for one in range(9000)]
    assert parts > 5


async def test_a_replica_that_may_have_the_stream_and_does_not_answer_is_told_of(
    pair: Pair,
) -> None:
    pid = pair.first.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        code, reason = await refusal(pair, "other", "h3")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (code, reason) in {
        (grpc.StatusCode.UNAVAILABLE, "REPLICA_DID_NOT_ANSWER"),
        # it is not among the replicas any more when its presence has lapsed
        (grpc.StatusCode.FAILED_PRECONDITION, "AGENT_AWAY"),
    }
