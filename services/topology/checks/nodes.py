"""Reads and checks nodes: on their own, against the networks there are, and against each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from services.common.document.fields import Fields
from services.common.document.models import choice, given, ignore_output, read
from services.common.model.layout import Layout
from services.common.model.names import (
    NetworkName,
    endpoint_name,
    interface_name,
    labels,
    subject_name,
)
from services.common.model.network import Address, Mode, Network
from services.common.model.node import Attachment, Node, NodeAllowance
from services.topology.checks.networks import check_vlan_id, edge
from services.topology.model.spec import EmptyAttachments, NodeSpec

MAX_LABELS = 256
MAX_ATTACHMENTS = 4096
MAX_NAME_PATTERNS = 100
MAX_TENANTS = 1000
_EMPTY_IS_UNSAID = ("address", "other_address", "labels")


def read_node(
    fields: Fields,
    networks: Mapping[str, Network | None],
    *,
    listed: bool = False,
    known: Node | None = None,
) -> NodeSpec:
    """Reads and checks a node; the findings have what is wrong with it.

    A network that maps to None is known to be wrong itself. A node that is `listed` in a file may
    leave out its address if it is known already. An attachment that is as it is `known` is held to
    nothing that its network says by now: a change of networks must not keep a node from being
    cordoned.
    """
    parts = list(fields.parts("attachments"))
    if len(parts) > MAX_ATTACHMENTS:
        fields.wrong("attachments", f"more than {MAX_ATTACHMENTS} attachments")
    attachments = _read_attachments(parts, networks, known.declared if known else ())
    empty_name = fields.spelled("empty_attachments", "emptyAttachments")
    empty = choice(fields, empty_name, EmptyAttachments, EmptyAttachments.NOT_SAID)
    nowhere = empty is EmptyAttachments.NO_NETWORK
    everywhere = not (attachments or nowhere)
    ignore_output(fields, "networks", "etag")
    node = read(Node, fields, attachments=None if everywhere else tuple(attachments.values()))
    fields.add(subject_name(node.name, fields.path("name")))
    fields.add(labels(node.labels, fields.path("labels")))
    if len(node.labels) > MAX_LABELS:
        fields.wrong("labels", f"more than {MAX_LABELS} labels on one node")
    if not _may_be_host(node.address, "address", fields):
        node = replace(node, address=None)
    if not _may_be_host(node.other_address, "other_address", fields):
        node = replace(node, other_address=None)
    _check_families(node, fields)
    bare = everywhere or any(part.is_empty("address") for part in parts)
    if fields.is_empty("address") and bare and not (listed and everywhere):
        fields.wrong("address", "is missing; it may be left out if every attachment has an address")
    if listed and nowhere and not attachments:
        fields.wrong("empty_attachments", "a node that is listed in a group is on its networks")
    if node.allowance != NodeAllowance():
        _check_allowance(node.allowance, fields.part("allowance"))
    said = {*given(Node, fields), *(["attachments"] if empty.value else [])}
    unsaid = {name for name in _EMPTY_IS_UNSAID if not getattr(node, name)}
    if empty is EmptyAttachments.NOT_SAID and not attachments:
        unsaid.add("attachments")
    return NodeSpec(node, fields.path("address"), frozenset(said - unsaid - {"name", "pins"}))


def check_pins(node: Node, layout: Layout, fields: Fields) -> None:
    """Checks that each pin names a leaf of a topology that there is."""
    leaves = {
        topology.name: {leaf.path for leaf in topology.leaves()}
        for topology in layout.topologies
        if topology.name in node.pins
    }
    for topology, path in node.pins.items():
        at = fields.key_path("pins", topology)
        if topology not in leaves:
            fields.findings.wrong(at, f"there is no topology {topology[:80]!r}")
        elif path not in leaves[topology]:
            fields.findings.wrong(
                at,
                f"{path[:300]!r} is not the path of a group that takes nodes; a path is like "
                f"{min(leaves[topology])!r}",
            )


def address_field(node: Node, address: Address) -> str:
    """The field path of a node's address in a request."""
    if address == node.address:
        return "node.address"
    if address == node.other_address:
        return "node.other_address"
    number = [attachment.address for attachment in node.declared].index(address)
    return f"node.attachments[{number}].address"


