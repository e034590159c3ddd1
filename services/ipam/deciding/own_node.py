"""What a node's own certificate may take: names, tenants, addresses, and reservations of conflicts.

What was allocated for the node by others, such as a scheduler, it gets whatever it is called and
whoever it is for. The bounds are on what it takes by itself, so that a machine that was broken into
does not take what others would need: their names, or all addresses of its rack.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Final

from services.common.errors import AlreadyExists, Exhausted, Forbidden
from services.common.model.names import EndpointName, NodeName
from services.common.model.node import Node
from services.ipam.deciding import allocation
from services.ipam.ledger.areas import Area
from services.ipam.ledger.ground import Reservation
from services.ipam.ledger.state import State
from services.ipam.model import Allocated, Request

CONFLICTS_MOST: Final = 32
"""Addresses that a node may have set aside: beyond that somebody has to look."""
SHARE: Final = 0.75

_OF_CNI: Final = re.compile(r"[^/]+/[0-9a-f]{32,128}/[^/]+")
"""Network, container and interface. A container's id is long and drawn at random, so that nobody
can take it before its container is there."""


@dataclass(frozen=True, slots=True)
class NodeBounds:
    """What holds for every node; its allowance counts besides."""

    names: Sequence[str] = ()
    """Patterns of names that every node may take."""
    share: float = SHARE
    """Of its group's addresses, that a node may hold where there are other nodes."""


def allocate(state: State, request: Request, bounds: NodeBounds, now: int, stamp: int) -> Allocated:
    """As `allocation.allocate`, within what the node may take.

    Raises besides: Forbidden for a name or tenant, AlreadyExists for a name of another node without
    saying whose, Exhausted if the node would hold more than its share.
    """
    places = state.index.places(request.name)
    if places:
        if places[0][0].node != request.node:
            raise AlreadyExists(
                f"{request.name!r} has addresses already, elsewhere",
                reason="NAME_TAKEN",
                metadata={"name": request.name},
            )
        return allocation.allocate(state, request, now, stamp)
    node = state.nodes.get(request.node)
    if node is not None:
        _check_request(node, request, bounds)
    before = len(state.index.by_node.get(request.node, ()))
    mark = state.mark()
    allocated = allocation.allocate(state, request, now, stamp)
    assert node is not None  # else it was refused
    if len(state.index.by_node[node.name]) > before:
        try:
            _check_share(state, node, allocated, bounds)
        except Exhausted:
            state.rollback(mark)
            raise
    return allocated


def check_conflict(state: State, node: NodeName, wanted: Reservation) -> None:
    """Raises Forbidden unless a node sets aside an address of its own that somebody else has."""
    found = {
        block.base + offset
        for block in state.index.by_node.get(node, {}).values()
        if block.network == wanted.network
        for offset, _ in block.in_use()
    }
    one = len(wanted.intervals) == 1 and wanted.intervals[0].stop - wanted.intervals[0].start == 1
    if not one or wanted.intervals[0].start not in found:
        raise Forbidden(
            f"the certificate of node {node!r} may only set aside an address that is allocated "
            "there",
            reason="NOT_THIS_NODE",
            metadata={"node": node},
        )
    own = sum(1 for item in state.reservations.values() if item.node == node)
    if own >= CONFLICTS_MOST:
        raise Exhausted(
            f"node {node!r} has set aside {own} addresses: look at them, and delete the "
            "reservations",
            reason="TOO_MANY_CONFLICTS",
            metadata={"node": node},
        )


def may_take(name: EndpointName, node: NodeName, patterns: Sequence[str]) -> bool:
    """Says whether an endpoint of the node may have the name."""
    return (
        name.startswith(f"{node}/")
        or _OF_CNI.fullmatch(name) is not None
        or any(_pattern(pattern).fullmatch(name) for pattern in patterns)
    )


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    """Only "*" has a meaning. `translate` makes what takes no exponential time."""
    return re.compile(translate(text.replace("[", "[[]").replace("?", "[?]")))


def _check_request(node: Node, request: Request, bounds: NodeBounds) -> None:
    allowance = node.allowance
    if not may_take(request.name, node.name, (*bounds.names, *allowance.names)):
        raise Forbidden(
            f"the certificate of node {node.name!r} may not take the name {request.name!r}: it may "
            f"take those that begin with '{node.name}/', or that an operator allows by "
            "romana node update --allow-name",
            reason="NAME_NOT_ALLOWED",
            metadata={"node": node.name, "name": request.name},
        )
    if allowance.tenants and request.tenant not in allowance.tenants:
        raise Forbidden(
            f"the certificate of node {node.name!r} may not allocate for tenant {request.tenant!r}",
            reason="TENANT_NOT_ALLOWED",
            metadata={"node": node.name, "tenant": request.tenant},
        )


def _check_share(state: State, node: Node, allocated: Allocated, bounds: NodeBounds) -> None:
    for network in {given.network for given in allocated.given}:
        area = state.area_of_node(node, network)
        if area is None:
            continue
        held = sum(
            block.size
            for block in state.index.by_node[node.name].values()
            if block.network == network
        )
        most = node.allowance.addresses or _share(state, node, area, bounds.share)
        if held > max(most, 1 << area.shift):
            raise Exhausted(
                f"node {node.name!r} would hold {held} addresses of group {area.path!r} on network "
                f"{network!r}, and may hold {most}",
                reason="NODE_SHARE_USED",
                metadata={"node": node.name, "network": network, "most": str(most)},
            )


def _share(state: State, node: Node, area: Area, share: float) -> int:
    """Addresses that a node may hold: all of them where it is alone."""
    size = area.stop - area.base
    beside = any(
        other.name != node.name and state.area_of_node(other, area.network.name) is area
        for other in state.nodes.values()
    )
    return int(size * share) if beside else size
