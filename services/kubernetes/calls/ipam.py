"""What the controller asks of ipam. Protobuf messages stop here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from romana.ipam.v1 import allocation_pb2, utilization_pb2
from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.errors import NotFound
from services.common.model.names import NetworkName, NodeName, Segment, Tenant
from services.common.rpc.enums import FAMILIES
from services.common.rpc.replicas import Replicas
from services.kubernetes.calls.known_rooms import KnownRooms
from services.kubernetes.objects.networks import GroupUse, NetworkUse
from services.kubernetes.scheduling.judging import Home
from services.kubernetes.scheduling.rooms import Rooms
from services.kubernetes.wanted.values import AddressWish, WantedEndpoint, allocation_name

if TYPE_CHECKING:
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

PAGE: Final = 5000
KNOWN_MOST: Final = 256
"""Questions of which the answer is kept."""
NUMBER_MOST: Final = (1 << 53) - 1
"""That every reader of JSON takes for what it is."""


class IpamCalls:
    """Raises RomanaErrors."""

    def __init__(self, replicas: Replicas[IpamServiceAsyncStub]) -> None:
        self._replicas = replicas
        self._known: OrderedDict[tuple[Tenant, Segment, AddressWish], KnownRooms] = OrderedDict()

    async def rooms(self, tenant: Tenant, segment: Segment, wish: AddressWish) -> Rooms:
        """Where there is room for an address; NotFound for an unknown network.

        What nodes hold is kept, so that ipam only tells what has changed.
        """
        key = (tenant, segment, wish)
        known = self._known.setdefault(key, KnownRooms())
        self._known.move_to_end(key)
        while len(self._known) > KNOWN_MOST:
            self._known.popitem(last=False)
        request = pb.EvaluateGroupsRequest(tenant=tenant, segment=segment, address=spec_of(wish))
        async with known.one:
            request.known_state = known.state
            return known.take(await self._replicas.call(lambda stub: stub.EvaluateGroups, request))

    async def allocate(self, endpoint: WantedEndpoint, node: NodeName) -> tuple[list[str], bool]:
        """The addresses, and whether the name had them already.

        Raises Exhausted if there is none, AlreadyExists if the name has others.
        """
        spec = allocation_pb2.AllocationSpec(
            name=allocation_name(endpoint),
            node=node,
            tenant=endpoint.tenant,
            segment=endpoint.segment,
            addresses=map(spec_of, endpoint.addresses),
        )
        answer = await self._replicas.call(
            lambda stub: stub.AllocateAddress, pb.AllocateAddressRequest(spec=spec)
        )
        return [one.address for one in answer.allocations], answer.existed

    async def release(self, name: str, node: NodeName | None = None) -> list[str]:
        """Gives back what a name has; WrongState if a node is named and it is on another."""
        spec = pb.ReleaseSpec(name=name, node=node or "")
        answer = await self._replicas.call(
            lambda stub: stub.ReleaseAddress, pb.ReleaseAddressRequest(spec=spec)
        )
        return list(answer.addresses)

    async def move(self, name: str, node: NodeName) -> None:
        """Takes what a name has along to a node; NotFound if it has nothing, WrongState with the
        reason if it has to stay."""
        request = pb.MoveAddressRequest(name=name, node=node)
        await self._replicas.call(lambda stub: stub.MoveAddress, request)

    async def allocations(self) -> dict[str, NodeName]:
        """Names that have addresses, with their nodes."""
        found: dict[str, NodeName] = {}
        request = pb.ListAddressesRequest(page_size=PAGE)
        while True:
            answer = await self._replicas.call(lambda stub: stub.ListAddresses, request)
            found |= {one.name: NodeName(one.node) for one in answer.allocations}
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    async def utilization(self) -> dict[str, NetworkUse]:
        """How full networks and their leaf groups are, by network."""
        answer = await self._replicas.call(
            lambda stub: stub.GetUtilization, pb.GetUtilizationRequest()
        )
        return {one.network: _use(one) for one in answer.networks}

    async def home_of(self, name: str) -> Home | None:
        """Where a name has addresses; None: it has none."""
        allocations = await self._allocations_of(name)
        if not allocations:
            return None
        networks = frozenset(NetworkName(one.network) for one in allocations)
        return Home(NodeName(allocations[0].node), networks)

    async def addresses_of(self, name: str) -> set[str]:
        """The addresses that a name has."""
        return {one.address for one in await self._allocations_of(name)}

    async def _allocations_of(self, name: str) -> Sequence[allocation_pb2.Allocation]:
        try:
            answer = await self._replicas.call(
                lambda stub: stub.GetAddress, pb.GetAddressRequest(name=name)
            )
        except NotFound:
            return ()
        return answer.allocations


def _use(message: utilization_pb2.NetworkUtilization) -> NetworkUse:
    usage = message.usage
    parents = {one.group.rpartition("/")[0] for one in message.groups}
    return NetworkUse(
        usage.used,
        _left(usage),
        usage.resting,
        usage.reserved,
        tuple(
            GroupUse(one.group, one.prefix, one.usage.used, _left(one.usage), one.nodes)
            for one in message.groups
            if one.group not in parents
        ),
    )


def _left(usage: utilization_pb2.Usage) -> int:
    """What can be had; cut to what JSON's numbers hold."""
    left = usage.size - usage.used - usage.resting - usage.reserved
    return max(0, min(left, NUMBER_MOST))


def spec_of(wish: AddressWish) -> allocation_pb2.AddressSpec:
    return allocation_pb2.AddressSpec(
        network=wish.network, family=FAMILIES[wish.family], address=wish.address
    )
