"""The topology as a picture: the tree of prefix groups beside their prefixes and how full they are.

The tree is the first column of a table, so that prefixes and bars stand below each other however
deep their group is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text
from romana.ipam.v1 import utilization_pb2
from romana.topology.v1 import topology_pb2

from services.common.terminal.table import Column
from services.ctl.views import enum_text
from services.ctl.views.usage_bar import USAGE_TITLE, bar, of_total

UsageKey = tuple[str, str]
"""Network name and PrefixGroup.path."""


@dataclass(frozen=True, slots=True)
class Row:
    """A group's prefix on one network, or a line of the group without one."""

    drawing: str
    """The tree up to and with the group's name; below the first row of a group, its trunk."""
    nodes: str
    network: str
    prefix: str
    usage: utilization_pb2.Usage | None
    note: str


COLUMNS: tuple[Column[Row], ...] = (
    Column("GROUP", lambda row: row.drawing, solid=True),
    Column("NODES", lambda row: row.nodes, right=True),
    Column("NETWORK", lambda row: row.network),
    Column("PREFIX", lambda row: row.prefix),
)
USAGE_COLUMNS: tuple[Column[Row], ...] = (
    Column(
        USAGE_TITLE,
        lambda row: bar(row.usage.used, row.usage.size) if row.usage else Text(),
        solid=True,
    ),
    Column("IN USE", lambda row: of_total(row.usage) if row.usage else "", right=True, wide=True),
)
NOTE_COLUMN: Column[Row] = Column("ASSIGNMENT", lambda row: row.note)


def columns(rows: Sequence[Row], *, with_usage: bool) -> tuple[Column[Row], ...]:
    shown = COLUMNS + (USAGE_COLUMNS if with_usage else ())
    return (*shown, NOTE_COLUMN) if any(row.note for row in rows) else shown


def usage_of(
    networks: Sequence[utilization_pb2.NetworkUtilization],
) -> dict[UsageKey, utilization_pb2.Usage]:
    """How full each group is, by network and path."""
    return {
        (network.network, group.group): group.usage
        for network in networks
        for group in network.groups
    }


def rows(
    topology: topology_pb2.Topology, usage: Mapping[UsageKey, utilization_pb2.Usage]
) -> list[Row]:
    made = [Row(topology.name, _node_count(topology.groups), "", "", None, "")]
    made += _children(topology.groups, topology.networks, usage, trunk="")
    return made


def _children(
    groups: Sequence[topology_pb2.PrefixGroup],
    networks: Sequence[str],
    usage: Mapping[UsageKey, utilization_pb2.Usage],
    trunk: str,
) -> Iterator[Row]:
    for index, group in enumerate(groups):
        last = index == len(groups) - 1
        below = trunk + ("   " if last else "│  ")
        yield from _group(group, networks, usage, trunk + ("└─ " if last else "├─ "), below)
        yield from _children(group.groups, networks, usage, below)


def _group(
    group: topology_pb2.PrefixGroup,
    networks: Sequence[str],
    usage: Mapping[UsageKey, utilization_pb2.Usage],
    branch: str,
    below: str,
) -> Iterator[Row]:
    drawing = branch + (group.name or group.path.rpartition("/")[2])
    nodes = str(group.node_count)
    note = enum_text.pairs(group.assignment)
    carved = [name for name in networks if name in group.carved_prefixes]
    if not carved:
        yield Row(drawing, nodes, "", "", None, note)
    for name in carved:
        yield Row(
            drawing, nodes, name, group.carved_prefixes[name], usage.get((name, group.path)), note
        )
        drawing = below + ("│" if group.groups else "")
        nodes = note = ""


def _node_count(groups: Sequence[topology_pb2.PrefixGroup]) -> str:
    return str(sum(group.node_count for group in groups))
