"""Requests as commands and domain values, with field paths in errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from romana.ipam.v1 import allocation_pb2, block_pb2, ipam_service_pb2

from services.common.errors import InvalidInput, Violation
from services.common.model import names
from services.common.model.names import EndpointName, NetworkName, NodeName, Segment, Tenant
from services.common.sizes import CONNECTIONS_MOST
from services.ipam.deciding.commands import (
    Allocate,
    Move,
    NodeBounds,
    PrepareMove,
    Release,
)
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ranges import parse_range
from services.ipam.model import (
    ADDRESSES_MOST,
    ANY,
    IPV4_BITS,
    IPV6_BITS,
    AddressSpec,
    Owner,
    parse_address,
)

RANGES_MOST: Final = 100
DESCRIPTION_MOST: Final = 1000

_BITS: Final = {
    allocation_pb2.FAMILY_UNSPECIFIED: 0,
    allocation_pb2.FAMILY_IPV4: IPV4_BITS,
    allocation_pb2.FAMILY_IPV6: IPV6_BITS,
}


@lru_cache(maxsize=65_536)
def _owner(node: str, tenant: str, segment: str) -> Owner | None:
    """None: one of the names is not valid."""
    for text, optional in ((node, False), (tenant, False), (segment, True)):
        for _ in names.subject_name(text, "", optional=optional):
            return None
    return Owner(NodeName(node), Tenant(tenant), Segment(segment))


def parse_specs(
    specs: Iterable[allocation_pb2.AllocationSpec], bounds: NodeBounds | None = None
) -> tuple[list[Allocate], dict[int, InvalidInput]]:
    """Reads what a message asks for: the commands in order, and what is wrong with which spec."""
    commands: list[Allocate] = []
    refused: dict[int, InvalidInput] = {}
    for index, spec in enumerate(specs):
        name, owner = spec.name, _owner(spec.node, spec.tenant, spec.segment)
        if (
            owner is not None
            and bounds is None
            and 0 < len(name) <= names.ENDPOINT_NAME_BYTES
            and name.isascii()
            and name.isprintable()
            and not spec.addresses
        ):
            commands.append(Allocate(name, owner))  # type: ignore[arg-type]  # it is
        else:
            try:
                commands.append(parse_spec(spec, f"specs[{index}]", bounds))
            except InvalidInput as error:
                refused[index] = error
    return commands, refused


def parse_spec(
    spec: allocation_pb2.AllocationSpec, path: str, bounds: NodeBounds | None = None
) -> Allocate:
    """Reads what a caller asks for; raises InvalidInput."""
    name, owner = spec.name, _owner(spec.node, spec.tenant, spec.segment)
    plain = name.isascii() and name.isprintable() and 0 < len(name) <= names.ENDPOINT_NAME_BYTES
    if owner is None or not plain:
        violations = [
            *names.endpoint_name(name, f"{path}.name"),
            *names.subject_name(spec.node, f"{path}.node"),
            *names.subject_name(spec.tenant, f"{path}.tenant"),
            *names.subject_name(spec.segment, f"{path}.segment", optional=True),
        ]
        if violations:
            raise InvalidInput.of(violations)
        owner = Owner(NodeName(spec.node), Tenant(spec.tenant), Segment(spec.segment))
    addresses = _parse_addresses(spec.addresses, path) if spec.addresses else ANY
    return Allocate(EndpointName(name), owner, addresses, bounds)


def _parse_addresses(
    specs: Sequence[allocation_pb2.AddressSpec], path: str
) -> tuple[AddressSpec, ...]:
    """Reads which addresses are asked for; raises InvalidInput."""
    field = _below(path, "addresses")
    if len(specs) > ADDRESSES_MOST:
        raise InvalidInput.at(field, f"has {len(specs)}, at most {ADDRESSES_MOST} allowed")
    return tuple(_parse_address(spec, f"{field}[{index}]") for index, spec in enumerate(specs))


def _parse_address(spec: allocation_pb2.AddressSpec, path: str) -> AddressSpec:
    violations: list[Violation] = []
    if spec.network:
        violations += names.resource_name(spec.network, _below(path, "network"))
    bits = _BITS.get(spec.family)
    if bits is None:
        violations.append(Violation(_below(path, "family"), f"{spec.family} is not a Family"))
    address = None
    if spec.address:
        try:
            address, family = parse_address(spec.address)
        except ValueError as error:
            violations.append(Violation(_below(path, "address"), str(error)))
        else:
            if bits not in {0, None, family}:
                violations.append(
                    Violation(
                        _below(path, "address"), f"{spec.address} is not of the family asked for"
                    )
                )
            bits = family
    if violations:
        raise InvalidInput.of(violations)
    return AddressSpec(NetworkName(spec.network) if spec.network else None, bits or 0, address)


def _below(path: str, field: str) -> str:
    """Path of a field; `path` is empty for those of the request itself."""
    return f"{path}.{field}" if path else field


def parse_release(
    spec: ipam_service_pb2.ReleaseSpec, path: str, tenants: frozenset[Tenant] | None = None
) -> Release:
    """Reads what a caller gives back, who is limited to `tenants`; raises InvalidInput."""
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
        tenants,
    )


def parse_move(request: ipam_service_pb2.MoveAddressRequest) -> Move:
    return Move(*parse_move_to(request.name, "node", request.node))


def parse_prepare_move(request: ipam_service_pb2.PrepareMoveRequest) -> PrepareMove:
    name, to = parse_move_to(request.name, "to_node", request.to_node)
    return PrepareMove(name, to, request.validate_only)


def parse_move_to(name: str, field: str, node: str) -> tuple[EndpointName, NodeName]:
    """A name and the node it moves to; raises InvalidInput."""
    violations = [*names.endpoint_name(name, "name"), *names.subject_name(node, field)]
    if violations:
        raise InvalidInput.of(violations)
    return EndpointName(name), NodeName(node)


def parse_moving_name(name: str) -> EndpointName:
    violations = [*names.endpoint_name(name, "name")]
    if violations:
        raise InvalidInput.of(violations)
    return EndpointName(name)


def check_connections(connections: Sequence[ipam_service_pb2.TcpConnection]) -> None:
    """Raises InvalidInput for what no agent can go on with."""
    if len(connections) > CONNECTIONS_MOST:
        raise InvalidInput.at(
            "connections", f"has {len(connections)}, at most {CONNECTIONS_MOST} allowed"
        )
    for index, each in enumerate(connections):
        path = f"connections[{index}]"
        families = set()
        for field, text in (("source", each.source), ("destination", each.destination)):
            try:
                families.add(parse_address(text)[1])
            except ValueError as error:
                raise InvalidInput.at(f"{path}.{field}", str(error)) from error
        if len(families) > 1:
            raise InvalidInput.at(f"{path}.destination", "is not of the source's family")
        ports = (("source_port", each.source_port), ("destination_port", each.destination_port))
        for field, port in ports:
            if not 0 < port < 1 << 16:
                raise InvalidInput.at(f"{path}.{field}", f"{port} is not 1 to 65535")


def parse_owner(tenant: str, segment: str) -> tuple[Tenant, Segment]:
    """Reads an owner; raises InvalidInput."""
    violations = [
        *names.subject_name(tenant, "tenant"),
        *names.subject_name(segment, "segment", optional=True),
    ]
    if violations:
        raise InvalidInput.of(violations)
    return Tenant(tenant), Segment(segment)


def parse_node_evaluation(
    request: ipam_service_pb2.EvaluateNodesRequest,
) -> tuple[AddressSpec, ...]:
    """Reads which addresses a scheduler means; raises InvalidInput."""
    if request.addresses:
        alone = [name for name in ("network", "family") if getattr(request, name)]
        named = [index for index, spec in enumerate(request.addresses) if spec.address]
        violations = [Violation(name, "goes without `addresses`") for name in alone]
        violations += [
            Violation(f"addresses[{index}].address", "is not evaluated: ask EvaluateGroups")
            for index in named
        ]
        if violations:
            raise InvalidInput.of(violations)
        return _parse_addresses(request.addresses, "")
    spec = allocation_pb2.AddressSpec(network=request.network, family=request.family)
    return (_parse_address(spec, ""),)


def parse_group_evaluation(request: ipam_service_pb2.EvaluateGroupsRequest) -> AddressSpec:
    """Reads which address a scheduler means; raises InvalidInput."""
    return _parse_address(request.address, "address")


def parse_reservation(message: block_pb2.Reservation, path: str = "reservation") -> Reservation:
    """Reads a reservation; raises InvalidInput."""
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
