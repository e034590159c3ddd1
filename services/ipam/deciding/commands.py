"""What can be asked of the active replica, and how each is decided."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import RomanaError
from services.common.model.names import NodeName
from services.ipam.deciding import allocation, own_node
from services.ipam.deciding.own_node import NodeBounds
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.knowledge import NodeRelease
from services.ipam.ledger.state import State
from services.ipam.model import WANTS_MOST, Allocated, NodeReleased, Release, Released, Request


@dataclass(frozen=True, slots=True)
class AgentsRequest:
    """What an agent asks for with its own certificate."""

    request: Request
    bounds: NodeBounds


@dataclass(frozen=True, slots=True)
class SetReservation:
    """Sets addresses aside; refused if the name stands for others."""

    reservation: Reservation
    allow_in_use: bool = False
    """What is in use stays so until it is released."""


@dataclass(frozen=True, slots=True)
class DropReservation:
    """Ends a reservation."""

    name: str


@dataclass(frozen=True, slots=True)
class Tidy:
    """Closes blocks in which the last rest has ended."""

    most: int = 32
    """Keys to write, see `allocation.tidy`."""


@dataclass(frozen=True, slots=True)
class PlanNodeRelease:
    """Writes down that what is in use on a node that is gone will be released."""

    node: NodeName
    plan: NodeRelease


@dataclass(frozen=True, slots=True)
class ReleaseNode:
    """Releases what is in use on a node that is gone: as much as fits into a transaction."""

    node: NodeName


@dataclass(frozen=True, slots=True)
class DropNodeRelease:
    """Ends a release: the node is there, or nothing is in use on it."""

    node: NodeName


NodeCommand = PlanNodeRelease | ReleaseNode | DropNodeRelease
Item = Request | AgentsRequest | Release | SetReservation | DropReservation | Tidy | NodeCommand
Result = Allocated | Released | NodeReleased | RomanaError | None


def perform(state: State, item: Item, now: int, stamp: int) -> Result:
    """Decides an item that can share a transaction; for the times see `allocation.allocate`."""
    try:
        if type(item) is Request:
            return allocation.allocate(state, item, now, stamp)
        if type(item) is AgentsRequest:
            return own_node.allocate(state, item.request, item.bounds, now, stamp)
        if type(item) is Release:
            return allocation.release(state, item, now)
        assert type(item) is Tidy
        allocation.tidy(state, now, item.most)
    except RomanaError as error:
        return error
    return None


def operations_most(item: Item) -> int:
    """How many keys an item writes at most."""
    if type(item) is AgentsRequest:
        item = item.request
    if type(item) is Request:
        return 2 * len(item.wants) + 1
    if type(item) is Release:
        return 2 * WANTS_MOST
    assert type(item) is Tidy
    return item.most + allocation.WAKE_PAGES
