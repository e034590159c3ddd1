"""The gRPC methods of reservations."""

from __future__ import annotations

from dataclasses import replace

from romana.ipam.v1 import ipam_service_pb2 as pb

from services.common.paging.token import make_token, page_size, read_token
from services.common.rpc import calling
from services.common.rpc.context import Context
from services.common.rpc.roles import bound
from services.ipam.api import messages_in, messages_out
from services.ipam.api.deciding_methods import DecidingMethods
from services.ipam.api.tenant_limits import METHODS, is_visible, limits
from services.ipam.deciding.commands import CreateReservation, DeleteReservation


class ReservationMethods(DecidingMethods):
    async def CreateReservation(
        self, request: pb.CreateReservationRequest, context: Context
    ) -> pb.CreateReservationResponse:
        reservation = messages_in.parse_reservation(request.reservation)
        nodes = bound(METHODS + "CreateReservation", context)
        if nodes is not None:
            reservation = replace(reservation, node=min(nodes))
        tenants = limits("CreateReservation", context)

        async def here() -> pb.CreateReservationResponse:
            # what a node's agent sets aside is no operator's change
            asked = calling.who("ipam") if nodes is None else None
            command = CreateReservation(reservation, request.allow_in_use, tenants)
            await self._submit(command, asked)
            ledger = await self._replica.committed()
            return pb.CreateReservationResponse(
                reservation=messages_out.reservation(reservation, ledger)
            )

        return await self._forwarding.answer(
            here, lambda other: other.ask(other.stub.CreateReservation, request), context
        )

    async def DeleteReservation(
        self, request: pb.DeleteReservationRequest, context: Context
    ) -> pb.DeleteReservationResponse:
        tenants = limits("DeleteReservation", context)
        expected = (
            messages_in.parse_reservation(request.expected, "expected")
            if request.HasField("expected")
            else None
        )
        command = DeleteReservation(request.name, expected, tenants)

        async def here() -> pb.DeleteReservationResponse:
            await self._submit(command, calling.who("ipam"))
            return pb.DeleteReservationResponse()

        return await self._forwarding.answer(
            here, lambda other: other.ask(other.stub.DeleteReservation, request), context
        )

    async def ListReservations(
        self, request: pb.ListReservationsRequest, context: Context
    ) -> pb.ListReservationsResponse:
        after = read_token(request.page_token, (str,))
        most = page_size(request.page_size, 100, 1000)
        ledger = await self._replica.committed()
        tenants = limits("ListReservations", context)
        names = sorted(
            name
            for name, item in ledger.reservations.items()
            if request.network in {"", item.network}
            and (after is None or name > str(after[0]))
            and is_visible(ledger, item.network, tenants)
        )
        page = names[:most]
        return pb.ListReservationsResponse(
            reservations=[
                messages_out.reservation(ledger.reservations[name], ledger) for name in page
            ],
            next_page_token=make_token(page[-1]) if len(names) > most else "",
        )
