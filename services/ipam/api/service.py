"""The gRPC methods: read the request, let the replica decide or look, write the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from grpc.aio import UnaryUnaryMultiCallable
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1 import ipam_service_pb2_grpc
from romana.ipam.v1 import sync_routes_pb2 as sync_pb
from romana.ipam.v1.allocation_pb2 import AllocationSpec

from services.common.errors import InvalidInput, NotFound, RomanaError
from services.common.model.names import EndpointName, NetworkName, NodeName
from services.common.paging.token import make_token, read_token
from services.common.process.version import version
from services.common.rpc.draining import Draining
from services.common.rpc.identity import on_behalf_of
from services.common.rpc.roles import bound
from services.common.rpc.status import StatusEncoder, error_of
from services.common.sizes import BATCH_ADDRESSES, BATCH_ITEMS
from services.common.store.unreadable import named
from services.ipam.api import messages
from services.ipam.api.agent_streams import Syncing
from services.ipam.api.block_feed import BlockFeed
from services.ipam.api.forwarding import FORWARDED, METADATA, Forwarding, Passed, cut_off
from services.ipam.deciding.batch import together
from services.ipam.deciding.commands import (
    AgentsRequest,
    DropReservation,
    Item,
    Result,
    SetReservation,
)
from services.ipam.deciding.evaluate import evaluate
from services.ipam.deciding.own_node import NodeBounds
from services.ipam.ledger.index import allocation
from services.ipam.ledger.listing import BlockFilter, list_addresses, list_blocks
from services.ipam.ledger.state import State
from services.ipam.ledger.utilization import detail, utilization
from services.ipam.metrics import IpamMetrics
from services.ipam.model import Allocated, Released, Request, parse_address
from services.ipam.store.consistency_run import audit
from services.ipam.store.replica import Replica

if TYPE_CHECKING:  # these exist for type checkers only
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
    from romana.ipam.v1.ipam_service_pb2_grpc import IpamServiceAsyncStub

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Begun: TypeAlias = "asyncio.Task[pb.AllocateStreamResponse]"

_Asked = TypeVar("_Asked", bound=Message)
_Answer = TypeVar("_Answer", bound=Message)

_METHODS: Final = "romana.ipam.v1.IpamService/"

ANSWER_CHUNK: Final = 1000
"""Results that are written at once."""
STREAM_AHEAD: Final = 8
"""Messages of a stream that are read before the first of them is answered."""


class IpamService(ipam_service_pb2_grpc.IpamServiceServicer):
    """One replica's methods."""

    def __init__(
        self,
        replica: Replica,
        forwarding: Forwarding,
        encoder: StatusEncoder,
        metrics: IpamMetrics,
        draining: Draining,
        syncing: Syncing,
        bounds: NodeBounds,
    ) -> None:
        """`bounds`: what a node's own certificate may take."""
        self._replica = replica
        self._forwarding = forwarding
        self._encoder = encoder
        self._metrics = metrics
        self._draining = draining
        self._syncing = syncing
        self._bounds = bounds

    # Allocation.

    async def AllocateAddress(
        self, request: pb.AllocateAddressRequest, context: Context
    ) -> pb.AllocateAddressResponse:
        wanted = messages.parse_spec(request.spec, "spec")
        if not self._replica.active:
            return await self._forward(lambda stub: stub.AllocateAddress, request, context)
        items = self._on_behalf(bound(_METHODS + "AllocateAddress", context), (wanted,))
        result = (await self._submit(items))[0]
        if isinstance(result, RomanaError):
            raise result
        assert isinstance(result, Allocated)
        return pb.AllocateAddressResponse(
            allocations=[messages.full(item, wanted) for item in result.given],
            existed=result.existed,
        )

    async def AllocateAddresses(
        self, request: pb.AllocateAddressesRequest, context: Context
    ) -> pb.AllocateAddressesResponse:
        _check_specs(request.specs)
        if not self._replica.active:
            return await self._forward(lambda stub: stub.AllocateAddresses, request, context)
        answer = pb.AllocateAddressesResponse()
        nodes = bound(_METHODS + "AllocateAddresses", context)
        await self._allocate_many(request.specs, answer.results, nodes)
        return answer

    async def AllocateStream(
        self, request_iterator: AsyncIterator[pb.AllocateStreamRequest], context: Context
    ) -> AsyncIterator[pb.AllocateStreamResponse]:
        if not self._replica.active:
            stub = await self._active_stub(context)
            metadata = (*METADATA, *on_behalf_of(context))
            passed = Passed(request_iterator)
            try:
                async for answer in stub.AllocateStream(passed, metadata=metadata):
                    yield answer
            except grpc.aio.AioRpcError as error:
                raise passed.error or error_of(error) from error
            except asyncio.CancelledError:
                raise passed.error or cut_off() from None
            if passed.error is not None:
                raise passed.error
            return
        async for work in _ahead(request_iterator, self._begin):
            yield await work

    async def _begin(self, message: pb.AllocateStreamRequest) -> _Begun:
        """Waits while too much is waiting already: the caller's writes wait in turn."""
        _check_specs(message.specs)
        await self._replica.room(len(message.specs))
        return asyncio.create_task(self._answer(message))

    async def _answer(self, message: pb.AllocateStreamRequest) -> pb.AllocateStreamResponse:
        answer = pb.AllocateStreamResponse(sequence=message.sequence)
        await self._allocate_many(message.specs, answer.results)
        return answer

    async def _allocate_many(
        self,
        specs: Sequence[AllocationSpec],
        into: RepeatedCompositeFieldContainer[pb.AllocateResult],
        bound_to: frozenset[NodeName] | None = None,
    ) -> None:
        """Appends one result per spec, in order."""
        wanted, refused = messages.parse_specs(specs)
        if bound_to is not None:
            results = await self._submit(self._on_behalf(bound_to, wanted))
        else:
            results = await self._submit_together(wanted) if wanted else []
        for index in sorted(refused):
            results.insert(index, refused[index])
        status_of = messages.fitting_statuses(results, self._encoder.status_of)
        writer = messages.ResultWriter(into, status_of)
        for start in range(0, len(results), ANSWER_CHUNK):
            if start:
                await asyncio.sleep(0)  # others' turn: errors take long to translate
            writer.add(results[start : start + ANSWER_CHUNK])

    async def _submit_together(self, wanted: Sequence[Request]) -> list[Result]:
        """Has what one owner wants decided in a row: it fills one block after the other, and takes
        fewer documents. Results are in the order of the requests."""
        order = together(wanted)
        if order is None:
            return await self._submit(wanted)
        found = await self._submit([wanted[index] for index in order])
        results: list[Result] = [None] * len(wanted)
        for index, result in zip(order, found, strict=True):
            results[index] = result
        return results

    def _on_behalf(
        self, bound_to: frozenset[NodeName] | None, wanted: Sequence[Request]
    ) -> Sequence[Item]:
        """What an agent asks for is bounded."""
        if bound_to is None:
            return wanted
        return [AgentsRequest(request, self._bounds) for request in wanted]

    async def _submit(self, wanted: Sequence[Item]) -> list[Result]:
        results = await self._replica.submit(wanted)
        self._metrics.allocated(results)
        return results

    # Release.

    async def ReleaseAddress(
        self, request: pb.ReleaseAddressRequest, context: Context
    ) -> pb.ReleaseAddressResponse:
        item = messages.parse_release(request.spec, "spec")
        if not self._replica.active:
            return await self._forward(lambda stub: stub.ReleaseAddress, request, context)
        result = await self._one(item)
        assert isinstance(result, Released)
        self._metrics.released(len(result.given))
        return pb.ReleaseAddressResponse(addresses=[item.text for item in result.given])

    async def ReleaseAddresses(
        self, request: pb.ReleaseAddressesRequest, context: Context
    ) -> pb.ReleaseAddressesResponse:
        _check_batch(len(request.specs))
        if not self._replica.active:
            return await self._forward(lambda stub: stub.ReleaseAddresses, request, context)
        results: list[Result] = []
        items = []
        for index, spec in enumerate(request.specs):
            try:
                items.append(messages.parse_release(spec, f"specs[{index}]"))
                results.append(None)
            except InvalidInput as error:
                results.append(error)
        found = await self._replica.submit(items) if items else []
        self._metrics.released(sum(len(it.given) for it in found if isinstance(it, Released)))
        rest = iter(found)
        return messages.released(
            [result or next(rest) for result in results], self._encoder.status_of
        )

    # Reservations.

    async def CreateReservation(
        self, request: pb.CreateReservationRequest, context: Context
    ) -> pb.CreateReservationResponse:
        wanted = messages.parse_reservation(request.reservation)
        nodes = bound(_METHODS + "CreateReservation", context)
        if nodes is not None:
            wanted = replace(wanted, node=min(nodes))
        if not self._replica.active:
            return await self._forward(lambda stub: stub.CreateReservation, request, context)
        await self._one(SetReservation(wanted))
        state = await self._replica.settled()
        return pb.CreateReservationResponse(reservation=messages.reservation(wanted, state))

    async def DeleteReservation(
        self, request: pb.DeleteReservationRequest, context: Context
    ) -> pb.DeleteReservationResponse:
        if not self._replica.active:
            return await self._forward(lambda stub: stub.DeleteReservation, request, context)
        await self._one(DropReservation(request.name))
        return pb.DeleteReservationResponse()

    async def ListReservations(
        self, request: pb.ListReservationsRequest, context: Context
    ) -> pb.ListReservationsResponse:
        after = read_token(request.page_token, (str,))
        most = _page_size(request.page_size, 100, 1000)
        state = await self._replica.settled()
        names = sorted(
            name
            for name, item in state.reservations.items()
            if request.network in {"", item.network} and (after is None or name > str(after[0]))
        )
        page = names[:most]
        return pb.ListReservationsResponse(
            reservations=[messages.reservation(state.reservations[name], state) for name in page],
            next_page_token=make_token(page[-1]) if len(names) > most else "",
        )

    # Looking.

    async def GetAddress(
        self, request: pb.GetAddressRequest, context: Context
    ) -> pb.GetAddressResponse:
        state = await self._replica.settled()
        places = _find(state, request)
        own = bound(_METHODS + "GetAddress", context)
        if not places or (own is not None and places[0][0].node not in own):
            what = request.name or request.address
            raise NotFound(
                f"nothing is allocated to {what!r}" if request.name else f"{what} is not in use",
                reason="ALLOCATION_NOT_FOUND",
                metadata={"field": request.WhichOneof("key") or "name", "key": what[:253]},
            )
        return pb.GetAddressResponse(
            allocations=[messages.allocation(allocation(*place)) for place in places]
        )

    async def ListAddresses(
        self, request: pb.ListAddressesRequest, context: Context
    ) -> pb.ListAddressesResponse:
        wanted = BlockFilter(
            request.node, request.tenant, request.segment, request.network, request.block
        )
        state = await self._replica.settled()
        most = _page_size(request.page_size, 1000, 5000)
        places, more = list_addresses(state, wanted, _place(request.page_token), most)
        return pb.ListAddressesResponse(
            allocations=[messages.allocation(allocation(*place)) for place in places],
            next_page_token=make_token(*more) if more else "",
        )

    async def ListBlocks(
        self, request: pb.ListBlocksRequest, context: Context
    ) -> pb.ListBlocksResponse:
        wanted = BlockFilter(request.node, request.tenant, request.segment, request.network)
        state = await self._replica.settled()
        most = _page_size(request.page_size, 1000, 5000)
        blocks, more = list_blocks(state, wanted, _place(request.page_token), most)
        return pb.ListBlocksResponse(
            blocks=[messages.block(item, state) for item in blocks],
            next_page_token=make_token(*more) if more else "",
        )

    async def EvaluateNodes(
        self, request: pb.EvaluateNodesRequest, context: Context
    ) -> pb.EvaluateNodesResponse:
        tenant, segment = messages.parse_owner(request.tenant, request.segment)
        want = messages.parse_want(request)
        nodes = [NodeName(node) for node in request.nodes] or None
        state = await self._replica.settled()
        found = evaluate(state, tenant, segment, want, nodes, self._replica.now())
        return pb.EvaluateNodesResponse(
            evaluations=[messages.evaluation(item) for item in found[: request.limit or None]]
        )

    async def GetUtilization(
        self, request: pb.GetUtilizationRequest, context: Context
    ) -> pb.GetUtilizationResponse:
        state = await self._replica.settled()
        if request.network and request.network not in state.spaces:
            raise NotFound(
                f"there is no network {request.network!r}",
                reason="NETWORK_NOT_FOUND",
                metadata={"field": "network", "network": request.network},
            )
        usages = utilization(state, NetworkName(request.network) if request.network else None)
        if request.include_nodes or request.include_owners:
            detail(state, usages)
        routes = self._replica.routes
        if request.include_nodes:
            routes.sync(state)
        return pb.GetUtilizationResponse(
            networks=[
                messages.network_usage(
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
        state = await self._replica.settled()
        node = NodeName(request.node)
        if node not in state.nodes:
            raise NotFound(
                f"node {node!r} is not registered",
                reason="NODE_NOT_FOUND",
                metadata={"field": "node", "node": node},
            )
        routes = self._replica.routes
        routes.sync(state)
        return pb.GetNodeRoutesResponse(
            own=[messages.route(item, state) for item in routes.own(node)],
            remote=[messages.route(item, state) for item in routes.remote(state, node)],
        )

    async def SyncRoutes(  # type: ignore[override]  # it uses context.read and context.write
        self, request_iterator: AsyncIterator[sync_pb.SyncRoutesRequest], context: Context
    ) -> None:
        await self._syncing.serve(context)

    async def GetSyncStatus(
        self, request: sync_pb.GetSyncStatusRequest, context: Context
    ) -> sync_pb.GetSyncStatusResponse:
        return await self._syncing.status(request.nodes, local=request.local_only)

    async def WatchBlocks(
        self, request: pb.WatchBlocksRequest, context: Context
    ) -> AsyncIterator[pb.WatchBlocksResponse]:
        wanted = BlockFilter(node=request.node, network=request.network)
        feed = BlockFeed(self._replica, wanted, self._draining)
        async for changes in feed.follow():
            state = self._replica.state
            yield pb.WatchBlocksResponse(
                updated=[messages.block(item, state) for item in changes.updated],
                removed=changes.removed,
                in_sync=changes.in_sync,
                revision=changes.revision,
            )

    async def CheckConsistency(
        self, request: pb.CheckConsistencyRequest, context: Context
    ) -> AsyncIterator[pb.CheckConsistencyResponse]:
        async for progress in audit(self._replica):
            yield pb.CheckConsistencyResponse(
                blocks=progress.blocks,
                addresses=progress.addresses,
                total_blocks=progress.total,
                findings=[messages.finding(item) for item in progress.findings],
                done=progress.done,
                revision=progress.revision,
            )

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
            addresses=replica.state.index.used,
            blocks=len(replica.state.index.blocks),
            version=version(),
            unreadable=named(replica.unreadable),
            releases=messages.node_releases(replica.state),
        )

    # How writes get to the active replica.

    async def _one(self, item: Item) -> Result:
        result = (await self._replica.submit((item,)))[0]
        if isinstance(result, RomanaError):
            raise result
        return result

    async def _active_stub(self, context: Context) -> IpamServiceAsyncStub:
        forwarded = any(key == FORWARDED for key, _ in context.invocation_metadata() or ())
        return await self._forwarding.to(self._replica.active_address, forwarded=forwarded)

    async def _forward(
        self,
        method: Callable[[IpamServiceAsyncStub], UnaryUnaryMultiCallable[_Asked, _Answer]],
        request: _Asked,
        context: Context,
    ) -> _Answer:
        """Passes a unary call on, with what is left of its deadline, and its answer back."""
        call = method(await self._active_stub(context))
        metadata = (*METADATA, *on_behalf_of(context))
        try:
            return await call(request, timeout=context.time_remaining(), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from error
        except asyncio.CancelledError:
            raise cut_off() from None


async def _ahead(
    messages: AsyncIterator[pb.AllocateStreamRequest],
    begin: Callable[[pb.AllocateStreamRequest], Awaitable[_Begun]],
) -> AsyncIterator[_Begun]:
    """Begins the work on messages while that on those before goes on; yields it in their order."""
    queue: asyncio.Queue[_Begun | Exception | None] = asyncio.Queue(STREAM_AHEAD)

    async def read() -> None:
        try:
            async for message in messages:
                await queue.put(await begin(message))
        except Exception as error:  # noqa: BLE001 - raised where the queue is read
            await queue.put(error)
        else:
            await queue.put(None)

    reader = asyncio.create_task(read())
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        while not queue.empty():
            left = queue.get_nowait()
            if isinstance(left, asyncio.Task):
                left.cancel()


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


def _page_size(asked: int, default: int, most: int) -> int:
    """How many items to return; 0 asks for the default."""
    return min(asked or default, most)


def _place(token: str) -> tuple[NetworkName, int] | None:
    place = read_token(token, (str, int))
    return (NetworkName(str(place[0])), int(place[1])) if place is not None else None


def _find(state: State, request: pb.GetAddressRequest) -> Sequence[tuple[Any, int]]:
    kind = request.WhichOneof("key")
    if kind == "name":
        return state.index.places(EndpointName(request.name))
    if kind is None:
        raise InvalidInput.at("key", "is missing: give a name or an address")
    try:
        address, bits = parse_address(request.address)
    except ValueError as error:
        raise InvalidInput.at("address", str(error)) from None
    block = state.index.block_of(address, bits)
    if block is None or block.names[address - block.base] is None:
        return ()
    return ((block, address - block.base),)
