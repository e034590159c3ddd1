"""What a change of the topology or of a node would do, before it is done.

A plan applied is what was asked for; planned again, there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.common.errors import AlreadyExists, InvalidInput, Violation
from services.common.model.layout import Layout
from services.common.model.names import NodeName
from services.common.model.network import Address
from services.common.model.node import Node
from services.topology.checks.own_node import declared
from services.topology.layout.attachments import (
    AttachmentChange,
    attachment_changes,
    carried,
)
from services.topology.layout.carving import carve
from services.topology.layout.diff import (
    GroupChange,
    NetworkChange,
    NodeMove,
    group_changes,
    network_changes,
    node_moves,
)
from services.topology.layout.node_index import NodeIndex
from services.topology.layout.placement import Placer
from services.topology.layout.stranded import stranded_blocks
from services.topology.layout.usage import BlockUse
from services.topology.model.spec import NodeSpec, Spec


@dataclass(frozen=True, slots=True)
class Plan:
    """A change and all that follows from it."""

    layout: Layout
    nodes: tuple[Node, ...] = ()
    """Those to write, as they will be."""
    networks: tuple[NetworkChange, ...] = ()
    groups: tuple[GroupChange, ...] = ()
    moves: tuple[NodeMove, ...] = ()
    attachments: tuple[AttachmentChange, ...] = ()
    """To networks whose VLAN, gateway, MTU or mode changes."""
    stranded: tuple[BlockUse, ...] = ()
    """In use and in order now, but not after the change."""

    @property
    def stranded_addresses(self) -> int:
        return sum(block.used for block in self.stranded)


def plan_topology(
    spec: Spec,
    previous: Layout,
    nodes: Mapping[NodeName, Node],
    blocks: Iterable[BlockUse],
    *,
    now: int,
    problems: Sequence[Violation] = (),
) -> Plan:
    """Plans to make the topology that of the spec.

    `nodes` are all there are, in the order in which they are placed. `problems` are those that the
    check of the spec found. Raises InvalidInput with these and all others.
    """
    found = list(problems)
    layout = carve(spec, previous, found)
    merged = _listed(spec.nodes, nodes, now, found)
    if found:
        raise InvalidInput.of(found)
    placed = placed_anew(layout, {**nodes, **merged})
    for node in merged.values():
        after = placed.get(node.name, node)
        if node.name not in nodes and not after.placements:
            raise Placer(layout).nowhere(node)
    after_nodes = {**nodes, **merged, **placed}
    return Plan(
        layout=layout,
        nodes=tuple(node for name, node in after_nodes.items() if nodes.get(name) != node),
        networks=tuple(network_changes(previous, layout)),
        groups=tuple(group_changes(previous, layout)),
        moves=tuple(node_moves(nodes, after_nodes)),
        attachments=tuple(attachment_changes(previous, layout, nodes, after_nodes)),
        stranded=tuple(stranded_blocks(previous, nodes, layout, after_nodes, blocks)),
    )


def plan_node(
    node: Node,
    known: Node | None,
    layout: Layout,
    node_index: NodeIndex,
    blocks: Iterable[BlockUse],
) -> Plan:
    """Plans to add a node, or to replace `known`; raises WrongState if it fits nothing at all.

    `node_index` has all nodes, and `blocks` are those in use on this one. The work does not depend
    on how many other nodes there are.
    """
    after = replace(node, placements=node_index.place(node))
    if not after.placements and after.attachments != ():
        raise node_index.placer.nowhere(node)
    if after == known:
        return Plan(layout)
    was = {known.name: known} if known is not None else {}
    will_be = {after.name: after}
    return Plan(
        layout=layout,
        nodes=(after,),
        moves=tuple(node_moves(was, will_be)),
        stranded=tuple(stranded_blocks(layout, was, layout, will_be, blocks)) if was else (),
    )


def placed_anew(layout: Layout, nodes: Mapping[NodeName, Node]) -> dict[NodeName, Node]:
    """The nodes that have to change for the layout: placed anew, without pins to what is gone, and
    attached by the VLANs that networks have."""
    networks = {network.name: network for network in layout.networks}
    kept = {
        topology.name: {leaf.path for leaf in topology.leaves()} for topology in layout.topologies
    }
    node_index = NodeIndex(layout, nodes.values())
    changed: dict[NodeName, Node] = {}
    for name, node in nodes.items():
        pins = {t: path for t, path in node.pins.items() if path in kept.get(t, ())}
        attached = carried(node, networks)
        if node_index.placer.is_in_place(node) and pins == node.pins:
            if attached is not node:
                changed[name] = attached
            continue
        node_index.remove(node)
        changed[name] = replace(attached, pins=pins, placements=node_index.place(node))
        node_index.add(changed[name])
    return changed


def holders(nodes: Iterable[Node]) -> dict[Address, NodeName]:
    """Which node has which address."""
    return {address: node.name for node in nodes for address in node.addresses}


def address_taken(address: Address, node: NodeName, holder: NodeName, field: str) -> AlreadyExists:
    return AlreadyExists(
        f"{address} of node {node!r} is an address of node {holder!r} already",
        reason="NODE_ADDRESS_TAKEN",
        metadata={"node": node, "address": str(address), "holder": holder, "field": field},
    )


def _listed(
    listed: Sequence[NodeSpec], nodes: Mapping[NodeName, Node], now: int, problems: list[Violation]
) -> dict[NodeName, Node]:
    """The nodes that the spec lists, merged with what is known; what it leaves out stays."""
    held = holders(nodes.values())
    merged: dict[NodeName, Node] = {}
    for entry in listed:
        node = entry.node
        known = nodes.get(node.name)
        if known is None:
            wrong = any(problem.path == entry.address_at for problem in problems)
            if node.address is None and node.attachments is None and not wrong:
                problems.append(
                    Violation(entry.address_at, f"is missing, and no node {node.name!r} is known")
                )
            merged[node.name] = replace(node, create_time=now)
        else:
            for said, had in (
                (node.address, known.address),
                (node.other_address, known.other_address),
            ):
                if said is not None and had not in (None, said):
                    message = f"node {node.name!r} is known with the address {had}"
                    problems.append(Violation(entry.address_at, message))
            merged[node.name] = declared(known, entry.over(known))
        problems.extend(
            Violation(
                entry.address_at,
                f"{address} is the address of node {held[address]!r} already",
            )
            for address in sorted(node.addresses, key=str)
            if held.get(address, node.name) != node.name
        )
    return merged
