"""What nodes' kernels have of the routes, asked of their agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import grpc.aio
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.common.rpc.request_id import passed_on
from services.common.rpc.sibling_replicas import SiblingReplicas
from services.common.sync.asking import Asking
from services.common.sync.hub import Hub

if TYPE_CHECKING:  # it exists for type checkers only
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

KernelAsking: TypeAlias = Asking[pb.GetKernelRoutesResponse]


def kernel_asking(hub: Hub, siblings: SiblingReplicas, replica: str) -> KernelAsking:
    """`replica`: the name of this one."""
    return Asking(hub, siblings, replica, pb.GetKernelRoutesResponse, _ask)


async def _ask(node: str, channel: grpc.aio.Channel, timeout: float) -> pb.GetKernelRoutesResponse:
    stub: IpamServiceAsyncStub = IpamServiceStub(channel)
    request = pb.GetKernelRoutesRequest(node=node, local_only=True)
    return await stub.GetKernelRoutes(request, timeout=timeout, metadata=passed_on())
