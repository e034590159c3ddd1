"""What can be asked of ipam's ledger, and what comes of it; `execute` carries commands out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from services.common.errors import RomanaError
from services.common.model.names import EndpointName, NodeName, Segment, Tenant
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.unsaved import NodeRelease
from services.ipam.model import ANY, AddressSpec, AllocatedAddress, Allocation, Owner, Visit

SHARE: Final = 0.75


class NodeBounds(Struct, frozen=True):
    """What a node's own certificate may take; the node's allowance counts besides."""

    names: Sequence[str] = ()
    """Patterns of names that every node may take."""
    share: float = SHARE
    """Of its group's addresses, that a node may hold where there are other nodes."""


class Allocate(Struct, frozen=True, gc=False):
    """Gives a name its addresses: all, or none."""

    name: EndpointName
    owner: Owner
    addresses: Sequence[AddressSpec] = ANY
    bounds: NodeBounds | None = None
    """The node asks by itself, and may take no more; None: somebody who may allocate for all."""
    knows_arriving: bool = False
    """Whoever asks knows what `Allocated.arriving` means."""


class Release(Struct, frozen=True, gc=False):
    """Takes back all addresses of a name. Empty fields are not checked."""

    name: EndpointName
    tenant: Tenant | None = None
    """None: neither tenant nor segment is checked."""
    segment: Segment = Segment("")
    node: NodeName | None = None
    tenants: frozenset[Tenant] | None = None
    """Whoever asks is limited to these; None: to none."""


class Move(Struct, frozen=True, gc=False):
    """Takes the addresses of a name along to another node."""

    name: EndpointName
    node: NodeName


class PrepareMove(Struct, frozen=True, gc=False):
    """Has a name's endpoint prepared on another node, while it stays where it is."""

    name: EndpointName
    to: NodeName
    only_plan: bool = False


class ReportReady(Struct, frozen=True, gc=False):
    """The node that it moves to is prepared to take it over; or the one that it is on knows."""

    name: EndpointName
    node: NodeName


class ActivateMove(Struct, frozen=True, gc=False):
    """From now on the endpoint is where it was moving to."""

    name: EndpointName
    to: NodeName
    force: bool = False
    """Also if that node is not ready."""


class AbortMove(Struct, frozen=True, gc=False):
    """It stays where it is."""

    name: EndpointName


MoveCommand = PrepareMove | ReportReady | ActivateMove | AbortMove


class CreateReservation(Struct, frozen=True):
    """Reserves addresses; refused if the name stands for others."""

    reservation: Reservation
    allow_in_use: bool = False
    """What is in use stays so until it is released."""
    tenants: frozenset[Tenant] | None = None
    """Whoever asks is limited to networks of these alone; None: to none."""


class DeleteReservation(Struct, frozen=True):
    name: str
    expected: Reservation | None = None
    """Refused if the name stands for another network or other ranges."""
    tenants: frozenset[Tenant] | None = None
    """As for `CreateReservation`."""


class CloseRested(Struct, frozen=True):
    """Closes blocks in which the last rest has ended."""

    keys_most: int = 32
    """Keys to write, about."""


class PlanNodeRelease(Struct, frozen=True):
    """Writes down that what is in use on a node that is gone will be released."""

    node: NodeName
    plan: NodeRelease


class ReleaseNode(Struct, frozen=True):
    """Releases what is in use on a node that is gone: as much as fits into a transaction."""

    node: NodeName


class CancelNodeRelease(Struct, frozen=True):
    """Ends a release: the node is there, or nothing is in use on it."""

    node: NodeName


class ForgetNode(Struct, frozen=True):
    """A node is gone, and nothing is in use on it."""

    node: NodeName


NodeCommand = PlanNodeRelease | ReleaseNode | CancelNodeRelease | ForgetNode
Command = (
    Allocate
    | Release
    | Move
    | MoveCommand
    | CreateReservation
    | DeleteReservation
    | CloseRested
    | NodeCommand
)


class Allocated(Struct, frozen=True, gc=False):
    addresses: Sequence[AllocatedAddress]
    """In the order in which they were asked for."""
    existed: bool = False
    arriving: bool = False
    """They are on another node, and about to move to the one that asked."""


class Released(Struct, frozen=True, gc=False):
    addresses: Sequence[AllocatedAddress]


class Moved(Struct, frozen=True):
    allocations: Sequence[Allocation]
    """In the order in which they were asked for."""
    from_node: NodeName
    """Where they were: the same node, if nothing changed."""


class MoveCost(Struct, frozen=True):
    """What it costs that addresses are where they will be after a move."""

    host_routes: int
    """On every other node of their networks, before routes are aggregated."""
    nodes: int
    """On these networks."""
    groups: Sequence[tuple[str, str]]
    """From which prefix groups to which, where they are others."""


class Moving(Struct, frozen=True):
    """Where a name's endpoint is, and where it moves to."""

    allocations: Sequence[Allocation]
    home: NodeName
    """Whose block the first address is in."""
    visit: Visit
    cost: MoveCost | None = None
    from_node: NodeName | None = None
    """Where it was before, if it has moved just now."""


class NodeReleased(Struct, frozen=True):
    allocations: Sequence[Allocation]
    """What was released in this transaction."""
    is_done: bool
    """Nothing is in use on the node any more that can be released."""


Result = Allocated | Released | Moved | Moving | NodeReleased | RomanaError | None


class Terms(Struct, frozen=True):
    """By what a transaction's commands are decided."""

    now: int
    """The time by which addresses rest, in milliseconds."""
    stamp: int
    """What addresses get as the time of their allocation, Unix time in seconds."""
    keys_most: int
    """How many keys the transaction may write."""
