"""The gRPC methods: read the request, let the replica decide or look, write the answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import structs
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1 import sync_routes_pb2 as sync_pb
from romana.ipam.v1.allocation_pb2 import AllocationSpec

from services.common.errors import InvalidInput, NotFound, RomanaError, Unavailable
from services.common.model.names import EndpointName, NetworkName, NodeName
from services.common.paging.token import make_token, page_size, read_token
from services.common.process.turns import Turns
from services.common.process.version import version
from services.common.rpc.draining import Draining
from services.common.rpc.fitting import chunks
from services.common.rpc.roles import bound
from services.common.rpc.status import StatusEncoder
from services.common.sizes import BATCH_ADDRESSES, BATCH_ITEMS
from services.common.store.unreadable import named
from services.ipam.api import messages_in, messages_out
from services.ipam.api.agent_streams import Syncing
from services.ipam.api.allocation_feed import AllocationFeed
from services.ipam.api.block_feed import BlockFeed
from services.ipam.api.deciding_methods import Context, Deciding
from services.ipam.api.evaluating import evaluate, evaluate_groups
from services.ipam.api.forwarding import Elsewhere, undecided
from services.ipam.api.held_rooms_kept import HeldRoomsKept
from services.ipam.api.move_methods import MoveMethods
from services.ipam.api.reading_ahead import ReadingAhead
from services.ipam.api.reservation_methods import ReservationMethods
from services.ipam.api.tenant_limits import METHODS, limits, visible, without_others
from services.ipam.deciding.batch import by_owner
from services.ipam.deciding.commands import (
    Allocate,
    Allocated,
    Command,
    NodeBounds,
    Released,
    Result,
)
from services.ipam.ledger.index import allocation
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.listing import BlockFilter, list_addresses, list_blocks
from services.ipam.ledger.utilization import detail, utilization
from services.ipam.metrics import IpamMetrics
from services.ipam.model import Allocation, parse_address
from services.ipam.store.consistency_run import audit
from services.ipam.store.group_commit import OVERLOADED

if TYPE_CHECKING:  # these exist for type checkers only
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

_Begun: TypeAlias = "asyncio.Task[pb.AllocateStreamResponse]"

ANSWER_CHUNK: Final = 1000
"""Results that are written at once."""
OVERLOADED_PAUSE: Final = 0.05
"""Seconds after which a stream's message is passed on again that was refused as OVERLOADED."""


