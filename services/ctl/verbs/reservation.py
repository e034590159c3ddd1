"""`romana reservation`: addresses that are never handed out."""

from __future__ import annotations

from typing import Annotated

import typer
from romana.ipam.v1 import block_pb2
from romana.ipam.v1 import ipam_service_pb2 as api

from services.common.rpc.message_json import plain
from services.common.terminal.plural import count
from services.common.terminal.table import Column
from services.ctl.calls import completion, options
from services.ctl.calls.session import Session
from services.ctl.calls.verb import group, verb
from services.ctl.failures.failure import Failure
from services.ctl.views import enum_text
from services.ctl.views.output import Format, nothing

app = group("Reservations: addresses that are never handed out.")

COLUMNS: tuple[Column[block_pb2.Reservation], ...] = (
    Column("NAME", lambda item: item.name),
    Column("NETWORK", lambda item: item.network),
    Column("RANGES", lambda item: ", ".join(item.ranges)),
    Column("SIZE", lambda item: enum_text.large(item.size), right=True),
    Column("IN USE", lambda item: str(item.in_use), right=True),
    Column("DESCRIPTION", lambda item: item.description, wide=True),
)


@verb(
    app,
    "create",
    mutates=True,
    examples="""
        romana reservation create printers --network prod 10.1.0.4-10.1.0.9
        romana reservation create infra --network prod 10.1.0.0/29 10.1.9.1 --description routers
        romana reservation create leaving --network prod 10.1.4.0/24 --allow-in-use
    """,
)
async def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the reservation.")],
    ranges: Annotated[
        list[str],
        typer.Argument(metavar="RANGE...", help="Prefixes, addresses, or FIRST-LAST."),
    ],
    network: options.NetworkOption,
    description: Annotated[str, typer.Option(metavar="TEXT", help="For people.")] = "",
    allow_in_use: Annotated[
        bool,
        typer.Option(
            "--allow-in-use", help="Reserve addresses in use, too: whoever has them keeps them."
        ),
    ] = False,
) -> None:
    """Reserves addresses. None of them may be in use, unless --allow-in-use is given."""
    ipam = session.ipam
    answer = await ipam.once(
        ipam.stub.CreateReservation,
        api.CreateReservationRequest(
            reservation=block_pb2.Reservation(
                name=name, network=network, ranges=ranges, description=description
            ),
            request_id=session.request_id,
            allow_in_use=allow_in_use,
        ),
    )
    made = answer.reservation
    if session.out.for_programs:
        session.out.value(plain(made))
    elif session.out.form is Format.NAME:
        session.out.line(made.name)
    else:
        session.screen.table([made], COLUMNS, wide=session.out.wide)
        if made.in_use:
            session.note(f"{count(made.in_use, 'address')} of it in use all the same")


@verb(
    app,
    "delete",
    mutates=True,
    examples="""
        romana reservation delete printers
        romana reservation delete printers infra --ignore-not-found
    """,
)
async def delete(
    session: Session,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="Reservations.", autocompletion=completion.reservations
        ),
    ],
    ignore_not_found: options.IgnoreNotFoundOption = False,
) -> None:
    """Deletes reservations. If one of them does not exist, none is deleted."""
    ipam = session.ipam
    known = {each.name for each in await _reservations(session)}
    missing = [name for name in names if name not in known]
    if missing and not ignore_not_found:
        raise Failure(
            f"there is no reservation {', '.join(map(repr, missing))}: none was deleted",
            status="NOT_FOUND",
            reason="RESERVATION_NOT_FOUND",
            hint="`romana reservation list` shows all",
        )
    for name in names:
        if name in missing:
            if not session.out.for_programs:
                session.note(f"There is no reservation {name}")
            continue
        await ipam.once(
            ipam.stub.DeleteReservation,
            api.DeleteReservationRequest(name=name, request_id=session.request_id),
        )
        if session.out.form is Format.NAME:
            session.out.line(name)
        elif not session.out.for_programs:
            session.note(f"{name} is deleted")
    if session.out.for_programs:
        session.out.value([{"name": name, "existed": name in known} for name in names])


@verb(app, "list", examples="romana reservation list --network prod")
async def list_reservations(session: Session, network: options.NetworkFilter = "") -> None:
    """Lists reservations, by name."""
    session.out.listing(
        await _reservations(session, network),
        COLUMNS,
        document=plain,
        name=lambda item: item.name,
        empty=nothing("nothing is reserved", network),
    )


async def _reservations(session: Session, network: str = "") -> tuple[block_pb2.Reservation, ...]:
    ipam = session.ipam
    listed = await ipam.every(
        ipam.stub.ListReservations,
        api.ListReservationsRequest(network=network),
        lambda page: page.reservations,
    )
    return listed.items
