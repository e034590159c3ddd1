"""What attaching needs of ipam, in domain types. Protobuf messages stop here.

Allocation and release are idempotent by name, so a call that was lost is simply made again, until
the caller's deadline.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, TypeVar

import grpc.aio
from google.protobuf.message import Message
from grpc.aio import UnaryUnaryMultiCallable
from romana.ipam.v1 import allocation_pb2, block_pb2
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceStub

from services.agent.endpoints.spec import EndpointSpec
from services.agent.kernel.conntrack import TcpConnection
from services.agent.model import EndpointAddress
from services.common.backoff import Backoff, BackoffPolicy
from services.common.errors import NotFound, Unavailable
from services.common.model.names import NetworkName, NodeName, Segment, Tenant
from services.common.model.network import Address
from services.common.rpc.enums import FAMILIES
from services.common.rpc.request_id import passed_on
from services.common.rpc.status import error_of

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

_Asked = TypeVar("_Asked", bound=Message)
_Answer = TypeVar("_Answer", bound=Message)

_RETRY: Final = BackoffPolicy(initial=0.1, maximum=2.0)
PAGE: Final = 5000
"""Addresses in one answer: the most that ipam gives."""
ATTEMPT: Final = 5.0
"""Seconds for one attempt: what hangs longer hangs in a replica that is being replaced."""


@dataclass(frozen=True, slots=True)
class Allocated:
    """The addresses of one name on this node, with their owner."""

    addresses: tuple[EndpointAddress, ...]
    tenant: Tenant
    segment: Segment


@dataclass(frozen=True, slots=True)
class Given:
    """The addresses that were asked for."""

    addresses: tuple[EndpointAddress, ...]
    """In the order asked for."""
    arriving: bool
    """They are in use on another node, from which they move to this one."""


class IpamClient:
    """Calls on behalf of one node. Raises RomanaErrors; Unavailable once the deadline passed.

    Any replica takes any call; one that is away is left for the next. Deadlines are times of the
    running loop's clock.
    """

    def __init__(self, channels: Sequence[grpc.aio.Channel], node: NodeName) -> None:
        self._stubs: list[IpamServiceAsyncStub] = [IpamServiceStub(item) for item in channels]
        self._node = node

    async def allocate(
        self, spec: EndpointSpec, deadline: float, *, may_arrive: bool = True
    ) -> Given:
        """The addresses of an endpoint; the same ones again.

        WrongState (MOVES_UNKNOWN): they arrive, and may not.
        """
        request = pb.AllocateAddressRequest(
            spec=allocation_pb2.AllocationSpec(
                name=spec.allocation_name,
                node=self._node,
                tenant=spec.tenant,
                segment=spec.segment,
                addresses=[
                    allocation_pb2.AddressSpec(
                        network=want.network or "",
                        family=FAMILIES[want.family],
                        address=want.address,
                    )
                    for want in spec.addresses
                ],
            ),
            knows_arriving=may_arrive,
        )
        answer = await self._call(lambda stub: stub.AllocateAddress, request, deadline)
        return Given(_addresses(answer.allocations), answer.arriving)

    async def report_ready(self, name: str, deadline: float) -> None:
        """Says that what moves to this node is attached here, with its rules in force; or that it
        is known that what is here moves.

        WrongState (NOT_MOVING): it is neither here nor moving here.
        """
        request = pb.ReportReadyRequest(name=name, node=self._node)
        await self._call(lambda stub: stub.ReportReady, request, deadline)

    async def activate(self, name: str, deadline: float) -> None:
        """Has what moves to this node be here from now on; WrongState if it does not."""
        request = pb.ActivateMoveRequest(name=name, to_node=self._node)
        await self._call(lambda stub: stub.ActivateMove, request, deadline)

    async def hand_over(
        self, name: str, connections: Sequence[TcpConnection], deadline: float
    ) -> None:
        """Gives connections of what was here to the node that it is on; WrongState (NOT_MOVING) if
        it has not just left."""
        request = pb.HandOverConnectionsRequest(
            name=name,
            node=self._node,
            connections=[
                pb.TcpConnection(
                    source=str(each.source),
                    destination=str(each.destination),
                    source_port=each.source_port,
                    destination_port=each.destination_port,
                )
                for each in connections
            ],
        )
        await self._call(lambda stub: stub.HandOverConnections, request, deadline)

    async def take_over(self, name: str, deadline: float) -> Sequence[TcpConnection]:
        """Waits for those of what has just come here; WrongState (NOT_MOVING) if it has not."""
        request = pb.TakeOverConnectionsRequest(name=name, node=self._node)
        answer = await self._call(lambda stub: stub.TakeOverConnections, request, deadline)
        return [
            TcpConnection(
                ip_address(each.source),
                ip_address(each.destination),
                each.source_port,
                each.destination_port,
            )
            for each in answer.connections
        ]

    async def release(self, spec: EndpointSpec, deadline: float) -> tuple[str, ...]:
        """Gives back what the name has on this node; returns the addresses.

        WrongState: the name is another node's, or another owner's.
        """
        request = pb.ReleaseAddressRequest(
            spec=pb.ReleaseSpec(
                name=spec.allocation_name,
                tenant=spec.tenant,
                segment=spec.segment,
                node=self._node,
            )
        )
        answer = await self._call(lambda stub: stub.ReleaseAddress, request, deadline)
        return tuple(answer.addresses)

    async def release_name(self, name: str, deadline: float) -> tuple[str, ...]:
        """Gives back what a name has on this node, whoever it is for; returns the addresses."""
        request = pb.ReleaseAddressRequest(spec=pb.ReleaseSpec(name=name, node=self._node))
        answer = await self._call(lambda stub: stub.ReleaseAddress, request, deadline)
        return tuple(answer.addresses)

    async def set_aside(
        self, name: str, network: NetworkName, address: Address, why: str, deadline: float
    ) -> None:
        """Reserves an address, which an endpoint of this node may have; idempotent."""
        request = pb.CreateReservationRequest(
            reservation=block_pb2.Reservation(
                name=name, network=network, ranges=[str(address)], description=why
            ),
            allow_in_use=True,
        )
        await self._call(lambda stub: stub.CreateReservation, request, deadline)

    async def find(self, name: str, deadline: float) -> Allocated | None:
        """What a name has on this node; None: nothing. NotFound is no error here."""
        try:
            answer = await self._call(
                lambda stub: stub.GetAddress, pb.GetAddressRequest(name=name), deadline
            )
        except NotFound:
            return None
        first = answer.allocations[0]
        if first.node != self._node:
            return None
        return Allocated(
            _addresses(answer.allocations), Tenant(first.tenant), Segment(first.segment)
        )

    async def on_node(self, deadline: float) -> Mapping[str, Allocated]:
        """What all names have on this node."""
        found: dict[str, Allocated] = {}
        request = pb.ListAddressesRequest(node=self._node, page_size=PAGE)
        while True:
            answer = await self._call(lambda stub: stub.ListAddresses, request, deadline)
            for item in answer.allocations:
                before = found[item.name].addresses if item.name in found else ()
                found[item.name] = Allocated(
                    (*before, *_addresses([item])), Tenant(item.tenant), Segment(item.segment)
                )
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    async def _call(
        self,
        method: Callable[[IpamServiceAsyncStub], UnaryUnaryMultiCallable[_Asked, _Answer]],
        request: _Asked,
        deadline: float,
    ) -> _Answer:
        loop = asyncio.get_running_loop()
        backoff = Backoff(_RETRY, random.random)
        while True:
            stub, left = self._stubs[0], max(deadline - loop.time(), 0.001)
            try:
                return await method(stub)(
                    request, timeout=self._patience(left), metadata=passed_on()
                )
            except grpc.aio.AioRpcError as error:
                failed = error_of(error)
            if not isinstance(failed, Unavailable):
                raise failed
            if self._stubs[0] is stub:  # else another call has turned away from it already
                self._stubs.append(self._stubs.pop(0))
            pause = max(backoff.failed(), 0.02)
            if loop.time() + pause >= deadline:
                raise failed
            if backoff.failures % len(self._stubs) == 0:
                await asyncio.sleep(pause)

    def _patience(self, left: float) -> float:
        """Seconds for the next attempt: there is to be time for another replica."""
        return min(left if len(self._stubs) == 1 else left / 2, ATTEMPT)


def _addresses(
    allocations: Sequence[allocation_pb2.Allocation],
) -> tuple[EndpointAddress, ...]:
    return tuple(
        EndpointAddress(ip_address(item.address), NetworkName(item.network)) for item in allocations
    )
