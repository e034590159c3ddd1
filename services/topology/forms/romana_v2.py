"""Reads the topology JSON of Romana 2 as it is.

    {"networks": [{"name", "cidr", "block_mask", "tenants"}],
     "topologies": [{"networks": [..], "map": [GroupOrHost, ..]}]}

An element of a map with `ip` is a host: a node that is pinned to the group it is in, with the
labels that its `assignment` says, as in exports. The same host again in one list is the same host.
A map of hosts alone is one group. `cidr` of a group is ignored, as it always was. A group that is
`dummy` is left out: it was padding, and padding takes no nodes; the same slot stays spare. A
network is open to all tenants without `tenants`, and with "*" among them. One in no topology could
give no address, and is left out.
"""

from __future__ import annotations

from dataclasses import replace

from services.common.document.fields import Fields, Findings
from services.common.document.tree import Scalar, Table, Tree
from services.topology.checks.topology import DEFAULT_GROUP, MAX_DEPTH
from services.topology.model.draft import (
    GroupDraft,
    NetworkDraft,
    NodeDraft,
    SpecDraft,
    TopologyDraft,
)

NAMES = {"block_length": "block_mask", "address": "ip", "labels": "assignment", "groups": "map"}
"""Its names of our fields, for errors."""

ALL_TENANTS = "*"


def read(tree: Tree, findings: Findings) -> SpecDraft:
    """The draft; what is wrong with its shape is added to `findings`."""
    fields = Fields(tree, "", findings)
    networks = [_network(item, at, findings) for item, at in fields.each("networks")]
    topologies = [_topology(item, at, findings) for item, at in fields.each("topologies")]
    fields.end()
    used = {name for topology in topologies for name in topology.networks}
    return SpecDraft(
        networks=tuple(network for network in networks if network.name in used),
        topologies=tuple(topologies),
        names=NAMES,
    )


def _network(tree: Tree, at: str, findings: Findings) -> NetworkDraft:
    fields = Fields(tree, at, findings)
    tenants = fields.texts("tenants")
    network = NetworkDraft(
        at=at,
        name=fields.text("name"),
        cidr=fields.text("cidr"),
        block_length=fields.number("block_mask") or 0,
        tenants=() if ALL_TENANTS in tenants else tenants,
    )
    fields.end()
    return network


def _topology(tree: Tree, at: str, findings: Findings) -> TopologyDraft:
    fields = Fields(tree, at, findings)
    networks = fields.texts("networks")
    groups, nodes = _elements(fields, "map", findings, 1)
    if nodes:
        groups = (GroupDraft(at=fields.path("map"), name=DEFAULT_GROUP, nodes=nodes),)
    fields.end()
    return TopologyDraft(at=at, networks=networks, groups=groups)


def _elements(
    fields: Fields, name: str, findings: Findings, depth: int
) -> tuple[tuple[GroupDraft, ...], tuple[NodeDraft, ...]]:
    """The groups and the hosts of a map; it has only one of them."""
    groups: list[GroupDraft] = []
    nodes: list[NodeDraft] = []
    for item, at in fields.each(name):
        if _has(item, "ip"):
            host = _host(item, at, findings)
            if replace(host, at="") not in [replace(node, at="") for node in nodes]:
                nodes.append(host)
        elif depth > MAX_DEPTH + 1:
            findings.wrong(at, "groups are nested too deep")
            break
        elif not _is_dummy(item):
            groups.append(_group(item, at, findings, depth))
    if groups and nodes:
        findings.wrong(fields.path(name), "has hosts beside groups: put them into a group")
        return tuple(groups), ()
    return tuple(groups), tuple(nodes)


def _group(tree: Tree, at: str, findings: Findings, depth: int) -> GroupDraft:
    fields = Fields(tree, at, findings)
    groups, nodes = _elements(fields, "groups", findings, depth + 1)
    group = GroupDraft(
        at=at,
        name=fields.text("name"),
        assignment=fields.mapping("assignment"),
        routing=fields.text("routing"),
        groups=groups,
        nodes=nodes,
    )
    fields.ignore("cidr", "dummy", "ip")
    fields.end()
    return group


def _host(tree: Tree, at: str, findings: Findings) -> NodeDraft:
    fields = Fields(tree, at, findings)
    node = NodeDraft(
        at=at,
        name=fields.text("name"),
        address=fields.text("ip"),
        labels=fields.mapping("assignment"),
    )
    if any(True for _ in fields.each("groups")):
        findings.wrong(fields.path("groups"), "a host has none")
    fields.ignore("routing", "cidr", "dummy")
    fields.end()
    return node


def _has(tree: Tree, name: str) -> bool:
    value = tree.items.get(name) if isinstance(tree, Table) else None
    return value is not None and not (
        isinstance(value, Scalar) and (value.is_null or not value.text)
    )


def _is_dummy(tree: Tree) -> bool:
    value = tree.items.get("dummy") if isinstance(tree, Table) else None
    return isinstance(value, Scalar) and value.text == "true"
