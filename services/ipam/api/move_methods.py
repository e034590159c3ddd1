"""The gRPC methods that take an endpoint's addresses to another node."""

from __future__ import annotations

from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.rpc import calling
from services.common.rpc.context import Context
from services.ipam.api import messages_in, messages_out
from services.ipam.api.deciding_methods import Deciding, DecidingMethods
from services.ipam.api.moved_connections import MovedConnections
from services.ipam.deciding.commands import (
    AbortMove,
    ActivateMove,
    MoveCommand,
    Moved,
    Moving,
    ReportReady,
)
from services.ipam.deciding.visit import where


class MoveMethods(DecidingMethods):
    def __init__(self, deciding: Deciding) -> None:
        super().__init__(deciding)
        self._connections = MovedConnections()

    async def MoveAddress(
        self, request: pb.MoveAddressRequest, context: Context
    ) -> pb.MoveAddressResponse:
        command = messages_in.parse_move(request)

        async def here() -> pb.MoveAddressResponse:
            result = await self._submit(command, calling.who("ipam"))
            assert isinstance(result, Moved)
            self._log.add((command,), (result,), context)
            return pb.MoveAddressResponse(
                allocations=map(messages_out.allocation, result.allocations),
                from_node=result.from_node,
            )

        return await self._forwarding.answer(
            here, lambda other: other.ask(other.stub.MoveAddress, request), context
        )

    async def PrepareMove(
        self, request: pb.PrepareMoveRequest, context: Context
    ) -> pb.PrepareMoveResponse:
        command = messages_in.parse_prepare_move(request)

        async def here() -> pb.PrepareMoveResponse:
            found = await self._move(command, context)
            assert found.cost is not None
            return pb.PrepareMoveResponse(
                move=messages_out.move(found), plan=messages_out.move_plan(found.cost)
            )

        return await self._forwarding.answer(
            here, lambda other: other.ask(other.stub.PrepareMove, request), context
        )

    async def ReportReady(
        self, request: pb.ReportReadyRequest, context: Context
    ) -> pb.ReportReadyResponse:
        command = ReportReady(*messages_in.parse_move_to(request.name, "node", request.node))

        async def here() -> pb.ReportReadyResponse:
            found = await self._move(command, context)
            return pb.ReportReadyResponse(move=messages_out.move(found))

        return await self._forwarding.answer(
            here, lambda other: other.ask(other.stub.ReportReady, request), context
        )

    async def ActivateMove(
        self, request: pb.ActivateMoveRequest, context: Context
    ) -> pb.ActivateMoveResponse:
        name, to = messages_in.parse_move_to(request.name, "to_node", request.to_node)

        async def here() -> pb.ActivateMoveResponse:
            found = await self._move(ActivateMove(name, to, request.force), context)
            return pb.ActivateMoveResponse(move=messages_out.move(found))

        return await self._forwarding.answer(
            here, lambda other: other.ask(other.stub.ActivateMove, request), context
        )

    async def AbortMove(
        self, request: pb.AbortMoveRequest, context: Context
    ) -> pb.AbortMoveResponse:
        command = AbortMove(messages_in.parse_moving_name(request.name))

        async def here() -> pb.AbortMoveResponse:
            found = await self._move(command, context)
            return pb.AbortMoveResponse(move=messages_out.move(found))

        return await self._forwarding.answer(
            here, lambda other: other.ask(other.stub.AbortMove, request), context
        )

    async def HandOverConnections(
        self, request: pb.HandOverConnectionsRequest, context: Context
    ) -> pb.HandOverConnectionsResponse:
        name, node = messages_in.parse_move_to(request.name, "node", request.node)
        messages_in.check_connections(request.connections)

        async def here() -> pb.HandOverConnectionsResponse:
            self._connections.give(name, node, request.connections)
            return pb.HandOverConnectionsResponse()

        return await self._forwarding.answer(
            here, lambda other: other.ask(other.stub.HandOverConnections, request), context
        )

    async def TakeOverConnections(
        self, request: pb.TakeOverConnectionsRequest, context: Context
    ) -> pb.TakeOverConnectionsResponse:
        name, node = messages_in.parse_move_to(request.name, "node", request.node)

        async def here() -> pb.TakeOverConnectionsResponse:
            found = await self._connections.take(name, node)
            return pb.TakeOverConnectionsResponse(connections=found)

        return await self._forwarding.answer(
            here, lambda other: other.ask(other.stub.TakeOverConnections, request), context
        )

    async def GetMove(self, request: pb.GetMoveRequest, context: Context) -> pb.GetMoveResponse:
        name = messages_in.parse_moving_name(request.name)
        ledger = await self._replica.committed()
        found = where(ledger, name)
        return pb.GetMoveResponse(move=messages_out.move(found))

    async def _move(self, command: MoveCommand, context: Context) -> Moving:
        result = await self._submit(command)
        assert isinstance(result, Moving)
        self._log.add((command,), (result,), context)
        if type(command) is ActivateMove and result.from_node is not None:
            self._connections.moved(command.name, result.from_node, command.to)
        return result
