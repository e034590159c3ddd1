"""Reads topology files into drafts: YAML, JSON, and the JSON of Romana 2, told apart by content.

    networks:
      - {name: test, cidr: 10.20.0.0/16, vlan: 20, gateway: 10.20.0.1, mode: onlink,
         tenants: [test], reuse_delay: 30s}
    topologies:
      - networks: [test]
        groups:
          - name: rack-1
            assignment: {rack: rack-1}
            nodes:
              - {name: node-1, address: 192.0.2.11}
              - node-2                                # known already

The fields are those of the API. Field paths in errors are those of the file; unknown fields are
errors. All values are taken as the text that is written, see `tree`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from services.common.document.fields import Fields, Findings
from services.common.document.tree import (
    Items,
    Scalar,
    Table,
    Tree,
    read_json,
    read_tree,
    read_yaml,
)
from services.common.model.network import Isolation, Mode, Placement
from services.topology.forms import romana_v2
from services.topology.model.draft import (
    AllowanceDraft,
    AttachmentDraft,
    EmptyAttachments,
    GroupDraft,
    NetworkDraft,
    NodeDraft,
    SpecDraft,
    TopologyDraft,
)

MAX_DEPTH = 40
"""Groups in groups; more than `check` allows, so that it says so."""


class Format(StrEnum):
    """How a document is written."""

    YAML = "yaml"
    JSON = "json"
    ROMANA_V2 = "romana_v2"


@dataclass(frozen=True, slots=True)
class Document:
    """A topology file as read."""

    draft: SpecDraft
    findings: Findings
    """Its problems so far, and the lines of its fields."""


def read_document(text: str, form: Format | None = None) -> Document:
    """Reads a topology file.

    Args:
        text: at most 8 MiB.
        form: None: told by the content.

    Raises:
        InvalidInput: it is not YAML or JSON at all; says line and column.
    """
    tree = _parse(text, form)
    findings = Findings()
    if form is Format.ROMANA_V2 or (form is None and _is_romana_v2(tree)):
        return Document(romana_v2.read(tree, findings), findings)
    return Document(_spec(tree, findings), findings)


def _parse(text: str, form: Format | None) -> Tree:
    if form is Format.YAML:
        return read_yaml(text)
    if form is not None:
        return read_json(text.removeprefix("\ufeff"))
    return read_tree(text)


def _is_romana_v2(tree: Tree) -> bool:
    """Only Romana 2 has `map` and `block_mask`."""
    if not isinstance(tree, Table):
        return False

    def any_has(name: str, field: str) -> bool:
        items = tree.items.get(name)
        return isinstance(items, Items) and any(
            isinstance(item, Table) and field in item.items for item in items.items
        )

    return any_has("topologies", "map") or any_has("networks", "block_mask")


def _spec(tree: Tree, findings: Findings) -> SpecDraft:
    fields = Fields(tree, "", findings)
    spec = SpecDraft(
        networks=tuple(_network(item, at, findings) for item, at in fields.each("networks")),
        topologies=tuple(_topology(item, at, findings) for item, at in fields.each("topologies")),
    )
    fields.end()
    return spec


def _network(tree: Tree, at: str, findings: Findings) -> NetworkDraft:
    fields = Fields(tree, at, findings)
    network = NetworkDraft(
        at=at,
        name=fields.text("name"),
        cidr=fields.text("cidr"),
        block_length=fields.number("block_length") or 0,
        tenants=fields.texts("tenants"),
        vlan_id=fields.number("vlan_id", "vlan") or 0,
        gateway=fields.text("gateway"),
        mtu=fields.number("mtu") or 0,
        mode=fields.choice("mode", Mode, Mode.ROUTED, "routed, onlink"),
        placement=fields.choice(
            "placement", Placement, Placement.AGGREGATE, "aggregate, sequential"
        ),
        reuse_delay=fields.duration("reuse_delay"),
        isolation=fields.choice("isolation", Isolation, Isolation.NONE, "none, tenant, segment"),
        masquerade=fields.truth("masquerade"),
    )
    fields.end()
    return network


def _topology(tree: Tree, at: str, findings: Findings) -> TopologyDraft:
    fields = Fields(tree, at, findings)
    topology = TopologyDraft(
        at=at,
        name=fields.text("name"),
        networks=fields.texts("networks"),
        groups=_groups(fields, findings, 1),
        slots=fields.number("slots") or 0,
    )
    fields.end()
    return topology


def _groups(fields: Fields, findings: Findings, depth: int) -> tuple[GroupDraft, ...]:
    if depth > MAX_DEPTH:
        fields.ignore("groups")
        return ()
    return tuple(_group(item, at, findings, depth) for item, at in fields.each("groups"))


def _group(tree: Tree, at: str, findings: Findings, depth: int) -> GroupDraft:
    fields = Fields(tree, at, findings)
    group = GroupDraft(
        at=at,
        name=fields.text("name"),
        assignment=fields.mapping("assignment"),
        routing=fields.text("routing"),
        weight=fields.number("weight") or 0,
        prefixes=fields.mapping("prefixes"),
        groups=_groups(fields, findings, depth + 1),
        nodes=tuple(_node(item, place, findings) for item, place in fields.each("nodes")),
        slots=fields.number("slots") or 0,
        slot=fields.number("slot"),
    )
    fields.end()
    return group


def _node(tree: Tree, at: str, findings: Findings) -> NodeDraft:
    if isinstance(tree, Scalar):
        return NodeDraft(at=at, name=tree.text)
    fields = Fields(tree, at, findings)
    allowance = fields.child("allowance")
    node = NodeDraft(
        at=at,
        name=fields.text("name"),
        address=fields.text("address"),
        labels=fields.mapping("labels"),
        attachments=tuple(
            _attachment(item, place, findings) for item, place in fields.each("attachments")
        ),
        empty_attachments=fields.choice(
            "empty_attachments",
            EmptyAttachments,
            EmptyAttachments.NOT_SAID,
            "every_network, no_network",
        ),
        pins=fields.mapping("pins"),
        allowance=_allowance(allowance, fields.path("allowance"), findings)
        if allowance is not None
        else None,
    )
    fields.end()
    return node


def _allowance(tree: Tree, at: str, findings: Findings) -> AllowanceDraft:
    fields = Fields(tree, at, findings)
    allowance = AllowanceDraft(
        at=at,
        names=fields.texts("names"),
        tenants=fields.texts("tenants"),
        addresses=fields.number("addresses") or 0,
    )
    fields.end()
    return allowance


def _attachment(tree: Tree, at: str, findings: Findings) -> AttachmentDraft:
    fields = Fields(tree, at, findings)
    attachment = AttachmentDraft(
        at=at,
        network=fields.text("network"),
        interface=fields.text("interface"),
        address=fields.text("address"),
        vlan_id=fields.number("vlan_id", "vlan") or 0,
        parent_interface=fields.text("parent_interface"),
    )
    fields.end()
    return attachment
