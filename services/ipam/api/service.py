"""All gRPC methods of ipam: here those that look, by base class those that have something decided.

Each reads the request, lets the replica decide or look, and writes the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1 import sync_routes_pb2 as sync_pb

from services.common.errors import InvalidInput, NotFound, node_not_found
from services.common.model.names import EndpointName, NetworkName, NodeName
from services.common.paging.token import make_token, page_size, read_token
from services.common.process.turns import Turns
from services.common.process.version import version
from services.common.rpc.context import Context
from services.common.rpc.draining import Draining
from services.common.rpc.fitting import chunks
from services.common.rpc.roles import bound
from services.common.rpc.status import StatusEncoder
from services.common.sizes import BATCH_ITEMS
from services.common.store.unreadable import named
from services.ipam.api import messages_out
from services.ipam.api.agent_streams import RouteStreams
from services.ipam.api.allocation_feed import AllocationFeed
from services.ipam.api.allocation_methods import AllocationMethods
from services.ipam.api.block_feed import BlockFeed
from services.ipam.api.deciding_methods import Deciding
from services.ipam.api.evaluating import evaluate, evaluate_groups
from services.ipam.api.held_rooms_kept import HeldRoomsKept
from services.ipam.api.move_methods import MoveMethods
from services.ipam.api.reservation_methods import ReservationMethods
from services.ipam.api.tenant_limits import METHODS, limits, visible
from services.ipam.deciding.commands import NodeBounds
from services.ipam.ledger.index import allocation
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.listing import BlockFilter, list_addresses, list_blocks
from services.ipam.ledger.utilization import detail, utilization
from services.ipam.metrics import IpamMetrics
from services.ipam.model import parse_address
from services.ipam.store.consistency_run import check_store


class IpamService(AllocationMethods, MoveMethods, ReservationMethods):
    def __init__(
        self,
        deciding: Deciding,
        encoder: StatusEncoder,
        metrics: IpamMetrics,
        draining: Draining,
        route_streams: RouteStreams,
        bounds: NodeBounds,
    ) -> None:
        """`bounds`: what a node's own certificate may take."""
        super().__init__(deciding, encoder, metrics, draining, bounds)
        self._route_streams = route_streams
        self._turns = Turns()
        self._held_rooms = HeldRoomsKept(self._replica, self._turns)
        self._checking = asyncio.Lock()

    async def GetAddress(
        self, request: pb.GetAddressRequest, context: Context
    ) -> pb.GetAddressResponse:
        ledger = await self._replica.committed()
        places = _find(ledger, request)
        own = bound(METHODS + "GetAddress", context)
        tenants = limits("GetAddress", context)
        if (
            not places
            or (own is not None and places[0][0].location(places[0][1]) not in own)
            or (tenants is not None and places[0][0].tenant not in tenants)
        ):
            what = request.name or request.address
            raise NotFound(
                f"nothing is allocated to {what!r}" if request.name else f"{what} is not in use",
                reason="ALLOCATION_NOT_FOUND",
                metadata={"field": request.WhichOneof("key") or "name", "key": what[:253]},
            )
        return pb.GetAddressResponse(
            allocations=[messages_out.allocation(allocation(*place)) for place in places]
        )

    async def ListAddresses(
        self, request: pb.ListAddressesRequest, context: Context
    ) -> pb.ListAddressesResponse:
        block_filter = BlockFilter(
            request.node,
            request.tenant,
            request.segment,
            request.network,
            request.block,
            visible("ListAddresses", request.tenant, context),
        )
        ledger = await self._replica.committed()
        most = page_size(request.page_size, 1000, 5000)
        places, more = list_addresses(ledger, block_filter, _place(request.page_token), most)
        return pb.ListAddressesResponse(
            allocations=[messages_out.allocation(allocation(*place)) for place in places],
            next_page_token=make_token(*more) if more else "",
        )

    async def ListBlocks(
        self, request: pb.ListBlocksRequest, context: Context
    ) -> pb.ListBlocksResponse:
        block_filter = BlockFilter(
            request.node,
            request.tenant,
            request.segment,
            request.network,
            tenants=visible("ListBlocks", request.tenant, context),
        )
        ledger = await self._replica.committed()
        most = page_size(request.page_size, 1000, 5000)
        blocks, more = list_blocks(ledger, block_filter, _place(request.page_token), most)
        return pb.ListBlocksResponse(
            blocks=[messages_out.block(item, ledger) for item in blocks],
            next_page_token=make_token(*more) if more else "",
        )

    async def EvaluateNodes(
        self, request: pb.EvaluateNodesRequest, context: Context
    ) -> pb.EvaluateNodesResponse:
        agents = await self._route_streams.agents()
        return await evaluate(self._replica, self._turns, request, agents)

    async def EvaluateGroups(
        self, request: pb.EvaluateGroupsRequest, context: Context
    ) -> pb.EvaluateGroupsResponse:
        return await evaluate_groups(self._replica, self._turns, self._held_rooms, request)

    async def GetUtilization(
        self, request: pb.GetUtilizationRequest, context: Context
    ) -> pb.GetUtilizationResponse:
        ledger = await self._replica.committed()
        if request.network and request.network not in ledger.networks:
            raise NotFound(
                f"there is no network {request.network!r}",
                reason="NETWORK_NOT_FOUND",
                metadata={"field": "network", "network": request.network},
            )
        usages = utilization(ledger, NetworkName(request.network) if request.network else None)
        if request.include_nodes or request.include_owners:
            detail(ledger, usages)
        routes = self._replica.routes
        if request.include_nodes:
            routes.sync(ledger)
        return pb.GetUtilizationResponse(
            networks=[
                messages_out.network_usage(
                    usage,
                    routes.counts(usage.network) if request.include_nodes else None,
                    owners=request.include_owners,
                )
                for usage in usages
            ]
        )

    async def GetNodeRoutes(
        self, request: pb.GetNodeRoutesRequest, context: Context
    ) -> pb.GetNodeRoutesResponse:
        ledger = await self._replica.committed()
        node = NodeName(request.node)
        if node not in ledger.nodes:
            raise node_not_found(node)
        routes = self._replica.routes
        routes.sync(ledger)
        return pb.GetNodeRoutesResponse(
            own=[messages_out.route(item, ledger) for item in routes.own(node)],
            remote=[messages_out.route(item, ledger) for item in routes.remote(ledger, node)],
        )

    async def GetKernelRoutes(
        self, request: pb.GetKernelRoutesRequest, context: Context
    ) -> pb.GetKernelRoutesResponse:
        ledger = await self._replica.committed()
        if NodeName(request.node) not in ledger.nodes:
            raise node_not_found(request.node)
        return await self._route_streams.kernel.ask(request.node, local=request.local_only)

    async def SyncRoutes(  # type: ignore[override]  # it uses context.read and context.write
        self, request_iterator: AsyncIterator[sync_pb.SyncRoutesRequest], context: Context
    ) -> None:
        await self._route_streams.serve(context)

    async def GetSyncStatus(
        self, request: sync_pb.GetSyncStatusRequest, context: Context
    ) -> sync_pb.GetSyncStatusResponse:
        if request.connected_only:
            return await self._route_streams.connected(local=request.local_only)
        return await self._route_streams.status(request.nodes, local=request.local_only)

    async def WatchBlocks(
        self, request: pb.WatchBlocksRequest, context: Context
    ) -> AsyncIterator[pb.WatchBlocksResponse]:
        block_filter = BlockFilter(
            node=request.node,
            network=request.network,
            tenants=visible("WatchBlocks", "", context),
        )
        feed = BlockFeed(self._replica, block_filter.matches, self._draining)
        async for changes in feed.follow():
            ledger = self._replica.ledger
            yield pb.WatchBlocksResponse(
                updated=[messages_out.block(item, ledger) for item in changes.updated],
                removed=changes.removed,
                in_sync=changes.in_sync,
                revision=changes.revision,
            )

    async def WatchAllocations(
        self, request: pb.WatchAllocationsRequest, context: Context
    ) -> AsyncIterator[pb.WatchAllocationsResponse]:
        block_filter = BlockFilter(
            request.node,
            request.tenant,
            request.segment,
            request.network,
            tenants=visible("WatchAllocations", request.tenant, context),
        )
        feed = AllocationFeed(self._replica, block_filter, self._draining)
        async for changes in feed.follow():
            yield pb.WatchAllocationsResponse(
                allocated=map(messages_out.allocation, changes.allocated),
                released=changes.released,
                in_sync=changes.in_sync,
                revision=changes.revision,
            )

    async def CheckConsistency(
        self, request: pb.CheckConsistencyRequest, context: Context
    ) -> AsyncIterator[pb.CheckConsistencyResponse]:
        async with (
            self._checking,
            contextlib.aclosing(check_store(self._replica, self._turns)) as steps,
        ):
            async for progress in steps:
                found = chunks(map(messages_out.finding, progress.findings), BATCH_ITEMS)
                answers = [pb.CheckConsistencyResponse(findings=part) for part in found]
                answers = answers or [pb.CheckConsistencyResponse()]
                answers[-1].done = progress.done
                for answer in answers:
                    answer.blocks = progress.blocks
                    answer.addresses = progress.addresses
                    answer.total_blocks = progress.total
                    answer.revision = progress.revision
                    yield answer

    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context
    ) -> pb.GetStatusResponse:
        replica = self._replica
        return pb.GetStatusResponse(
            replica=replica.identity.replica,
            active=replica.active,
            active_address=replica.active_address or "",
            epoch=replica.identity.epoch,
            revision=replica.revision,
            addresses=replica.ledger.index.used,
            blocks=len(replica.ledger.index.blocks),
            version=version(),
            unreadable=named(replica.unreadable),
            releases=messages_out.node_releases(replica.ledger),
        )


def _place(token: str) -> tuple[NetworkName, int] | None:
    place = read_token(token, (str, int))
    return (NetworkName(str(place[0])), int(place[1])) if place is not None else None


def _find(ledger: Ledger, request: pb.GetAddressRequest) -> Sequence[tuple[Any, int]]:
    kind = request.WhichOneof("key")
    if kind == "name":
        return ledger.index.places(EndpointName(request.name))
    if kind is None:
        raise InvalidInput.at("key", "is missing: give a name or an address")
    try:
        address, bits = parse_address(request.address)
    except ValueError as error:
        raise InvalidInput.at("address", str(error)) from None
    block = ledger.index.block_of(address, bits)
    if block is None or block.names[address - block.base] is None:
        return ()
    return ((block, address - block.base),)
