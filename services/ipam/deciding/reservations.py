"""Whether a reservation may be made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from services.common.errors import AlreadyExists, InvalidInput, NotFound, Violation
from services.ipam.deciding.own_node import check_conflict
from services.ipam.ledger.areas import Interval
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ranges import parse_range
from services.ipam.ledger.state import State
from services.ipam.model import address_text


def is_needed(
    state: State, name: str, wanted: Reservation | None, *, allow_in_use: bool = False
) -> bool:
    """Says whether there is anything to do for `name` to stand for `wanted` (None: for nothing).

    Raises NotFound for an unknown network, InvalidInput for ranges outside of it, AlreadyExists if
    the name stands for something else or an endpoint has one of the addresses, unless that is
    allowed, Forbidden and Exhausted for what is none of its node's.
    """
    before = state.reservations.get(name)
    if wanted is None:
        return before is not None
    if before is not None and replace(before, node=wanted.node) == wanted:
        return False
    if wanted.node is not None:
        check_conflict(state, wanted.node, wanted)
    if before is not None:
        raise AlreadyExists(
            f"reservation {name!r} stands for {', '.join(before.ranges)} of {before.network!r}",
            reason="RESERVATION_EXISTS",
            metadata={"name": name, "network": before.network},
        )
    space = state.spaces.get(wanted.network)
    if space is None:
        raise NotFound(
            f"there is no network {wanted.network!r}",
            reason="NETWORK_NOT_FOUND",
            metadata={"field": "reservation.network", "network": wanted.network},
        )
    outside = [
        Violation(
            f"reservation.ranges[{index}]",
            f"{text} is not inside {space.network.cidr} of network {wanted.network!r}",
        )
        for index, text in enumerate(wanted.ranges)
        if not _is_inside(text, space.base, space.stop, space.bits)
    ]
    if outside:
        raise InvalidInput.of(outside)
    if not allow_in_use and wanted.node is None:  # a node may only set aside what it has
        _refuse_in_use(state, wanted, space.bits)
    return True


def _refuse_in_use(state: State, wanted: Reservation, bits: int) -> None:
    for index, interval in enumerate(wanted.intervals):
        for block in _blocks_in(state, wanted, interval, bits):
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


def _blocks_in(state: State, wanted: Reservation, interval: Interval, bits: int) -> Iterator[Block]:
    """The blocks that have addresses in common with an interval, strays too."""
    yield from state.held(wanted.network, interval)
    for block in state.strays.values():
        stop = block.base + block.size
        if block.bits == bits and block.base < interval.stop and interval.start < stop:
            yield block


def _is_inside(text: str, start: int, stop: int, bits: int) -> bool:
    interval, family = parse_range(text)
    return family == bits and start <= interval.start and interval.stop <= stop
