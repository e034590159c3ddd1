"""Moving an endpoint to another node while it runs, with its addresses.

    settled > prepared > ready > settled on the other node

It is at every moment on exactly one node, which this says alone: nodes follow. Its addresses stay
in their block, whose node does not change, and *visit* the other node. *Prepared*, the other node
may attach it too. It is *ready* once that has said so, and the node that it is on has said that it
knows and will let go; nothing leads elsewhere before it is *activated*, or that node lets go of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import InvalidInput, NotFound, WrongState
from services.common.model.names import EndpointName, NodeName
from services.common.model.network import Mode
from services.common.model.node import Node
from services.ipam.deciding.commands import (
    AbortMove,
    ActivateMove,
    MoveCommand,
    MoveCost,
    Moving,
    PrepareMove,
    ReportReady,
)
from services.ipam.deciding.unreadable import refuse_unreadable
from services.ipam.ledger.blocks import Block
from services.ipam.ledger.index import allocation
from services.ipam.ledger.ledger import Ledger
from services.ipam.model import Visit

Places = Sequence[tuple[Block, int]]


def carry_out(ledger: Ledger, command: MoveCommand) -> Moving:
    """Raises NotFound, InvalidInput, WrongState and Unavailable; idempotent."""
    places = _places(ledger, command.name)
    refuse_unreadable(ledger, command.name, places)
    match command:
        case PrepareMove():
            return _prepare(ledger, command, places)
        case ReportReady():
            return _report_ready(ledger, command, places)
        case ActivateMove():
            return _activate(ledger, command, places)
        case AbortMove():
            _set(ledger, places, Visit(_visit(places).node))
            return _moving(places)


def where(ledger: Ledger, name: EndpointName) -> Moving:
    """Where a name's endpoint is; raises NotFound."""
    return _moving(_places(ledger, name))


def _places(ledger: Ledger, name: EndpointName) -> Places:
    places = ledger.index.places(name)
    if not places:
        raise NotFound(
            f"{name!r} has no addresses",
            reason="ALLOCATION_NOT_FOUND",
            metadata={"field": "name", "name": name},
        )
    return places


def _moving(places: Places, cost: MoveCost | None = None, before: NodeName | None = None) -> Moving:
    """Where the addresses of a name are."""
    return Moving(
        [allocation(block, offset) for block, offset in places],
        places[0][0].node,
        _visit(places),
        cost,
        before,
    )


def _visit(places: Places) -> Visit:
    """All addresses of a name are in the same place."""
    block, offset = places[0]
    return block.visit(offset)


def _set(ledger: Ledger, places: Places, visit: Visit) -> None:
    for block, offset in places:
        if block.visit(offset) != visit:
            ledger.change_visit(block, offset, visit)


def _prepare(ledger: Ledger, command: PrepareMove, places: Places) -> Moving:
    visit, to = _visit(places), command.to
    node = ledger.nodes.get(to)
    if node is None:
        raise NotFound(
            f"to_node: node {to!r} is not registered",
            reason="NODE_NOT_FOUND",
            metadata={"field": "to_node", "node": to},
        )
    if visit.node == to:
        raise InvalidInput.at("to_node", f"{command.name!r} is on node {to!r} already")
    if visit.to is not None and visit.to != to and visit.to in ledger.nodes:
        raise WrongState(
            f"name: {command.name!r} is moving to node {visit.to!r} already: activate or abort "
            "that first",
            reason="ALREADY_MOVING",
            metadata={"field": "name", "name": command.name, "to_node": visit.to},
        )
    if node.cordoned:
        raise _not_movable(command.name, node, "it is cordoned")
    cost = _cost(ledger, command.name, node, places)
    if not command.only_plan and visit.to != to:
        _set(ledger, places, Visit(visit.node, to))
    return _moving(places, cost)


def _cost(ledger: Ledger, name: EndpointName, node: Node, places: Places) -> MoveCost:
    """What the addresses cost once they are there; WrongState if they cannot be."""
    groups: dict[tuple[str, str], None] = {}
    for block, _ in places:
        net = ledger.networks.get(block.network)
        area = ledger.area_of_node(node, block.network) if net is not None else None
        if net is None or area is None or not node.is_attached(block.network):
            raise _not_movable(name, node, f"it is not on network {block.network!r}")
        if block.area is None:
            raise _not_movable(name, node, f"block {block} is stranded outside of its prefix group")
        if area.path == block.area.path:
            continue
        if net.network.mode is not Mode.ONLINK:
            raise _not_movable(
                name,
                node,
                f"it is in prefix group {area.path!r}, and routers lead block {block} to group "
                f"{block.area.path!r}: network {block.network!r} is routed, not one link",
            )
        groups[block.area.path, area.path] = None
    return MoveCost(
        sum(block.node != node.name for block, _ in places),
        sum(
            any(ledger.area_of_node(each, block.network) is not None for block, _ in places)
            for each in ledger.nodes.values()
        ),
        tuple(groups),
    )


def _report_ready(ledger: Ledger, command: ReportReady, places: Places) -> Moving:
    visit = _visit(places)
    if command.node not in {visit.node, visit.to}:
        raise _not_moving(command.name, command.node, visit)
    if visit.to == command.node:
        _set(ledger, places, visit._replace(ready=True))
    elif visit.to is not None:
        _set(ledger, places, visit._replace(known=True))
    return _moving(places)


def _activate(ledger: Ledger, command: ActivateMove, places: Places) -> Moving:
    visit, to = _visit(places), command.to
    if visit.node == to and visit.to is None:
        return _moving(places)  # it is done
    if visit.to != to:
        raise _not_moving(command.name, to, visit)
    if to not in ledger.nodes:
        raise _not_moving(command.name, to, visit)
    if not (visit.ready or command.force):
        why = f"node {to!r} has not attached {command.name!r} yet, with its rules in force"
        raise _not_ready(command.name, to, why)
    if not (visit.known or command.force):
        why = (
            f"the agent of node {visit.node!r} has not said that it knows of the move of "
            f"{command.name!r}: it is down, or of an earlier version"
        )
        raise _not_ready(command.name, visit.node, why)
    _set(ledger, places, Visit(to))
    return _moving(places, before=visit.node)


def go_on_elsewhere(ledger: Ledger, places: Places) -> bool:
    """The node that it is on has let go of it: it is on the one that has it ready, if one does."""
    visit = _visit(places) if places else None
    if visit is None or visit.to is None or not visit.ready or visit.to not in ledger.nodes:
        return False
    _set(ledger, places, Visit(visit.to))
    return True


def _not_moving(name: EndpointName, to: NodeName, visit: Visit) -> WrongState:
    going = f", and is moving to node {visit.to!r}" if visit.to is not None else ""
    return WrongState(
        f"to_node: {name!r} is not moving to node {to!r}: it is on node {visit.node!r}{going}",
        reason="NOT_MOVING",
        metadata={"field": "to_node", "name": name, "node": visit.node},
    )


def _not_ready(name: EndpointName, node: NodeName, why: str) -> WrongState:
    return WrongState(
        f"to_node: {why}",
        reason="NOT_READY",
        metadata={"field": "to_node", "name": name, "node": node},
    )


def _not_movable(name: EndpointName, node: Node, why: str) -> WrongState:
    return WrongState(
        f"to_node: {name!r} cannot move to node {node.name!r}: {why}",
        reason="NOT_MOVABLE",
        metadata={"field": "to_node", "name": name, "node": node.name},
    )
