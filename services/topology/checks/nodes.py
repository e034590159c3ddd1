"""Checks nodes: on their own, against the networks there are, and against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address

from services.common.document.values import parse_address
from services.common.errors import Violation
from services.common.model.layout import Layout
from services.common.model.names import (
    GroupPath,
    NetworkName,
    NodeName,
    Tenant,
    TopologyName,
    endpoint_name,
    interface_name,
    labels,
    subject_name,
)
from services.common.model.network import Address, Mode, Network
from services.common.model.node import Attachment, Node, NodeAllowance
from services.topology.checks.networks import check_vlan_id, edge
from services.topology.model.draft import (
    AllowanceDraft,
    AttachmentDraft,
    EmptyAttachments,
    NodeDraft,
)

MAX_LABELS = 256
MAX_ATTACHMENTS = 4096
MAX_NAME_PATTERNS = 100
MAX_TENANTS = 1000

Naming = Callable[[str, str], str]
"""Makes the field path of a field of the part at a path."""


def check_node(
    draft: NodeDraft,
    networks: Mapping[str, Network | None],
    naming: Naming,
    problems: list[Violation],
    *,
    listed: bool = False,
) -> Node:
    """The node without placements, as far as it is sound.

    A network that maps to None is known to be wrong itself. A node that is `listed` in a file may
    leave out its address if it is known already.
    """
    problems.extend(subject_name(draft.name, naming(draft.at, "name")))
    problems.extend(labels(draft.labels, naming(draft.at, "labels")))
    if len(draft.labels) > MAX_LABELS:
        problems.append(
            Violation(naming(draft.at, "labels"), f"more than {MAX_LABELS} labels on one node")
        )
    if len(draft.attachments) > MAX_ATTACHMENTS:
        problems.append(
            Violation(naming(draft.at, "attachments"), f"more than {MAX_ATTACHMENTS} attachments")
        )
    at = naming(draft.at, "address")
    address = _host(draft.address, at, problems) if draft.address else None
    attachments: dict[NetworkName, Attachment] = {}
    for part in draft.attachments:
        attachment = _attachment(part, networks, naming, problems)
        if attachment.network in attachments:
            problems.append(
                Violation(
                    naming(part.at, "network"),
                    f"there is another attachment to network {part.network!r}",
                )
            )
        else:
            attachments[attachment.network] = attachment
    nowhere = draft.empty_attachments is EmptyAttachments.NO_NETWORK
    everywhere = not (attachments or nowhere)
    bare = everywhere or any(not part.address for part in draft.attachments)
    if not draft.address and bare and not (listed and everywhere):
        problems.append(
            Violation(at, "is missing; it may be left out if every attachment has an address")
        )
    if listed and nowhere and not attachments:
        problems.append(
            Violation(
                naming(draft.at, "empty_attachments"),
                "a node that is listed in a group is on its networks",
            )
        )
    return Node(
        name=NodeName(draft.name),
        address=address,
        labels=dict(draft.labels),
        attachments=None if everywhere else tuple(attachments.values()),
        pins={TopologyName(name): GroupPath(path) for name, path in draft.pins.items()},
        allowance=_allowance(draft.allowance, naming, problems),
    )


def check_pins(node: Node, layout: Layout, at: str, problems: list[Violation]) -> None:
    """Checks that each pin names a leaf of a topology that there is."""
    leaves = {
        topology.name: {leaf.path for leaf in topology.leaves()}
        for topology in layout.topologies
        if topology.name in node.pins
    }
    for topology, path in node.pins.items():
        if topology not in leaves:
            problems.append(
                Violation(f"{at}[{topology[:80]!r}]", f"there is no topology {topology[:80]!r}")
            )
        elif path not in leaves[topology]:
            problems.append(
                Violation(
                    f"{at}[{topology!r}]",
                    f"{path[:300]!r} is not the path of a group that takes nodes; a path is like "
                    f"{min(leaves[topology])!r}",
                )
            )


def addresses(node: Node) -> set[Address]:
    """Every address that the node has; no two nodes may have one in common."""
    own = {attachment.address for attachment in node.declared}
    return {address for address in (*own, node.address) if address is not None}


def address_field(node: Node, address: Address) -> str:
    """The field path of a node's address in a request."""
    for number, attachment in enumerate(node.declared):
        if attachment.address == address != node.address:
            return f"node.attachments[{number}].address"
    return "node.address"


