"""Which of ipam's decisions are changes that are recorded: an operator's, not an allocation's.

Each has a transaction of its own, since each of these commands has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from services.common.audit.record import Changed, ObjectKind
from services.ipam.deciding.commands import (
    Command,
    CreateReservation,
    DeleteReservation,
    Move,
    Moved,
    Result,
)
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ledger import Ledger


def before(ledger: Ledger, commands: Sequence[Command]) -> Reservation | None:
    """The reservation that a command is about, before it is executed."""
    match commands:
        case [CreateReservation() as command]:
            return ledger.reservations.get(command.reservation.name)
        case [DeleteReservation() as command]:
            return ledger.reservations.get(command.name)
        case _:
            return None


def changed(
    commands: Sequence[Command], results: Sequence[Result], was: Reservation | None
) -> Sequence[Changed]:
    """What an executed command changed; nothing if it is none of these."""
    match commands, results:
        case [CreateReservation() as command], [None]:
            reservation = command.reservation
            return [Changed(ObjectKind.RESERVATION, reservation.name, was, reservation)]
        case [DeleteReservation() as command], [None]:
            return [Changed(ObjectKind.RESERVATION, command.name, was, None)]
        case [Move() as command], [Moved() as moved]:
            places = (moved.from_node, command.node)
            texts = [json.dumps({"node": node}, separators=(",", ":")) for node in places]
            return [Changed(ObjectKind.ADDRESS, command.name, *texts)]
        case _:
            return ()
