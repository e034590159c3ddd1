"""What can be asked of the active replica, and how each is decided."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import RomanaError
from services.ipam.deciding import allocation
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.state import State
from services.ipam.model import WANTS_MOST, Allocated, Release, Released, Request


@dataclass(frozen=True, slots=True)
class SetReservation:
    """Sets addresses aside; refused if the name stands for others."""

    reservation: Reservation


@dataclass(frozen=True, slots=True)
class DropReservation:
    """Ends a reservation."""

    name: str


@dataclass(frozen=True, slots=True)
class Tidy:
    """Closes blocks in which the last rest has ended."""

    most: int = 32
    """Keys to write, see `allocation.tidy`."""


Item = Request | Release | SetReservation | DropReservation | Tidy
Result = Allocated | Released | RomanaError | None


def perform(state: State, item: Item, now: int, stamp: int) -> Result:
    """Decides an item, but for reservations; for the times see `allocation.allocate`."""
    try:
        if type(item) is Request:
            return allocation.allocate(state, item, now, stamp)
        if type(item) is Release:
            return allocation.release(state, item, now)
        assert type(item) is Tidy
        allocation.tidy(state, now, item.most)
    except RomanaError as error:
        return error
    return None


def operations_most(item: Item) -> int:
    """How many keys an item writes at most."""
    if type(item) is Request:
        return 2 * len(item.wants) + 1
    if type(item) is Release:
        return 2 * WANTS_MOST
    assert type(item) is Tidy
    return item.most + allocation.WAKE_PAGES
