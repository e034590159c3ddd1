"""Protobuf messages as domain values, with field paths in errors, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from romana.ipam.v1 import allocation_pb2, block_pb2, ipam_service_pb2, utilization_pb2

from services.common.errors import InvalidInput, RomanaError, Violation
from services.common.model import names
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.ipam.blocks import Block
from services.ipam.check import Finding
from services.ipam.evaluate import Evaluation
from services.ipam.model import (
    ANY,
    IPV4_BITS,
    IPV6_BITS,
    WANTS_MOST,
    Allocation,
    Given,
    NoAddress,
    Refused,
    Release,
    Request,
    Want,
    Why,
    address_text,
    parse_address,
    prefix_text,
)
from services.ipam.ranges import parse_range
from services.ipam.routes_view import Route
from services.ipam.state import Reservation, State
from services.ipam.utilization import NetworkUsage, Usage

if TYPE_CHECKING:  # protobuf's own types of fields
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

UINT64_MOST: Final = (1 << 64) - 1
RANGES_MOST: Final = 100
DESCRIPTION_MOST: Final = 1000

_BITS: Final = {
    allocation_pb2.FAMILY_UNSPECIFIED: 0,
    allocation_pb2.FAMILY_IPV4: IPV4_BITS,
    allocation_pb2.FAMILY_IPV6: IPV6_BITS,
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
}


# Requests.


@lru_cache(maxsize=65_536)
def _is_subject(text: str) -> bool:
    return not any(True for _ in names.subject_name(text, ""))


def parse_spec(spec: allocation_pb2.AllocationSpec, path: str) -> Request:
    """Reads what a caller asks for; raises InvalidInput."""
    name, node, tenant, segment = spec.name, spec.node, spec.tenant, spec.segment
    plain = (
        0 < len(name) <= names.ENDPOINT_NAME_BYTES
        and name.isascii()
        and name.isprintable()
        and _is_subject(node)
        and _is_subject(tenant)
        and (not segment or _is_subject(segment))
    )
    if not plain:
        violations = [
            *names.endpoint_name(name, f"{path}.name"),
            *names.subject_name(node, f"{path}.node"),
            *names.subject_name(tenant, f"{path}.tenant"),
            *names.subject_name(segment, f"{path}.segment", optional=True),
        ]
        if violations:
            raise InvalidInput.of(violations)
    wants = parse_wants(spec.addresses, path) if spec.addresses else ANY
    return Request(EndpointName(name), NodeName(node), Tenant(tenant), Segment(segment), wants)


def parse_wants(specs: Sequence[allocation_pb2.AddressSpec], path: str) -> tuple[Want, ...]:
    """Reads which addresses are wanted; raises InvalidInput."""
    if len(specs) > WANTS_MOST:
        raise InvalidInput.at(
            f"{path}.addresses", f"has {len(specs)}, at most {WANTS_MOST} allowed"
        )
    return tuple(
        _parse_want(spec, f"{path}.addresses[{index}]") for index, spec in enumerate(specs)
    )


def _parse_want(spec: allocation_pb2.AddressSpec, path: str) -> Want:
    violations: list[Violation] = []
    if spec.network:
        violations += names.resource_name(spec.network, f"{path}.network")
    bits = _BITS.get(spec.family)
    if bits is None:
        violations.append(Violation(f"{path}.family", f"{spec.family} is not a Family"))
    address = None
    if spec.address:
        try:
            address, family = parse_address(spec.address)
        except ValueError as error:
            violations.append(Violation(f"{path}.address", str(error)))
        else:
            if bits not in {0, None, family}:
                violations.append(
                    Violation(f"{path}.address", f"{spec.address} is not of the family asked for")
                )
            bits = family
    if violations:
        raise InvalidInput.of(violations)
    return Want(NetworkName(spec.network) if spec.network else None, bits or 0, address)


def parse_release(spec: ipam_service_pb2.ReleaseSpec, path: str) -> Release:
    """Reads what a caller gives back; raises InvalidInput."""
    violations = [
        *names.endpoint_name(spec.name, f"{path}.name"),
        *names.subject_name(spec.tenant, f"{path}.tenant", optional=True),
        *names.subject_name(spec.segment, f"{path}.segment", optional=True),
        *names.subject_name(spec.node, f"{path}.node", optional=True),
    ]
    if spec.segment and not spec.tenant:
        violations.append(Violation(f"{path}.segment", "is given without a tenant"))
    if violations:
        raise InvalidInput.of(violations)
    return Release(
        EndpointName(spec.name),
        Tenant(spec.tenant) if spec.tenant else None,
        Segment(spec.segment),
        NodeName(spec.node) if spec.node else None,
    )


def parse_owner(tenant: str, segment: str) -> tuple[Tenant, Segment]:
    """Reads an owner; raises InvalidInput."""
    violations = [
        *names.subject_name(tenant, "tenant"),
        *names.subject_name(segment, "segment", optional=True),
    ]
    if violations:
        raise InvalidInput.of(violations)
    return Tenant(tenant), Segment(segment)


def parse_want(request: ipam_service_pb2.EvaluateNodesRequest) -> Want:
    """Reads which kind of address a scheduler means; raises InvalidInput."""
    spec = allocation_pb2.AddressSpec(network=request.network, family=request.family)
    try:
        return _parse_want(spec, "")
    except InvalidInput as error:
        raise InvalidInput.of(
            [Violation(item.path.removeprefix("."), item.message) for item in error.violations]
        ) from None


def parse_reservation(message: block_pb2.Reservation) -> Reservation:
    """Reads a reservation; raises InvalidInput."""
    path = "reservation"
    violations = [
        *names.resource_name(message.name, f"{path}.name"),
        *names.resource_name(message.network, f"{path}.network"),
    ]
    if not 1 <= len(message.ranges) <= RANGES_MOST:
        violations.append(
            Violation(f"{path}.ranges", f"has {len(message.ranges)}, 1 to {RANGES_MOST} allowed")
        )
    if len(message.description) > DESCRIPTION_MOST:
        violations.append(
            Violation(f"{path}.description", f"is longer than {DESCRIPTION_MOST} characters")
        )
    intervals = []
    for index, text in enumerate(message.ranges[:RANGES_MOST]):
        try:
            intervals.append(parse_range(text)[0])
        except ValueError as error:
            violations.append(Violation(f"{path}.ranges[{index}]", str(error)))
    if violations:
        raise InvalidInput.of(violations)
    return Reservation(
        message.name,
        NetworkName(message.network),
        tuple(intervals),
        tuple(message.ranges),
        message.description,
    )


# Answers.


@lru_cache(maxsize=256)
def _timestamp(seconds: int) -> Timestamp:
    """Shared, since it is copied wherever it is set: most answers are of the same second."""
    return Timestamp(seconds=seconds)


def add_given(
    into: RepeatedCompositeFieldContainer[allocation_pb2.Allocation], item: Given
) -> allocation_pb2.Allocation:
    """Appends an address without its name and owner; making it in place halves the cost."""
    address, bits, network, base, length, time = item
    return into.add(
        address=address_text(address, bits),
        network=network,
        block=prefix_text(base, length, bits),
        allocate_time=_timestamp(time),
    )


def text(item: Given) -> str:
    """The address in the usual notation."""
    return address_text(item.address, item.bits)


def full(item: Given, request: Request) -> allocation_pb2.Allocation:
    """An address with the name and owner that asked for it."""
    message = allocation_pb2.Allocation(
        address=text(item),
        network=item.network,
        block=prefix_text(item.block_base, item.block_length, item.bits),
        allocate_time=_timestamp(item.time),
    )
    message.name, message.node = request.name, request.node
    message.tenant, message.segment = request.tenant, request.segment
    return message


def allocation(item: Allocation) -> allocation_pb2.Allocation:
    """An address in use."""
    name, node, tenant, segment, what = item
    return full(what, Request(name, node, tenant, segment))


def block(item: Block, state: State) -> block_pb2.Block:
    """A block."""
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
        stranded=state.is_stranded(item),
        revision=item.revision,
    )


def reservation(item: Reservation, state: State) -> block_pb2.Reservation:
    """A reservation, and how many of its addresses are in use all the same."""
    in_use = 0
    space = state.spaces.get(item.network)
    for interval in item.intervals if space is not None else ():
        for held in state.held(item.network, interval):
            in_use += sum(
                interval.start <= held.base + offset < interval.stop for offset, _ in held.in_use()
            )
    return block_pb2.Reservation(
        name=item.name,
        network=item.network,
        ranges=item.ranges,
        description=item.description,
        size=min(sum(stop - start for start, stop in item.intervals), UINT64_MOST),
        in_use=in_use,
    )


def refusal(item: Refused) -> utilization_pb2.NetworkRefusal:
    """Why a network gave no address."""
    return utilization_pb2.NetworkRefusal(
        network=item.network,
        refusal=_REFUSALS[item.why],
        message=item.why.value,
        group=item.group or "",
        resting=item.resting,
        retry_after_seconds=item.retry_after,
    )


def exhaustion(error: RomanaError) -> Message:
    """The detail of a NoAddress."""
    assert isinstance(error, NoAddress)
    return utilization_pb2.Exhaustion(
        address_index=error.want, networks=[refusal(item) for item in error.refusals]
    )


def evaluation(item: Evaluation) -> utilization_pb2.NodeEvaluation:
    """What a node has to offer."""
    return utilization_pb2.NodeEvaluation(
        node=item.node,
        fits=item.fits,
        network=item.network or "",
        group=item.group or "",
        free_addresses=min(item.free, UINT64_MOST),
        free_in_blocks=item.free_in_blocks,
        new_block_needed=item.fits and not item.free_in_blocks,
        refusals=[refusal(refused) for refused in item.refusals],
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
    item: NetworkUsage, routes: Iterable[tuple[NodeName, int]], *, owners: bool
) -> utilization_pb2.NetworkUtilization:
    """How full a network is; `routes` says which nodes to list and how many routes they have."""
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
            utilization_pb2.NodeUtilization(node=node, usage=usage(item.nodes[node]), routes=count)
            for node, count in routes
        ],
        owners=[
            utilization_pb2.OwnerUtilization(tenant=tenant, segment=segment, usage=usage(counts))
            for (tenant, segment), counts in sorted(item.owners.items())
            if owners
        ],
    )


def route(item: Route, state: State) -> utilization_pb2.Route:
    """An aggregated prefix."""
    node = state.nodes.get(item.node)
    address = node.address_on(item.network) if node is not None else None
    return utilization_pb2.Route(
        network=item.network,
        prefix=prefix_text(item.base, item.length, item.bits),
        node=item.node,
        next_hop=str(address) if address is not None else "",
    )


def finding(item: Finding) -> ipam_service_pb2.Finding:
    """Something that the check found."""
    return ipam_service_pb2.Finding(
        severity=ipam_service_pb2.SEVERITY_ERROR
        if item.is_error
        else ipam_service_pb2.SEVERITY_WARNING,
        reason=item.reason,
        message=item.message,
        subject=item.subject,
    )