def _check_families(node: Node, fields: Fields) -> None:
    """The main addresses are one of each family."""
    if node.address is None or node.other_address is None:
        return
    if node.address.version == node.other_address.version:
        fields.wrong(
            fields.spelled("other_address", "otherAddress"),
            f"{node.other_address} is of the same family as the address {node.address}",
        )


def _check_allowance(allowance: NodeAllowance, fields: Fields) -> None:
    for name, items, most in (
        ("names", allowance.names, MAX_NAME_PATTERNS),
        ("tenants", allowance.tenants, MAX_TENANTS),
    ):
        if len(items) > most:
            fields.wrong(name, f"more than {most}")
    for number, pattern in enumerate(allowance.names[:MAX_NAME_PATTERNS]):
        fields.add(endpoint_name(pattern, fields.path(f"names[{number}]")))
    for number, tenant in enumerate(allowance.tenants[:MAX_TENANTS]):
        fields.add(subject_name(tenant, fields.path(f"tenants[{number}]")))
    if allowance.addresses < 0:
        fields.wrong("addresses", f"{allowance.addresses} is less than none")


def _read_attachments(
    parts: Iterable[Fields],
    networks: Mapping[str, Network | None],
    known: Collection[Attachment],
) -> dict[NetworkName, Attachment]:
    found: dict[NetworkName, Attachment] = {}
    for part in parts:
        attachment = _read_attachment(part, networks, known)
        if attachment.network in found:
            part.wrong("network", f"there is another attachment to network {attachment.network!r}")
        else:
            found[attachment.network] = attachment
    return found


def _read_attachment(
    fields: Fields, networks: Mapping[str, Network | None], known: Collection[Attachment]
) -> Attachment:
    attachment = read(Attachment, fields, spelled={"vlan_id": "vlan"})
    network = None if attachment in known else networks.get(attachment.network)
    if attachment.network not in networks:
        fields.wrong("network", f"there is no network {attachment.network[:80]!r}")
    for name in ("interface", "parent_interface"):
        if text := getattr(attachment, name):
            fields.add(interface_name(text, fields.path(name)))
    if not _may_be_host(attachment.address, "address", fields):
        attachment = replace(attachment, address=None)
    if attachment.address is not None and network is not None:
        _check_address_on(attachment.address, network, fields)
    if not _check_vlan(attachment, network, fields):
        attachment = replace(attachment, vlan_id=0)
    return attachment


def _check_vlan(attachment: Attachment, network: Network | None, fields: Fields) -> bool:
    """Says whether the id itself is one."""
    vlan_id = attachment.vlan_id
    sound = check_vlan_id(vlan_id, fields)
    if sound and network is not None and network.vlan_id and vlan_id not in (0, network.vlan_id):
        fields.wrong(
            "vlan_id", f"{vlan_id} is not that of network {network.name!r}, {network.vlan_id}"
        )
    if attachment.parent_interface and not attachment.interface:
        fields.wrong("interface", "is missing: it names the link to make on the parent")
    if attachment.parent_interface and not vlan_id:
        fields.wrong("vlan_id", "is missing: it is needed to make a link on the parent")
    return sound


def _may_be_host(address: Address | None, name: str, fields: Fields) -> bool:
    if address is None:
        return True
    limited = isinstance(address, IPv4Address) and int(address) == 0xFFFFFFFF
    if address.is_unspecified or address.is_multicast or address.is_loopback or limited:
        fields.wrong(name, f"{address} cannot be the address of a node")
        return False
    return True


def _check_address_on(address: Address, network: Network, fields: Fields) -> None:
    if address.version != network.cidr.version:
        fields.wrong(
            "address",
            f"{address} is not of the family of network {network.name!r}, "
            f"IPv{network.cidr.version}",
        )
    elif address == network.gateway:
        fields.wrong("address", f"{address} is the gateway of network {network.name!r}")
    elif network.mode is Mode.ONLINK and address not in network.cidr:
        fields.wrong(
            "address",
            f"{address} is outside of {network.cidr}: on network {network.name!r} nodes and "
            "endpoints are on one link",
        )
    elif network.mode is Mode.ONLINK and (what := edge(address, network.cidr)):
        fields.wrong("address", f"{address} is {what}")
