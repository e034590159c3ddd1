"""The agent of each node: how it is started and what is asked of it, on its Unix socket."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from romana.agent.v1 import agent_service_pb2 as api
from romana.agent.v1 import endpoint_pb2
from romana.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from romana.ipam.v1 import allocation_pb2

from lab import control
from lab.processes import Program
from lab.spec import Address, Endpoint
from services.common.errors import Unavailable
from services.common.rpc.channel import open_channel
from services.common.rpc.status import error_of

if TYPE_CHECKING:  # for type checkers only
    from romana.agent.v1.agent_service_pb2_grpc import AgentServiceAsyncStub

READY_TIMEOUT = 40.0
CALL_TIMEOUT = 20.0
POLL_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class Attached:
    """An endpoint with its first address."""

    name: str
    node: str
    network: str
    address: Address
    tenant: str


def socket_path(folder: Path, node: str) -> Path:
    """Where a node's agent listens; whoever has the path gets there from any namespace."""
    return folder / f"agent.{node}" / "agent.sock"


def program(node: str, folder: Path) -> Program:
    """A node's agent, in the node's namespace.

    The attachments are in topology; on a trunk, the agent makes their links by them.
    """
    state = folder / f"agent.{node}"
    return Program(
        f"agent.{node}",
        node,
        [sys.executable, "-m", "services.agent.main"],
        {
            "ROMANA_AGENT__NODE": node,
            "ROMANA_AGENT__STATE_DIR": str(state),
            "ROMANA_AGENT__SOCKET": str(socket_path(folder, node)),
            "ROMANA_AGENT__CNI_SOCKET": str(state / "cni.sock"),
            "ROMANA_AGENT__IPAM": control.IPAM,
            "ROMANA_AGENT__TOPOLOGY": control.TOPOLOGY,
            "ROMANA_AGENT__POLICY": control.POLICY,
            "ROMANA_AGENT__INSECURE": "true",
            "ROMANA_AGENT__LOG__FORMAT": "json",
        },
    )


class Agent:
    """Calls to one agent. A channel of its own each: this is no hot path."""

    def __init__(self, node: str, path: Path, *, patience: float = 1.0) -> None:
        """Asks nothing; all waits are `patience` times as long as else."""
        self.node = node
        self._patience = patience
        self._call_timeout = CALL_TIMEOUT * patience
        self._target = f"unix:{path}"

    async def ready(self, within: float = READY_TIMEOUT) -> None:
        """Waits until its kernel holds what is asked for; raises Unavailable."""
        deadline = time.monotonic() + within * self._patience
        why = "no answer"
        while time.monotonic() < deadline:
            try:
                status = await self.status()
            except Unavailable as error:
                why = error.message
            else:
                if status.ready and status.connected:
                    return
                why = "; ".join(status.reasons) or "no stream to ipam"
            await asyncio.sleep(POLL_INTERVAL)
        raise Unavailable(f"the agent of {self.node} is not ready: {why}", "AGENT_NOT_READY")

    async def status(self) -> api.GetStatusResponse:
        async with open_channel(self._target) as channel:
            stub: AgentServiceAsyncStub = AgentServiceStub(channel)
            try:
                return await stub.GetStatus(api.GetStatusRequest(), timeout=self._call_timeout)
            except grpc.aio.AioRpcError as error:
                raise error_of(error) from error

    async def attach(self, endpoint: Endpoint, namespace: Path, *, address: str = "") -> Attached:
        """Attaches it; an address of any of the tenant's networks unless the file says which."""
        addresses = [allocation_pb2.AddressSpec(network=endpoint.network, address=address)]
        spec = endpoint_pb2.EndpointSpec(
            name=endpoint.name,
            tenant=endpoint.tenant,
            segment=endpoint.segment,
            labels=dict(endpoint.labels),
            target=endpoint_pb2.EndpointTarget(
                namespace=endpoint_pb2.NamespaceTarget(path=str(namespace))
            ),
            addresses=addresses if endpoint.network or address else [],
        )
        async with open_channel(self._target) as channel:
            stub: AgentServiceAsyncStub = AgentServiceStub(channel)
            try:
                answer = await stub.AttachEndpoint(
                    api.AttachEndpointRequest(spec=spec), timeout=self._call_timeout
                )
            except grpc.aio.AioRpcError as error:
                raise error_of(error) from error
        return self._attached(answer.endpoint)

    async def detach(self, name: str) -> None:
        async with open_channel(self._target) as channel:
            stub: AgentServiceAsyncStub = AgentServiceStub(channel)
            try:
                await stub.DetachEndpoint(
                    api.DetachEndpointRequest(name=name), timeout=self._call_timeout
                )
            except grpc.aio.AioRpcError as error:
                raise error_of(error) from error

    async def endpoints(self) -> list[Attached]:
        found: list[Attached] = []
        token = ""
        async with open_channel(self._target) as channel:
            stub: AgentServiceAsyncStub = AgentServiceStub(channel)
            while True:
                try:
                    page = await stub.ListEndpoints(
                        api.ListEndpointsRequest(page_token=token), timeout=self._call_timeout
                    )
                except grpc.aio.AioRpcError as error:
                    raise error_of(error) from error
                found += [self._attached(each) for each in page.endpoints if each.addresses]
                token = page.next_page_token
                if not token:
                    return found

    def _attached(self, endpoint: endpoint_pb2.Endpoint) -> Attached:
        first = endpoint.addresses[0]
        return Attached(
            endpoint.name, self.node, first.network, ip_address(first.address), endpoint.tenant
        )
