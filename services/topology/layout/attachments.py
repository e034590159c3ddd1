"""A network that gets another VLAN takes the attachments to it along. Pure.

An attachment's VLAN is its network's, if that has one. Where the agent makes the link, its name
follows too if the VLAN is in it, so that the new link can be made before the old one goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from services.common.model.layout import Layout
from services.common.model.names import NetworkName, NodeName
from services.common.model.network import Network
from services.common.model.node import Attachment, Node

CONCERNING: Final = frozenset({"vlan_id", "gateway", "mtu", "mode"})
"""Fields of a network by which the nodes on it have to change something."""
_NAME_MOST: Final = 15
"""Characters of an interface's name (Linux, IFNAMSIZ)."""


@dataclass(frozen=True, slots=True)
class AttachmentChange:
    """An attachment to a network that changes."""

    node: NodeName
    network: NetworkName
    before: Attachment
    after: Attachment


def carried(node: Node, networks: Mapping[NetworkName, Network]) -> Node:
    """The node with its attachments on the VLANs of their networks."""
    if not node.attachments:
        return node
    attachments = tuple(
        _on_vlan_of(networks[item.network], item) if item.network in networks else item
        for item in node.attachments
    )
    return node if attachments == node.attachments else replace(node, attachments=attachments)


def attachment_changes(
    before: Layout,
    after: Layout,
    nodes: Mapping[NodeName, Node],
    nodes_after: Mapping[NodeName, Node],
) -> Iterator[AttachmentChange]:
    """The attachments to networks that change in what their nodes have to do, by node."""
    old = {network.name: network for network in before.networks}
    concerned = {
        network.name
        for network in after.networks
        if (was := old.get(network.name)) is not None
        and any(getattr(was, name) != getattr(network, name) for name in CONCERNING)
    }
    if not concerned:
        return
    for name, node in sorted(nodes_after.items()):
        known = nodes.get(name)
        if known is None:
            continue
        had = {item.network: item for item in known.declared}
        for item in node.declared:
            if item.network in concerned and item.network in had:
                yield AttachmentChange(name, item.network, had[item.network], item)


def _on_vlan_of(network: Network, attachment: Attachment) -> Attachment:
    old, new = attachment.vlan_id, network.vlan_id
    if not (old and new) or old == new:
        return attachment
    interface = attachment.interface
    if attachment.parent_interface:
        interface = _renamed(interface, str(old), str(new))
    return replace(attachment, vlan_id=new, interface=interface)


def _renamed(interface: str, old: str, new: str) -> str:
    """`eth1.30` and `vlan30` are called by their VLANs; other names stay."""
    stem = interface.removesuffix(old)
    made = stem + new
    named_so = stem != interface and not stem[-1:].isdigit()
    return made if named_so and len(made) <= _NAME_MOST else interface
