"""Results and domain values as messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2
from romana.ipam.v1 import allocation_pb2, block_pb2, ipam_service_pb2, utilization_pb2

from services.common.errors import RomanaError
from services.common.rpc.fitting import statuses_that_fit
from services.common.sizes import ADDRESS_BYTES
from services.ipam.api.held_rooms_kept import HeldAnswer
from services.ipam.consistency.rules import Finding
from services.ipam.deciding.commands import (
    Allocated,
    MoveCost,
    Moving,
    Released,
    Result,
)
from services.ipam.deciding.evaluate import AddressRoom, Evaluation, Presence
from services.ipam.deciding.evaluate_groups import Rooms
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.utilization import NetworkUsage, Usage
from services.ipam.model import (
    AllocatedAddress,
    Allocation,
    NoAddress,
    Refused,
    Why,
    address_text,
    prefix_text,
)
from services.ipam.routes.view import Route

if TYPE_CHECKING:  # protobuf's own types of fields
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

UINT64_MOST: Final = (1 << 64) - 1
RELEASES_MOST: Final = 100
"""That a status tells of."""

_PRESENCE: Final = {
    Presence.UNKNOWN: utilization_pb2.AGENT_PRESENCE_UNSPECIFIED,
    Presence.CONNECTED: utilization_pb2.AGENT_PRESENCE_CONNECTED,
    Presence.ABSENT: utilization_pb2.AGENT_PRESENCE_ABSENT,
}
_REFUSALS: Final = {
    Why.NOT_THIS_TENANT: utilization_pb2.REFUSAL_NOT_THIS_TENANT,
    Why.OTHER_FAMILY: utilization_pb2.REFUSAL_OTHER_FAMILY,
    Why.NODE_NOT_ATTACHED: utilization_pb2.REFUSAL_NODE_NOT_ATTACHED,
    Why.NO_GROUP: utilization_pb2.REFUSAL_NO_GROUP,
    Why.GROUP_FULL: utilization_pb2.REFUSAL_GROUP_FULL,
    Why.RESERVED: utilization_pb2.REFUSAL_RESERVED,
    Why.ADDRESS_RESERVED: utilization_pb2.REFUSAL_RESERVED,
    Why.RESTING: utilization_pb2.REFUSAL_RESTING,
    Why.ADDRESS_IN_USE: utilization_pb2.REFUSAL_ADDRESS_IN_USE,
    Why.BLOCK_HELD_BY_OTHER: utilization_pb2.REFUSAL_BLOCK_HELD_BY_OTHER,
    Why.ADDRESS_OUTSIDE: utilization_pb2.REFUSAL_ADDRESS_OUTSIDE,
    Why.STRANDED: utilization_pb2.REFUSAL_STRANDED,
    Why.NODE_CORDONED: utilization_pb2.REFUSAL_NODE_CORDONED,
}


@lru_cache(maxsize=256)
def _timestamp(seconds: int) -> Timestamp:
    """Shared, since it is copied wherever it is set: most answers are of the same second."""
    return Timestamp(seconds=seconds)


class ResultWriter:
    """Appends results to an answer.

    A result of one address is written into a message of our own, of which only what differs from
    the one before is set, and appended as a copy: making each in place costs ten times as much.
    """

    def __init__(
        self,
        into: RepeatedCompositeFieldContainer[ipam_service_pb2.AllocateResult],
        status_of: Callable[[RomanaError], status_pb2.Status],
    ) -> None:
        self._into = into
        self._status_of = status_of
        self._shape = ipam_service_pb2.AllocateResult()
        self._one = self._shape.allocations.add()
        self._same: tuple[int, int, int, str] | None = None

    def add(self, results: Iterable[Result]) -> None:
        """Appends one result each, in order."""
        append, shape, one = self._into.append, self._shape, self._one
        for result in results:
            if type(result) is Allocated and not result.existed and len(result.addresses) == 1:
                (item,) = result.addresses
                base, bits, time, network = item.block_base, item.bits, item.time, item.network
                if self._same != (base, bits, time, network):
                    self._same = base, bits, time, network
                    one.network = network
                    one.block = prefix_text(base, item.block_length, bits)
                    one.allocate_time.CopyFrom(_timestamp(time))
                one.address = address_text(item.address, bits)
                append(shape)
            elif type(result) is Allocated:
                self._into.add(
                    allocations=[_address(item) for item in result.addresses],
                    existed=result.existed,
                )
            else:
                assert isinstance(result, RomanaError)
                self._into.add(status=self._status_of(result))


def released(
    results: Sequence[Result], status_of: Callable[[RomanaError], status_pb2.Status]
) -> ipam_service_pb2.ReleaseAddressesResponse:
    fitting = fitting_statuses(results, status_of)
    answer = ipam_service_pb2.ReleaseAddressesResponse()
    for result in results:
        if isinstance(result, Released):
            answer.results.add(addresses=[item.text for item in result.addresses])
        else:
            assert isinstance(result, RomanaError)
            answer.results.add(status=fitting(result))
    return answer


def fitting_statuses(
    results: Sequence[Result], status_of: Callable[[RomanaError], status_pb2.Status]
) -> Callable[[RomanaError], status_pb2.Status]:
    """Makes statuses of the errors among results, so that the answer fits."""
    errors, addresses = 0, 0
    for result in results:
        if isinstance(result, RomanaError):
            errors += 1
        elif isinstance(result, Allocated | Released):
            addresses += len(result.addresses)
    if not errors:
        return status_of
    return statuses_that_fit(errors, addresses * ADDRESS_BYTES, status_of)


def _address(item: AllocatedAddress) -> allocation_pb2.Allocation:
    return allocation_pb2.Allocation(
        address=item.text,
        network=item.network,
        block=prefix_text(item.block_base, item.block_length, item.bits),
        allocate_time=_timestamp(item.time),
    )


def allocation(item: Allocation) -> allocation_pb2.Allocation:
    """An address in use, with its name and owner."""
    message = _address(item.address)
    message.name = item.name
    message.node, message.tenant, message.segment = item.owner
    return message


def move(item: Moving) -> ipam_service_pb2.Move:
    """Where an endpoint is, and where it moves to."""
    visit = item.visit
    is_ready = visit.ready and visit.known
    state = ipam_service_pb2.MOVE_STATE_READY if is_ready else ipam_service_pb2.MOVE_STATE_PREPARED
    return ipam_service_pb2.Move(
        name=item.allocations[0].name,
        state=ipam_service_pb2.MOVE_STATE_SETTLED if visit.to is None else state,
        node=visit.node,
        to_node=visit.to or "",
        home_node=item.home,
        allocations=map(allocation, item.allocations),
    )


def move_plan(item: MoveCost) -> ipam_service_pb2.MovePlan:
    return ipam_service_pb2.MovePlan(
        host_routes=item.host_routes,
        nodes=item.nodes,
        from_groups=[before for before, _ in item.groups],
        to_groups=[after for _, after in item.groups],
    )


def block(item: Block, ledger: Ledger) -> block_pb2.Block:
    return block_pb2.Block(
        prefix=str(item),
        network=item.network,
        group=item.area.path if item.area is not None else "",
        node=item.node,
        tenant=item.tenant,
        segment=item.segment,
        size=item.size,
        used=item.used,
        resting=item.resting,
        stranded=ledger.is_stranded(item),
        revision=item.revision,
    )


def reservation(item: Reservation, ledger: Ledger) -> block_pb2.Reservation:
    """A reservation, and how many of its addresses are in use all the same."""
    in_use = 0
    net = ledger.networks.get(item.network)
    for interval in item.intervals if net is not None else ():
        for held in ledger.held(item.network, interval):
            in_use += sum(
                interval.start <= held.base + offset < interval.stop for offset, _ in held.in_use()
            )
    return block_pb2.Reservation(
        name=item.name,
        network=item.network,
        ranges=item.ranges,
        description=item.description,
        node=item.node or "",
        size=min(sum(stop - start for start, stop in item.intervals), UINT64_MOST),
        in_use=in_use,
    )


def node_releases(ledger: Ledger) -> list[ipam_service_pb2.NodeRelease]:
    """What is in use on nodes that are gone."""
    index = ledger.index
    visits = index.visits_by_node() if ledger.releases else Counter()
    return [
        ipam_service_pb2.NodeRelease(
            node=node,
            addresses=visits[node]
            + sum(block.used for block in index.by_node.get(node, {}).values()),
            asked=release.asked,
            notice_time=Timestamp(seconds=release.noticed),
            due_time=Timestamp(seconds=release.due),
        )
        for node, release in sorted(ledger.releases.items())[:RELEASES_MOST]
    ]


def refusal(item: Refused) -> utilization_pb2.NetworkRefusal:
    return utilization_pb2.NetworkRefusal(
        network=item.network,
        refusal=_REFUSALS[item.why],
        message=item.why.value,
        group=item.group or "",
        resting=item.resting,
        retry_after_seconds=item.retry_after,
    )


def exhaustion(error: RomanaError) -> Message:
    assert isinstance(error, NoAddress)
    return utilization_pb2.Exhaustion(
        address_index=error.ordinal, networks=[refusal(item) for item in error.refusals]
    )


def evaluation(item: Evaluation, *, several: bool) -> utilization_pb2.NodeEvaluation:
    """`several`: addresses were named, so that each is told."""
    room = item.scarcest
    message = utilization_pb2.NodeEvaluation(
        node=item.node,
        fits=item.fits,
        refusals=[refusal(refused) for refused in item.refusals],
        agent=_PRESENCE[item.agent],
    )
    if room is not None:
        message.network, message.group = room.network, room.group
        message.free_addresses = min(room.free, UINT64_MOST)
        message.free_in_blocks = room.free_in_blocks
        message.new_block_needed = any(not each.free_in_blocks for each in item.rooms)
    if several and item.fits:
        message.addresses.extend(map(_room, item.rooms))
    elif several:
        message.address_index = len(item.rooms)
    return message


def _room(room: AddressRoom) -> utilization_pb2.AddressEvaluation:
    return utilization_pb2.AddressEvaluation(
        network=room.network,
        group=room.group,
        free_addresses=min(room.free, UINT64_MOST),
        new_block_needed=not room.free_in_blocks,
    )


def rooms(item: Rooms) -> ipam_service_pb2.EvaluateGroupsResponse:
    return ipam_service_pb2.EvaluateGroupsResponse(
        groups=[
            utilization_pb2.GroupEvaluation(
                network=room.network,
                group=room.group,
                free_addresses=min(room.free, UINT64_MOST),
                refusal=None if room.refused is None else refusal(room.refused),
            )
            for room in item.groups
        ],
        holders=[
            utilization_pb2.HolderEvaluation(
                network=room.network, node=room.node, free_addresses=room.free
            )
            for room in item.holders
        ],
        refusals=map(refusal, item.refused),
    )


def add_held(answer: ipam_service_pb2.EvaluateGroupsResponse, held: HeldAnswer) -> None:
    answer.state, answer.is_partial = held.state, held.is_partial
    answer.holders.extend(
        utilization_pb2.HolderEvaluation(network=network, node=node, free_addresses=free)
        for (network, node), free in held.holders
    )


def usage(item: Usage) -> utilization_pb2.Usage:
    """Counts; IPv6 sizes that do not fit are cut to the largest number."""
    return utilization_pb2.Usage(
        size=min(item.size, UINT64_MOST),
        used=item.used,
        resting=item.resting,
        reserved=min(item.reserved, UINT64_MOST),
        blocks=item.blocks,
        held=min(item.held, UINT64_MOST),
    )


def network_usage(
    item: NetworkUsage, routes: Mapping[str, int] | None, *, owners: bool
) -> utilization_pb2.NetworkUtilization:
    """How full a network is; `routes` says how many lead to each node, None: list no nodes."""
    return utilization_pb2.NetworkUtilization(
        network=item.network,
        cidr=item.cidr,
        usage=usage(item.usage),
        groups=[
            utilization_pb2.GroupUtilization(
                group=group.path, prefix=group.prefix, usage=usage(group.usage), nodes=group.nodes
            )
            for group in item.groups
        ],
        nodes=[
            utilization_pb2.NodeUtilization(
                node=node, usage=usage(item.nodes[node]), routes=routes.get(node, 0)
            )
            for node in sorted(item.nodes)
        ]
        if routes is not None
        else [],
        owners=[
            utilization_pb2.OwnerUtilization(tenant=tenant, segment=segment, usage=usage(counts))
            for (tenant, segment), counts in sorted(item.owners.items())
            if owners
        ],
    )


def route(item: Route, ledger: Ledger) -> utilization_pb2.Route:
    node, net = ledger.nodes.get(item.node), ledger.networks.get(item.network)
    address = node.address_on(net.network) if node is not None and net is not None else None
    return utilization_pb2.Route(
        network=item.network,
        prefix=prefix_text(item.base, item.length, item.bits),
        node=item.node,
        next_hop=str(address) if address is not None else "",
    )


def finding(item: Finding) -> ipam_service_pb2.Finding:
    return ipam_service_pb2.Finding(
        severity=ipam_service_pb2.SEVERITY_ERROR
        if item.is_error
        else ipam_service_pb2.SEVERITY_WARNING,
        reason=item.reason,
        message=item.message,
        subject=item.subject,
    )
