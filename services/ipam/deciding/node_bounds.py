"""What a node's own certificate may take: names, tenants, addresses, and reservations of conflicts.

What was allocated for the node by others, such as a scheduler, it gets whatever it is called and
whoever it is for. The bounds are on what it takes by itself, so that a machine that was broken into
does not take what others would need: their names, or all addresses of its rack.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Final

from services.common.errors import AlreadyExists, Exhausted, Forbidden
from services.common.model.names import EndpointName, NodeName
from services.common.model.node import Node
from services.ipam.deciding.allocate import allocate
from services.ipam.deciding.commands import Allocate, Allocated, NodeBounds, Terms
from services.ipam.ledger.areas import Area
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.ledger import Ledger

CONFLICTS_MOST: Final = 32
"""Addresses that a node may have set aside: beyond that somebody has to look."""

_OF_CNI: Final = re.compile(r"[^/]+/[0-9a-f]{32,128}/[^/]+")
"""Network, container and interface. A container's id is long and drawn at random, so that nobody
can take it before its container is there."""


def allocate_within(ledger: Ledger, command: Allocate, terms: Terms) -> Allocated:
    """As `allocate`, within the bounds of the command.

    Raises besides: Forbidden for a name or tenant, AlreadyExists for a name of another node without
    saying whose, Exhausted if the node would hold more than its share.
    """
    places = ledger.index.places(command.name)
    if places:
        block, offset = places[0]
        visit = block.visit(offset)
        if command.owner.node not in {visit.node, visit.to}:
            raise AlreadyExists(
                f"{command.name!r} has addresses already, elsewhere",
                reason="NAME_TAKEN",
                metadata={"name": command.name},
            )
        return allocate(ledger, command, terms)
    bounds = command.bounds
    assert bounds is not None
    node = ledger.nodes.get(command.owner.node)
    if node is not None:
        _check_name_and_tenant(node, command, bounds)
    before = len(ledger.index.by_node.get(command.owner.node, ()))
    allocated = allocate(ledger, command, terms)
    assert node is not None  # else it was refused
    if len(ledger.index.by_node[node.name]) > before:
        _check_share(ledger, node, allocated, bounds)
    return allocated


def check_conflict(ledger: Ledger, node: NodeName, reservation: Reservation) -> None:
    """Raises Forbidden unless a node sets aside an address of its own that somebody else has."""
    found = {
        block.base + offset
        for block, offset, _ in ledger.index.on_node(node)
        if block.network == reservation.network
    }
    one = (
        len(reservation.intervals) == 1
        and reservation.intervals[0].stop - reservation.intervals[0].start == 1
    )
    if not one or reservation.intervals[0].start not in found:
        raise Forbidden(
            f"the certificate of node {node!r} may only set aside an address that is allocated "
            "there",
            reason="NOT_THIS_NODE",
            metadata={"node": node},
        )
    own = sum(1 for item in ledger.reservations.values() if item.node == node)
    if own >= CONFLICTS_MOST:
        raise Exhausted(
            f"node {node!r} has set aside {own} addresses: look at them, and delete the "
            "reservations",
            reason="TOO_MANY_CONFLICTS",
            metadata={"node": node},
        )


def may_take(name: EndpointName, node: NodeName, patterns: Sequence[str]) -> bool:
    return (
        name.startswith(f"{node}/")
        or _OF_CNI.fullmatch(name) is not None
        or any(_pattern(pattern).fullmatch(name) for pattern in patterns)
    )


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    """Only "*" has a meaning. `translate` makes what takes no exponential time."""
    return re.compile(translate(text.replace("[", "[[]").replace("?", "[?]")))


def _check_name_and_tenant(node: Node, command: Allocate, bounds: NodeBounds) -> None:
    allowance = node.allowance
    if not may_take(command.name, node.name, (*bounds.names, *allowance.names)):
        raise Forbidden(
            f"the certificate of node {node.name!r} may not take the name {command.name!r}: it may "
            f"take those that begin with '{node.name}/', or that an operator allows by "
            "romana node update --allow-name",
            reason="NAME_NOT_ALLOWED",
            metadata={"node": node.name, "name": command.name},
        )
    if allowance.tenants and command.owner.tenant not in allowance.tenants:
        raise Forbidden(
            f"the certificate of node {node.name!r} may not allocate for tenant "
            f"{command.owner.tenant!r}",
            reason="TENANT_NOT_ALLOWED",
            metadata={"node": node.name, "tenant": command.owner.tenant},
        )


def _check_share(ledger: Ledger, node: Node, allocated: Allocated, bounds: NodeBounds) -> None:
    for network in {address.network for address in allocated.addresses}:
        area = ledger.area_of_node(node, network)
        if area is None:
            continue
        held = sum(
            block.size
            for block in ledger.index.by_node[node.name].values()
            if block.network == network
        )
        most = node.allowance.addresses or _share(ledger, node, area, bounds.share)
        if held > max(most, 1 << area.shift):
            raise Exhausted(
                f"node {node.name!r} would hold {held} addresses of group {area.path!r} on network "
                f"{network!r}, and may hold {most}",
                reason="NODE_SHARE_USED",
                metadata={"node": node.name, "network": network, "most": str(most)},
            )


def _share(ledger: Ledger, node: Node, area: Area, share: float) -> int:
    """Addresses that a node may hold: all of them where it is alone."""
    size = area.stop - area.base
    beside = any(
        other.name != node.name and ledger.area_of_node(other, area.network.name) is area
        for other in ledger.nodes.values()
    )
    return int(size * share) if beside else size
