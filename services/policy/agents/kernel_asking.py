"""What nodes' kernels have of the rules, asked of their agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import grpc.aio
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1 import sync_rules_pb2
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub

from services.common.errors import NotFound
from services.common.rpc.request_id import passed_on
from services.common.rpc.sibling_replicas import SiblingReplicas
from services.common.sync import wire
from services.common.sync.asking import Asking
from services.common.sync.questions import Answer
from services.policy.agents.streams import RuleStreams

if TYPE_CHECKING:  # it exists for type checkers only
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub


class KernelAsking:
    def __init__(self, rule_streams: RuleStreams, siblings: SiblingReplicas, replica: str) -> None:
        """`replica`: the name of this one."""
        self._rule_streams = rule_streams
        self._replica = replica
        self._asking = Asking(rule_streams.hub, siblings, self._response, _ask)

    async def answer(self, request: api.GetKernelRulesRequest) -> api.GetKernelRulesResponse:
        """Raises NotFound, WrongState or Unavailable."""
        if request.node not in self._rule_streams.source.nodes:
            raise node_not_found(request.node)
        return await self._asking.ask(request.node, local=request.local_only)

    def _response(self, node: str, answer: Answer) -> api.GetKernelRulesResponse:
        source = self._rule_streams.source
        kernel = cast("sync_rules_pb2.KernelRules", answer.message)
        topics = source.nodes.get(node)
        held = wire.parse_position(kernel.answer.held)
        response = api.GetKernelRulesResponse(
            kernel=kernel,
            holds_all=topics is not None and held.digest == source.position(topics).digest,
            replica=self._replica,
        )
        response.answer_time.FromMilliseconds(int(answer.time * 1000))
        return response


def node_not_found(node: str) -> NotFound:
    return NotFound(
        f"node {node!r} is not registered",
        reason="NODE_NOT_FOUND",
        metadata={"field": "node", "node": node},
    )


async def _ask(node: str, channel: grpc.aio.Channel, timeout: float) -> api.GetKernelRulesResponse:
    stub: PolicyServiceAsyncStub = PolicyServiceStub(channel)
    request = api.GetKernelRulesRequest(node=node, local_only=True)
    return await stub.GetKernelRules(request, timeout=timeout, metadata=passed_on())
