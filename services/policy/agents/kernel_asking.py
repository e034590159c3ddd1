"""What nodes' kernels have of the rules, asked of their agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import grpc.aio
from romana.policy.v1 import policy_service_pb2 as api
from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceStub

from services.common.rpc.request_id import passed_on
from services.common.rpc.sibling_replicas import SiblingReplicas
from services.common.sync.asking import Asking
from services.common.sync.hub import Hub

if TYPE_CHECKING:  # it exists for type checkers only
    from romana.policy.v1.policy_service_pb2_grpc import PolicyServiceAsyncStub

KernelAsking: TypeAlias = Asking[api.GetKernelRulesResponse]


def kernel_asking(hub: Hub, siblings: SiblingReplicas, replica: str) -> KernelAsking:
    """`replica`: the name of this one."""
    return Asking(hub, siblings, replica, api.GetKernelRulesResponse, _ask)


async def _ask(node: str, channel: grpc.aio.Channel, timeout: float) -> api.GetKernelRulesResponse:
    stub: PolicyServiceAsyncStub = PolicyServiceStub(channel)
    request = api.GetKernelRulesRequest(node=node, local_only=True)
    return await stub.GetKernelRules(request, timeout=timeout, metadata=passed_on())
