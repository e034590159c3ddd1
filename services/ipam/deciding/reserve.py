"""Making and ending reservations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from services.common.errors import AlreadyExists, Conflict, InvalidInput, NotFound, Violation
from services.common.model.names import NetworkName, Tenant
from services.common.model.own_tenants import is_network_of, of_another_tenant
from services.ipam.deciding.commands import CreateReservation, DeleteReservation
from services.ipam.deciding.node_bounds import check_conflict
from services.ipam.ledger.areas import Interval
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ledger import Ledger
from services.ipam.ledger.ranges import parse_range
from services.ipam.model import address_text


def create(ledger: Ledger, command: CreateReservation) -> None:
    """Reserves addresses, unless the name stands for them already.

    Raises NotFound for an unknown network, InvalidInput for ranges outside of it, AlreadyExists if
    the name stands for something else or an endpoint has one of the addresses, unless that is
    allowed, Forbidden and Exhausted for what is none of its node's or tenants'.
    """
    reservation = command.reservation
    _check_network(ledger, reservation.network, command.tenants)
    before = ledger.reservations.get(reservation.name)
    if before is not None and replace(before, node=reservation.node) == reservation:
        return
    if reservation.node is not None:
        check_conflict(ledger, reservation.node, reservation)
    if before is not None:
        _check_network(ledger, before.network, command.tenants)
        raise AlreadyExists(
            f"reservation {before.name!r} stands for {', '.join(before.ranges)} of "
            f"{before.network!r}",
            reason="RESERVATION_EXISTS",
            metadata={"name": before.name, "network": before.network},
        )
    bits = _check_ranges(ledger, reservation)
    if not command.allow_in_use and reservation.node is None:  # a node only reserves what it has
        _refuse_in_use(ledger, reservation, bits)
    ledger.change_reservation(reservation.name, reservation)


def delete(ledger: Ledger, command: DeleteReservation) -> None:
    """Succeeds if there is none; raises Forbidden, and Conflict if it is not the expected one."""
    before, expected = ledger.reservations.get(command.name), command.expected
    if before is not None:
        if expected is not None and (before.network, tuple(before.intervals)) != (
            expected.network,
            tuple(expected.intervals),
        ):
            raise Conflict(
                f"reservation {before.name!r} stands for {', '.join(before.ranges)} of "
                f"{before.network!r} by now: read it again",
                reason="RESERVATION_CHANGED",
                metadata={"name": before.name, "network": before.network},
            )
        _check_network(ledger, before.network, command.tenants)
        ledger.change_reservation(command.name, None)


def _check_network(ledger: Ledger, name: NetworkName, tenants: frozenset[Tenant] | None) -> None:
    """Raises Forbidden for a network that serves others, too; None: the caller is not limited."""
    net = ledger.networks.get(name)
    if tenants is None or (net is not None and is_network_of(net.network.tenants, tenants)):
        return
    raise of_another_tenant(f"network {name!r}")


def _check_ranges(ledger: Ledger, reservation: Reservation) -> int:
    """Returns the family of the network, as its number of bits."""
    net = ledger.networks.get(reservation.network)
    if net is None:
        raise NotFound(
            f"there is no network {reservation.network!r}",
            reason="NETWORK_NOT_FOUND",
            metadata={"field": "reservation.network", "network": reservation.network},
        )
    outside = [
        Violation(
            f"reservation.ranges[{index}]",
            f"{text} is not inside {net.network.cidr} of network {reservation.network!r}",
        )
        for index, text in enumerate(reservation.ranges)
        if not _is_inside(text, net.base, net.stop, net.bits)
    ]
    if outside:
        raise InvalidInput.of(outside)
    return net.bits


def _refuse_in_use(ledger: Ledger, reservation: Reservation, bits: int) -> None:
    for index, interval in enumerate(reservation.intervals):
        for block in _blocks_in(ledger, reservation, interval, bits):
            for offset, name in block.in_use():
                if interval.start <= block.base + offset < interval.stop:
                    address = address_text(block.base + offset, bits)
                    raise AlreadyExists(
                        f"{address} is in use by {name!r} on node {block.node!r}: release that "
                        "first, or allow it to stay in use until it is released",
                        reason="ADDRESS_IN_USE",
                        metadata={
                            "field": f"reservation.ranges[{index}]",
                            "address": address,
                            "name": name,
                            "node": block.node,
                            "network": block.network,
                        },
                    )


def _blocks_in(
    ledger: Ledger, reservation: Reservation, interval: Interval, bits: int
) -> Iterator[Block]:
    """The blocks that have addresses in common with an interval, strays too."""
    yield from ledger.held(reservation.network, interval)
    for block in ledger.strays.values():
        stop = block.base + block.size
        if block.bits == bits and block.base < interval.stop and interval.start < stop:
            yield block


def _is_inside(text: str, start: int, stop: int, bits: int) -> bool:
    interval, family = parse_range(text)
    return family == bits and start <= interval.start and interval.stop <= stop