def _allowance(
    draft: AllowanceDraft | None, naming: Naming, problems: list[Violation]
) -> NodeAllowance:
    if draft is None:
        return NodeAllowance()
    for name, items, most in (
        ("names", draft.names, MAX_NAME_PATTERNS),
        ("tenants", draft.tenants, MAX_TENANTS),
    ):
        if len(items) > most:
            problems.append(Violation(naming(draft.at, name), f"more than {most}"))
    for number, pattern in enumerate(draft.names[:MAX_NAME_PATTERNS]):
        problems.extend(endpoint_name(pattern, f"{naming(draft.at, 'names')}[{number}]"))
    for number, tenant in enumerate(draft.tenants[:MAX_TENANTS]):
        problems.extend(subject_name(tenant, f"{naming(draft.at, 'tenants')}[{number}]"))
    return NodeAllowance(draft.names, tuple(map(Tenant, draft.tenants)), draft.addresses)


def _attachment(
    draft: AttachmentDraft,
    networks: Mapping[str, Network | None],
    naming: Naming,
    problems: list[Violation],
) -> Attachment:
    def at(name: str) -> str:
        return naming(draft.at, name)

    network = networks.get(draft.network)
    if draft.network not in networks:
        problems.append(Violation(at("network"), f"there is no network {draft.network[:80]!r}"))
    for name, text in (
        ("interface", draft.interface),
        ("parent_interface", draft.parent_interface),
    ):
        if text:
            problems.extend(interface_name(text, at(name)))
    address = _host(draft.address, at("address"), problems) if draft.address else None
    if address is not None and network is not None:
        _fits(address, network, at("address"), problems)
    sound = _vlan(draft, network, naming, problems)
    return Attachment(
        network=NetworkName(draft.network),
        interface=draft.interface,
        address=address,
        vlan_id=draft.vlan_id if sound else 0,
        parent_interface=draft.parent_interface,
    )


def _vlan(
    draft: AttachmentDraft, network: Network | None, naming: Naming, problems: list[Violation]
) -> bool:
    at = naming(draft.at, "vlan_id")
    sound = check_vlan_id(draft.vlan_id, at, problems)
    vlan_id = network.vlan_id if network is not None else 0
    if sound and vlan_id and draft.vlan_id not in (0, vlan_id):
        problems.append(
            Violation(at, f"{draft.vlan_id} is not that of network {draft.network!r}, {vlan_id}")
        )
    if draft.parent_interface and not draft.interface:
        problems.append(
            Violation(
                naming(draft.at, "interface"),
                "is missing: it names the link to make on the parent",
            )
        )
    if draft.parent_interface and not draft.vlan_id:
        problems.append(Violation(at, "is missing: it is needed to make a link on the parent"))
    return sound


def _host(text: str, at: str, problems: list[Violation]) -> Address | None:
    address = parse_address(text, at, problems)
    if address is None:
        return None
    limited = isinstance(address, IPv4Address) and int(address) == 0xFFFFFFFF
    if address.is_unspecified or address.is_multicast or limited:
        problems.append(Violation(at, f"{address} cannot be the address of a node"))
        return None
    return address


def _fits(address: Address, network: Network, at: str, problems: list[Violation]) -> None:
    if address.version != network.cidr.version:
        problems.append(
            Violation(
                at,
                f"{address} is not of the family of network {network.name!r}, "
                f"IPv{network.cidr.version}",
            )
        )
    elif address == network.gateway:
        problems.append(Violation(at, f"{address} is the gateway of network {network.name!r}"))
    elif network.mode is Mode.ONLINK and (what := edge(address, network.cidr)):
        problems.append(Violation(at, f"{address} is {what}"))
