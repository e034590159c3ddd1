"""The gRPC methods that allocate and release addresses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec import structs
from romana.ipam.v1 import ipam_service_pb2 as pb
from romana.ipam.v1.allocation_pb2 import AllocationSpec

from services.common.errors import InvalidInput, RomanaError, Unavailable
from services.common.model.names import NodeName
from services.common.rpc.context import Context
from services.common.rpc.draining import Draining
from services.common.rpc.roles import bound
from services.common.rpc.status import StatusEncoder
from services.common.sizes import BATCH_ADDRESSES, BATCH_ITEMS
from services.ipam.api import messages_in, messages_out
from services.ipam.api.deciding_methods import Deciding, DecidingMethods
from services.ipam.api.forwarding import Elsewhere, undecided
from services.ipam.api.reading_ahead import ReadingAhead
from services.ipam.api.tenant_limits import METHODS, limits, without_others
from services.ipam.deciding.batch import by_owner
from services.ipam.deciding.commands import (
    Allocate,
    Allocated,
    Command,
    NodeBounds,
    Released,
    Result,
)
from services.ipam.metrics import IpamMetrics
from services.ipam.model import Allocation
from services.ipam.store.group_commit import OVERLOADED

if TYPE_CHECKING:  # these exist for type checkers only
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

_Begun: TypeAlias = "asyncio.Task[pb.AllocateStreamResponse]"

ANSWER_CHUNK: Final = 1000
"""Results that are written at once."""
OVERLOADED_PAUSE: Final = 0.05
"""Seconds after which a stream's message is passed on again that was refused as OVERLOADED."""


class AllocationMethods(DecidingMethods):
    def __init__(
        self,
        deciding: Deciding,
        encoder: StatusEncoder,
        metrics: IpamMetrics,
        draining: Draining,
        bounds: NodeBounds,
    ) -> None:
        """`bounds`: what a node's own certificate may take."""
        super().__init__(deciding)
        self._encoder = encoder
        self._metrics = metrics
        self._draining = draining
        self._bounds = bounds

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
        self._log.add(commands, results, context)
        return without_others(results, context)

    async def ReleaseAddress(
        self, request: pb.ReleaseAddressRequest, context: Context
    ) -> pb.ReleaseAddressResponse:
        tenants = limits("ReleaseAddress", context)
        command = messages_in.parse_release(request.spec, "spec", tenants)

        async def here() -> pb.ReleaseAddressResponse:
            result = await self._submit(command)
            assert isinstance(result, Released)
            self._log.add((command,), (result,), context)
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
            self._log.add([*commands.values()], found, context)
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
