"""The gRPC methods of the agent, on its Unix socket."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Final

from romana.agent.v1 import agent_service_pb2 as pb
from romana.agent.v1 import agent_service_pb2_grpc, endpoint_pb2

from services.agent.api import messages
from services.agent.endpoints.lifecycle import Endpoints
from services.agent.endpoints.moving import Moving
from services.agent.endpoints.view import EndpointView
from services.agent.routing.reconcile import Reconciler
from services.agent.status import NodeStatus
from services.common.errors import InvalidInput
from services.common.model.names import NodeName
from services.common.model.network import joined
from services.common.process.version import version
from services.common.rpc.context import Context

ATTACH_SECONDS: Final = 30.0
"""For callers without a deadline."""
ANSWER_SECONDS: Final = 0.2
"""What is kept of a caller's deadline, to say why it was not met."""
PAGE: Final = 100
PAGE_MOST: Final = 1000


class AgentService(agent_service_pb2_grpc.AgentServiceServicer):
    """The methods of one node."""

    def __init__(
        self,
        node: NodeName,
        endpoints: Endpoints,
        moving: Moving,
        reconciler: Reconciler,
        status: Callable[[], Awaitable[NodeStatus]],
    ) -> None:
        self._node = node
        self._endpoints = endpoints
        self._moving = moving
        self._reconciler = reconciler
        self._status = status

    async def AttachEndpoint(
        self, request: pb.AttachEndpointRequest, context: Context
    ) -> pb.AttachEndpointResponse:
        spec = messages.parse_spec(request.spec)
        left = context.time_remaining()
        seconds = ATTACH_SECONDS if left is None else max(left - ANSWER_SECONDS, left / 2)
        deadline = asyncio.get_running_loop().time() + min(seconds, ATTACH_SECONDS)
        attached = await self._endpoints.attach(spec, deadline)
        return pb.AttachEndpointResponse(
            endpoint=self._told(attached.view), existed=attached.existed
        )

    async def DetachEndpoint(
        self, request: pb.DetachEndpointRequest, context: Context
    ) -> pb.DetachEndpointResponse:
        name = messages.parse_name(request.name)
        await self._moving.gone(name)
        released = await self._endpoints.detach(name)
        return pb.DetachEndpointResponse(addresses=released)

    async def CheckEndpoint(
        self, request: pb.CheckEndpointRequest, context: Context
    ) -> pb.CheckEndpointResponse:
        view, problems = await self._endpoints.check(messages.parse_name(request.name))
        return pb.CheckEndpointResponse(endpoint=self._told(view), problems=problems)

    async def ListEndpoints(
        self, request: pb.ListEndpointsRequest, context: Context
    ) -> pb.ListEndpointsResponse:
        most = min(request.page_size or PAGE, PAGE_MOST)
        after = _read_token(request.page_token)
        listed = sorted(name for name in self._endpoints.records if name > after)
        views = [self._endpoints.view(name) for name in listed[:most]]
        return pb.ListEndpointsResponse(
            endpoints=[self._told(view) for view in views if view is not None],
            next_page_token=_token(listed[most - 1]) if len(listed) > most else "",
        )

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        reasons = tuple(self._reconciler.reasons)
        if not (self._reconciler.ready or reasons):
            reasons = ("the kernel does not hold what is asked for yet",)
        found = await self._status()
        return messages.status(self._node, version(), reasons, len(self._endpoints), found)

    def _told(self, view: EndpointView) -> endpoint_pb2.Endpoint:
        made, networks = view.record.endpoint, self._reconciler.remote.networks
        names = {item.network: None for item in (made.addresses if made else ())}
        return messages.endpoint(
            view, joined(networks[name].dns for name in names if name in networks)
        )


def _token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except ValueError:
        raise InvalidInput.at("page_token", "is none of ours") from None
