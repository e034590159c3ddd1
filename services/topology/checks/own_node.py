"""What an agent may say of its own node, and what of a node was said by its agent.

An operator declares a node: what is declared stays until an operator changes it. What nobody has
declared the agent may say, as far as `nodes_may` of the settings goes, and correct later what it
said. An attachment that was declared without interface or address may be completed by the agent.

Which fields the agent said is kept with the node (`Node.self_reported`), so that the two stay apart
however often either of them writes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from services.common.errors import Forbidden, InvalidInput
from services.common.model.description import describe
from services.common.model.layout import Layout
from services.common.model.node import Attachment, Node
from services.topology.checks.nodes import address_field

REGISTER: Final = "register"
ADDRESS: Final = "address"
ATTACHMENTS: Final = "attachments"
FIELDS: Final = (ADDRESS, "other_address", "labels", ATTACHMENTS, "pins")
"""What is said of a node."""
FOR_OPERATORS: Final = tuple(
    field.name
    for field in describe(Node)
    if field.name not in ("name", *FIELDS) and not field.output_only
)
"""What no agent says of its node."""
MAY: Final = (REGISTER, *FIELDS)
"""What the settings may allow to agents."""
AGENTS_MAY: Final = (ADDRESS,)
"""What they may say unless the settings say otherwise."""


def declared(known: Node | None, node: Node) -> Node:
    """The node as an operator said it: what the agent said and the operator changed is declared."""
    if known is None:
        return replace(node, self_reported=())
    changed = {field for field in FIELDS if getattr(node, field) != getattr(known, field)}
    before, after = _parts(known), _parts(node)
    changed |= {name for name, part in after.items() if before.get(name) != part}
    kept = set(known.self_reported) & {*FIELDS, *after} - changed
    return replace(node, self_reported=tuple(sorted(kept)))


def reported(known: Node | None, node: Node, may: Collection[str]) -> Node:
    """The node as its agent said it; raises Forbidden for what it may not say.

    Args:
        known: As it was before.
        node: As it shall be.
        may: Of `MAY`.
    """
    if known is None:
        if REGISTER not in may:
            raise Forbidden(
                f"node {node.name!r} is not registered, and its own certificate may not register "
                "it: an operator does, or allows it to nodes by topology's setting nodes_may",
                reason="NODE_MAY_NOT_SAY",
                metadata={"node": node.name, "field": REGISTER},
            )
        known = Node(node.name)
    for field in FOR_OPERATORS:
        if getattr(node, field) != getattr(known, field):
            raise _forbidden(node, field, "that is for operators")
    said = set(known.self_reported)
    for field in FIELDS:
        before, after = getattr(known, field), getattr(node, field)
        if before == after:
            continue
        was_said = _is_said(field, before) and field not in said
        if field == ATTACHMENTS and was_said:
            said |= _completions(known, node, may)
            continue
        if was_said:
            raise _forbidden(node, field, "an operator declared it")
        if field not in may:
            raise _forbidden(node, field, "topology's setting nodes_may does not name it")
        said.add(field)
    there = {field for field in FIELDS if _is_said(field, getattr(node, field))}
    return replace(node, self_reported=tuple(sorted(said & {*there, *_parts(node)})))


def check_own_addresses(
    known: Node | None, node: Node, networks: Collection[str], layout: Layout
) -> None:
    """Raises InvalidInput if an agent takes an address that is none of its node's to take.

    `networks` are those that the node will be on.
    """
    before = known.addresses if known is not None else ()
    for address in sorted({*node.addresses}.difference(before), key=str):
        at = address_field(node, address)
        for network in layout.networks:
            name = network.name
            if address == network.gateway:
                raise InvalidInput.at(at, f"{address} is the gateway of network {name!r}")
            if address in network.cidr and name not in networks:
                raise InvalidInput.at(
                    at, f"{address} is of network {name!r}, which the node is not on"
                )


def _completions(known: Node, node: Node, may: Collection[str]) -> set[str]:
    """What the agent completed of declared attachments; raises Forbidden if it did more."""
    same = list(map(_bare, known.declared)) == list(map(_bare, node.declared))
    if node.attachments is None or not same:
        raise _forbidden(node, ATTACHMENTS, "an operator declared them")
    before, after = _parts(known), _parts(node)
    completed = {name for name, part in after.items() if before[name] != part}
    for name in sorted(completed):
        if before[name] and name not in known.self_reported:
            raise _forbidden(node, name, "an operator declared it")
        if ADDRESS not in may:
            raise _forbidden(node, name, "topology's setting nodes_may does not name address")
    return completed


def _is_said(field: str, value: object) -> bool:
    """No attachments at all are said, too: that the node is on no network."""
    return value is not None if field == ATTACHMENTS else bool(value)


def _bare(attachment: Attachment) -> Attachment:
    """Without what its agent may complete."""
    return replace(attachment, interface="", address=None)


def _parts(node: Node) -> dict[str, object]:
    """What may be completed of attachments, by name."""
    return {
        f"{ATTACHMENTS}/{attachment.network}/{field}": getattr(attachment, field)
        for attachment in node.declared
        for field in ("interface", "address")
    }


def _forbidden(node: Node, field: str, why: str) -> Forbidden:
    return Forbidden(
        f"the certificate of node {node.name!r} may not say its {field}: {why}",
        reason="NODE_MAY_NOT_SAY",
        metadata={"node": node.name, "field": field},
    )