class IpamService(MoveMethods, ReservationMethods):
    def __init__(
        self,
        deciding: Deciding,
        encoder: StatusEncoder,
        metrics: IpamMetrics,
        draining: Draining,
        syncing: Syncing,
        bounds: NodeBounds,
    ) -> None:
        """`bounds`: what a node's own certificate may take."""
        super().__init__(deciding)
        self._encoder = encoder
        self._metrics = metrics
        self._draining = draining
        self._syncing = syncing
        self._bounds = bounds
        self._turns = Turns()
        self._held_rooms = HeldRoomsKept(self._replica, self._turns)
        self._checking = asyncio.Lock()

    # Allocation.

    async def AllocateAddress(
        self, request: pb.AllocateAddressRequest, context: Context
    ) -> pb.AllocateAddressResponse:
        bounds = self._bounds_of(bound(METHODS + "AllocateAddress", context))
        command = messages_in.parse_spec(request.spec, "spec", bounds)
        if request.knows_arriving:
            command = structs.replace(command, knows_arriving=True)

        async def here() -> pb.AllocateAddressResponse:
            result = (await self._allocate((command,), context))[0]
            if isinstance(result, RomanaError):
                raise result
            assert isinstance(result, Allocated)
            return pb.AllocateAddressResponse(
                allocations=[
                    messages_out.allocation(Allocation(command.name, command.owner, address))
                    for address in result.addresses
                ],
                existed=result.existed,
                arriving=result.arriving,
            )

        return await self._forwarding.answer(
            here, lambda other: other.ask(other.stub.AllocateAddress, request), context
        )

    async def AllocateAddresses(
        self, request: pb.AllocateAddressesRequest, context: Context
    ) -> pb.AllocateAddressesResponse:
        _check_specs(request.specs)
        bounds = self._bounds_of(bound(METHODS + "AllocateAddresses", context))
        answer = pb.AllocateAddressesResponse()
        await self._allocate_many(request.specs, answer.results, context, bounds)
        return answer

    async def AllocateStream(
        self, request_iterator: AsyncIterator[pb.AllocateStreamRequest], context: Context
    ) -> AsyncIterator[pb.AllocateStreamResponse]:
        reading = ReadingAhead(request_iterator, partial(self._begin, context), self._draining)
        async for answer in reading.answers():
            yield answer

    async def _begin(self, context: Context, message: pb.AllocateStreamRequest) -> _Begun:
        """Waits while too much is waiting already: the caller's writes wait in turn."""
        _check_specs(message.specs)
        if self._replica.active:
            with contextlib.suppress(Unavailable):  # another replica has become the active one
                await self._replica.room(len(message.specs))
        return asyncio.create_task(self._answer(context, message))

    async def _answer(
        self, context: Context, message: pb.AllocateStreamRequest
    ) -> pb.AllocateStreamResponse:
        answer = pb.AllocateStreamResponse(sequence=message.sequence)
        while True:
            try:
                await self._allocate_many(message.specs, answer.results, context)
            except Unavailable as error:
                if error.reason != OVERLOADED:
                    raise
                await asyncio.sleep(OVERLOADED_PAUSE)
            else:
                return answer

    async def _allocate_many(
        self,
        specs: Sequence[AllocationSpec],
        into: RepeatedCompositeFieldContainer[pb.AllocateResult],
        context: Context,
        bounds: NodeBounds | None = None,
    ) -> None:
        """Appends one result per spec, in order."""

        async def here() -> None:
            commands, refused = messages_in.parse_specs(specs, bounds)
            results = await self._allocate_by_owner(commands, context) if commands else []
            for index in sorted(refused):
                results.insert(index, refused[index])
            status_of = messages_out.fitting_statuses(results, self._encoder.status_of)
            writer = messages_out.ResultWriter(into, status_of)
            for start in range(0, len(results), ANSWER_CHUNK):
                if start:
                    await asyncio.sleep(0)  # others' turn: errors take long to translate
                writer.add(results[start : start + ANSWER_CHUNK])
            left = self._left_over(results)
            if left:
                answer = pb.AllocateAddressesResponse()
                rest = [specs[index] for index in left]
                await self._allocate_many(rest, answer.results, context, bounds)
                for index, result in zip(left, answer.results, strict=True):
                    into[index].CopyFrom(result)

        async def there(other: Elsewhere) -> None:
            request = pb.AllocateAddressesRequest(specs=specs)
            answer = await other.ask(other.stub.AllocateAddresses, request)
            into.extend(answer.results)

        await self._forwarding.answer(here, there, context)

    def _left_over(self, results: Sequence[Result]) -> Sequence[int]:
        """What this replica did not get to before another became the active one."""
        if self._replica.active:
            return ()
        return [index for index, result in enumerate(results) if undecided(result)]

    async def _allocate_by_owner(
        self, commands: Sequence[Allocate], context: Context
    ) -> list[Result]:
        """Has commands of one owner executed in a row: they fill one block after the other, and
        take fewer documents. Results are in the order of the commands."""
        order = by_owner(commands)
        if order is None:
            return await self._allocate(commands, context)
        found = await self._allocate([commands[index] for index in order], context)
        results: list[Result] = [None] * len(commands)
        for index, result in zip(order, found, strict=True):
            results[index] = result
        return results

    def _bounds_of(self, nodes: frozenset[NodeName] | None) -> NodeBounds | None:
        """An agent that asks with its node's certificate has bounds."""
        return None if nodes is None else self._bounds

    async def _allocate(self, commands: Sequence[Allocate], context: Context) -> list[Result]:
        results = await self._replica.submit(commands)
        self._metrics.allocated(results)
        self._trail.add(commands, results, context)
        return without_others(results, context)

    # Release.

    async def ReleaseAddress(
        self, request: pb.ReleaseAddressRequest, context: Context
    ) -> pb.ReleaseAddressResponse:
        tenants = limits("ReleaseAddress", context)
        command = messages_in.parse_release(request.spec, "spec", tenants)

        async def here() -> pb.ReleaseAddressResponse:
            result = await self._submit(command)
            assert isinstance(result, Released)
            self._trail.add((command,), (result,), context)
            self._metrics.released(len(result.addresses))
            return pb.ReleaseAddressResponse(addresses=[item.text for item in result.addresses])

        return await self._forwarding.answer(
            here, lambda other: other.ask(other.stub.ReleaseAddress, request), context
        )

    async def ReleaseAddresses(
        self, request: pb.ReleaseAddressesRequest, context: Context
    ) -> pb.ReleaseAddressesResponse:
        _check_batch(len(request.specs))
        tenants = limits("ReleaseAddresses", context)

        async def here() -> pb.ReleaseAddressesResponse:
            results: list[Result] = []
            commands: dict[int, Command] = {}
            for index, spec in enumerate(request.specs):
                results.append(None)
                try:
                    commands[index] = messages_in.parse_release(spec, f"specs[{index}]", tenants)
                except InvalidInput as error:
                    results[index] = error
            found = await self._replica.submit([*commands.values()]) if commands else ()
            self._trail.add([*commands.values()], found, context)
            for index, result in zip(commands, found, strict=True):
                results[index] = result
            released = (len(it.addresses) for it in found if isinstance(it, Released))
            self._metrics.released(sum(released))
            answer = messages_out.released(results, self._encoder.status_of)
            left = self._left_over(results)
            if left:
                rest = pb.ReleaseAddressesRequest(specs=[request.specs[index] for index in left])
                others = await self.ReleaseAddresses(rest, context)
                for index, other in zip(left, others.results, strict=True):
                    answer.results[index].CopyFrom(other)
            return answer

        return await self._forwarding.answer(
            here, lambda other: other.ask(other.stub.ReleaseAddresses, request), context
        )

    # Looking.

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
        agents = await self._syncing.agents()
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
                    [(node, routes.count(usage.network, node)) for node in sorted(usage.nodes)]
                    if request.include_nodes
                    else (),
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
            raise NotFound(
                f"node {node!r} is not registered",
                reason="NODE_NOT_FOUND",
                metadata={"field": "node", "node": node},
            )
        routes = self._replica.routes
        routes.sync(ledger)
        return pb.GetNodeRoutesResponse(
            own=[messages_out.route(item, ledger) for item in routes.own(node)],
            remote=[messages_out.route(item, ledger) for item in routes.remote(ledger, node)],
        )

    async def SyncRoutes(  # type: ignore[override]  # it uses context.read and context.write
        self, request_iterator: AsyncIterator[sync_pb.SyncRoutesRequest], context: Context
    ) -> None:
        await self._syncing.serve(context)

    async def GetSyncStatus(
        self, request: sync_pb.GetSyncStatusRequest, context: Context
    ) -> sync_pb.GetSyncStatusResponse:
        if request.connected_only:
            return await self._syncing.connected(local=request.local_only)
        return await self._syncing.status(request.nodes, local=request.local_only)

    async def WatchBlocks(
        self, request: pb.WatchBlocksRequest, context: Context
    ) -> AsyncIterator[pb.WatchBlocksResponse]:
        block_filter = BlockFilter(
            node=request.node,
            network=request.network,
            tenants=visible("WatchBlocks", "", context),
        )
        feed = BlockFeed(self._replica, block_filter, self._draining)
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
        async with self._checking, contextlib.aclosing(audit(self._replica, self._turns)) as steps:
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


def _check_batch(count: int) -> None:
    if count > BATCH_ITEMS:
        raise InvalidInput.at("specs", f"has {count}, at most {BATCH_ITEMS} are allowed")


def _check_specs(specs: Sequence[AllocationSpec]) -> None:
    """The answer has room for so many addresses."""
    _check_batch(len(specs))
    addresses = sum(len(spec.addresses) or 1 for spec in specs)
    if addresses > BATCH_ADDRESSES:
        raise InvalidInput.at(
            "specs", f"ask for {addresses} addresses, at most {BATCH_ADDRESSES} are allowed"
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
