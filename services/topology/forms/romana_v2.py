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

from collections.abc import Iterable, Mapping
from typing import Final

from services.common.document.fields import Fields, Findings
from services.common.document.tree import Items, Scalar, Table, Tree
from services.topology.checks.topology import DEFAULT_GROUP, MAX_DEPTH

_NETWORK: Final = {"block_length": "block_mask"}
_TOPOLOGY: Final = {"groups": "map"}
_HOST: Final = {"address": "ip", "labels": "assignment"}
"""Its names of our fields."""

ALL_TENANTS = "*"


def translate(tree: Tree, findings: Findings) -> Table:
    """The tree in our own form, which knows where everything was.

    What is wrong with its shape is added to `findings`.
    """
    fields = Fields(tree, "", findings)
    networks = [_network(part) for part in fields.parts("networks")]
    used: set[str] = set()
    topologies = [_topology(part, used) for part in fields.parts("topologies")]
    fields.end()
    return Table(
        {
            "networks": Items([table for name, table in networks if name in used]),
            "topologies": Items([*topologies]),
        }
    )


def _network(fields: Fields) -> tuple[str, Table]:
    name, tenants = fields.text("name"), fields.texts("tenants")
    table = _table(
        fields,
        _NETWORK,
        name=Scalar(name),
        cidr=Scalar(fields.text("cidr")),
        block_length=Scalar(fields.text("block_mask")),
        tenants=_list(() if ALL_TENANTS in tenants else tenants),
    )
    fields.end()
    return name, table


def _topology(fields: Fields, used: set[str]) -> Table:
    """Adds its networks to `used`."""
    networks = fields.texts("networks")
    used.update(networks)
    groups, nodes = _elements(fields, "map", 1)
    if nodes:
        group: dict[str, Tree] = {"name": Scalar(DEFAULT_GROUP), "nodes": Items([*nodes])}
        groups = [Table(group, at=fields.path("map"))]
    fields.end()
    return _table(fields, _TOPOLOGY, networks=_list(networks), groups=Items([*groups]))


def _elements(fields: Fields, name: str, depth: int) -> tuple[list[Table], list[Table]]:
    """The groups and the different hosts of a map; it has only one of them."""
    groups: list[Table] = []
    nodes: dict[str, Table] = {}
    for part in fields.parts(name):
        if not part.is_empty("ip"):
            host = _host(part)
            nodes.setdefault(repr(host.items), host)
        elif depth > MAX_DEPTH + 1:
            fields.findings.wrong(part.at, "groups are nested too deep")
            break
        elif not part.is_scalar("dummy", "true"):
            groups.append(_group(part, depth))
    if groups and nodes:
        fields.wrong(name, "has hosts beside groups: put them into a group")
        return groups, []
    return groups, [*nodes.values()]


def _group(fields: Fields, depth: int) -> Table:
    groups, nodes = _elements(fields, "groups", depth + 1)
    table = _table(
        fields,
        {},
        name=Scalar(fields.text("name")),
        assignment=_mapping(fields.mapping("assignment")),
        routing=Scalar(fields.text("routing")),
        groups=Items([*groups]),
        nodes=Items([*nodes]),
    )
    fields.ignore("cidr", "dummy", "ip")
    fields.end()
    return table


def _host(fields: Fields) -> Table:
    table = _table(
        fields,
        _HOST,
        name=Scalar(fields.text("name")),
        address=Scalar(fields.text("ip")),
        labels=_mapping(fields.mapping("assignment")),
    )
    if any(True for _ in fields.each("groups")):
        fields.wrong("groups", "a host has none")
    fields.ignore("routing", "cidr", "dummy")
    fields.end()
    return table


def _table(fields: Fields, names: Mapping[str, str], **items: Tree) -> Table:
    return Table(items, at=fields.at, names=names)


def _list(texts: Iterable[str]) -> Items:
    return Items([Scalar(text) for text in texts])


def _mapping(texts: Mapping[str, str]) -> Table:
    return Table({key: Scalar(text) for key, text in texts.items()})
