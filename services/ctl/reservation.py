"""`romana reservation`: addresses that are never handed out."""

from __future__ import annotations

from typing import Annotated

import typer
from romana.ipam.v1 import block_pb2
from romana.ipam.v1 import ipam_service_pb2 as api

from services.ctl import completion, options, words
from services.ctl.output import Format, plain
from services.ctl.session import Session
from services.ctl.table import Column
from services.ctl.verb import group, verb

app = group("Reservations: addresses that are never handed out.")

COLUMNS: tuple[Column[block_pb2.Reservation], ...] = (
    Column("NAME", lambda item: item.name),
    Column("NETWORK", lambda item: item.network),
    Column("RANGES", lambda item: ", ".join(item.ranges)),
    Column("SIZE", lambda item: words.large(item.size), right=True),
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
    """,
)
async def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.")],
    ranges: Annotated[
        list[str],
        typer.Argument(metavar="RANGE...", help="Prefixes, addresses, or FIRST-LAST."),
    ],
    network: options.NetworkOption,
    description: Annotated[str, typer.Option(metavar="TEXT", help="For people.")] = "",
) -> None:
    """Sets addresses aside. Those in use stay with who has them."""
    ipam = session.ipam
    answer = await ipam.once(
        ipam.stub.CreateReservation,
        api.CreateReservationRequest(
            reservation=block_pb2.Reservation(
                name=name, network=network, ranges=ranges, description=description
            ),
            request_id=session.request_id,
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
            session.note(f"{words.count(made.in_use, 'address')} of it in use all the same")


@verb(app, "delete", mutates=True, examples="romana reservation delete printers")
async def delete(
    session: Session,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="Reservations.", autocompletion=completion.reservations
        ),
    ],
) -> None:
    """Ends reservations. One that is not there is no error."""
    ipam = session.ipam
    for name in names:
        await ipam.once(
            ipam.stub.DeleteReservation,
            api.DeleteReservationRequest(name=name, request_id=session.request_id),
        )
        if session.out.form is Format.NAME:
            session.out.line(name)
        elif not session.out.for_programs:
            session.note(f"{name} is no longer reserved")
    if session.out.for_programs:
        session.out.value([{"name": name} for name in names])


@verb(app, "list", examples="romana reservation list --network prod")
async def list_reservations(session: Session, network: options.NetworkFilter = "") -> None:
    """Lists reservations, by name."""
    ipam = session.ipam
    listed = await ipam.every(
        ipam.stub.ListReservations,
        api.ListReservationsRequest(network=network),
        lambda page: page.reservations,
    )
    session.out.listing(
        listed.items,
        COLUMNS,
        document=plain,
        name=lambda item: item.name,
        empty="nothing is reserved",
    )
