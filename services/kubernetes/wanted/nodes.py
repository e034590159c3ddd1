"""Nodes for topology.

    romana.io/attachments   [{"network": "blue", "interface": "eth1.20", "address": "10.20.0.11",
                              "vlan": 20, "parent": "eth1"}]

Without it the agent says on which networks its node is, or else an operator.
"""

from __future__ import annotations

from typing import Final

import msgspec

from services.common.document.values import parse_address
from services.common.errors import Violation
from services.common.model.names import NetworkName, NodeName, interface_name, resource_name
from services.common.model.node import Attachment
from services.kubernetes.objects.metadata import annotation_path
from services.kubernetes.objects.nodes import GROUP_LABEL, Node
from services.kubernetes.wanted.values import WantedNode

ATTACHMENTS: Final = "attachments"
FOLLOWED: Final = "romana.io/followed-from"
"""A label on every node that is here because the API server has it: others are somebody else's."""
KUBERNETES: Final = "kubernetes"


class _Attachment(msgspec.Struct, forbid_unknown_fields=True):
    network: str
    interface: str = ""
    address: str = ""
    vlan: int = 0
    parent: str = ""


_attachments = msgspec.json.Decoder(list[_Attachment])


def node_of(node: Node) -> tuple[WantedNode, list[Violation]]:
    """The node, and what is wrong with the annotations; what is wrong is as if not said."""
    problems: list[Violation] = []
    attachments = _read_attachments(node, problems)
    address = next(iter(node.addresses), None)
    others = (other for other in node.addresses if address and other.version != address.version)
    return (
        WantedNode(
            name=NodeName(node.name),
            address=address,
            other_address=next(others, None),
            labels={
                **{key: text for key, text in node.labels.items() if key != GROUP_LABEL},
                FOLLOWED: KUBERNETES,
            },
            attachments=None if problems else attachments,
        ),
        problems,
    )


def _read_attachments(node: Node, problems: list[Violation]) -> tuple[Attachment, ...] | None:
    text = node.annotations.get(ATTACHMENTS)
    if text is None:
        return None
    at = annotation_path(ATTACHMENTS)
    try:
        parts = _attachments.decode(text)
    except msgspec.MsgspecError as error:
        problems.append(Violation(at, str(error)))
        return None
    found = []
    for number, part in enumerate(parts):
        here = f"{at}[{number}]"
        problems += resource_name(part.network, f"{here}.network")
        if part.interface:
            problems += interface_name(part.interface, f"{here}.interface")
        if part.parent:
            problems += interface_name(part.parent, f"{here}.parent")
        address = None
        if part.address:
            address = parse_address(part.address, f"{here}.address", problems)
        found.append(
            Attachment(NetworkName(part.network), part.interface, address, part.vlan, part.parent)
        )
    return tuple(found)
