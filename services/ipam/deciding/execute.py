"""The one way in which ipam's ledger is changed by a command, alone or among others.

A command takes effect in memory at once and may be undone; `Ledger.pending` says what the
transaction is to write. Commands that share a transaction go through `batch`, which calls this.
"""

from __future__ import annotations

from services.common.errors import RomanaError
from services.ipam.deciding import release_node, reserve, visit
from services.ipam.deciding.allocate import allocate
from services.ipam.deciding.commands import (
    AbortMove,
    ActivateMove,
    Allocate,
    CancelNodeRelease,
    CloseRested,
    Command,
    CreateReservation,
    DeleteReservation,
    ForgetNode,
    Move,
    NodeCommand,
    PlanNodeRelease,
    PrepareMove,
    Release,
    ReleaseNode,
    ReportReady,
    Result,
    Terms,
)
from services.ipam.deciding.move import move
from services.ipam.deciding.node_bounds import allocate_within
from services.ipam.deciding.release import release
from services.ipam.deciding.rested import PAGES_AT_ONCE, close_rested
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import ADDRESSES_MOST


def execute(ledger: Ledger, command: Command, terms: Terms) -> Result:
    """Carries out a command, or nothing of it: a refusal is its result."""
    mark = ledger.undo.mark()
    try:
        return _carry_out(ledger, command, terms)
    except RomanaError as error:
        ledger.rollback(mark)
        return error
    except Exception:
        ledger.rollback(mark)
        raise


def _carry_out(ledger: Ledger, command: Command, terms: Terms) -> Result:
    match command:
        case Allocate(bounds=None):
            return allocate(ledger, command, terms)
        case Allocate():
            return allocate_within(ledger, command, terms)
        case Release():
            return release(ledger, command, terms)
        case Move():
            return move(ledger, command)
        case PrepareMove() | ReportReady() | ActivateMove() | AbortMove():
            return visit.carry_out(ledger, command)
        case CreateReservation():
            reserve.create(ledger, command)
        case DeleteReservation():
            reserve.delete(ledger, command)
        case CloseRested():
            close_rested(ledger, command, terms)
        case _:
            return _carry_out_for_node(ledger, command, terms)
    return None


def _carry_out_for_node(ledger: Ledger, command: NodeCommand, terms: Terms) -> Result:
    match command:
        case PlanNodeRelease():
            release_node.plan(ledger, command)
        case ReleaseNode():
            return release_node.release_some(ledger, command, terms)
        case CancelNodeRelease():
            release_node.cancel(ledger, command)
        case ForgetNode():
            return release_node.forget(ledger, command, terms)
    return None


def is_alone(command: Command) -> bool:
    """Says whether a command must have a transaction of its own.

    A reservation changes areas, to which undoing others refers; what is done for a node that is
    gone holds only if the node is; a block that moves is another one, which the others do not know.
    """
    return not isinstance(command, Allocate | Release | CloseRested)


def keys_most(command: Command) -> int:
    """How many keys a command that can share a transaction writes at most."""
    match command:
        case Allocate():
            return 2 * len(command.addresses) + 1
        case Release():
            return 2 * ADDRESSES_MOST
        case CloseRested():
            return command.keys_most + PAGES_AT_ONCE
        case _:
            raise TypeError(f"{command} has a transaction of its own")
