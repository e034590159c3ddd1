"""A topology plan for people: what changes, what moves, what would be stranded."""

from __future__ import annotations

from romana.topology.v1 import node_pb2, topology_pb2

from services.common.terminal.plural import count
from services.common.terminal.table import Column, Screen
from services.ctl.views import enum_text

MARKS = {
    topology_pb2.CHANGE_KIND_ADDED: "+",
    topology_pb2.CHANGE_KIND_MOVED: "~",
    topology_pb2.CHANGE_KIND_UPDATED: "~",
    topology_pb2.CHANGE_KIND_REMOVED: "-",
}


def _fields(item: topology_pb2.NetworkChange) -> str:
    """With values before and after, where the service says them."""
    if not item.values:
        return ", ".join(item.fields)
    return ", ".join(
        f"{each.field}: {each.before or 'default'} -> {each.after or 'default'}"
        for each in item.values
    )


def _changed(before: str, after: str) -> str:
    return before if before == after else f"{before or 'none'} -> {after or 'none'}"


def _vlan(item: node_pb2.Attachment) -> str:
    return str(item.vlan_id or "")


NETWORKS: tuple[Column[topology_pb2.NetworkChange], ...] = (
    Column("", lambda item: MARKS.get(item.kind, " ")),
    Column("NETWORK", lambda item: item.network),
    Column("CHANGE", lambda item: enum_text.change_kind(item.kind)),
    Column("FIELDS", _fields),
)
GROUPS: tuple[Column[topology_pb2.GroupChange], ...] = (
    Column("", lambda item: MARKS.get(item.kind, " ")),
    Column("GROUP", lambda item: item.group),
    Column("NETWORK", lambda item: item.network),
    Column("CHANGE", lambda item: enum_text.change_kind(item.kind)),
    Column("PREFIX", lambda item: _became(item.before, item.after)),
)
NODES: tuple[Column[topology_pb2.NodeMove], ...] = (
    Column("", lambda _: "~"),
    Column("NODE", lambda item: item.node),
    Column("TOPOLOGY", lambda item: item.topology),
    Column("GROUP", lambda item: _became(item.before or "none", item.after or "none")),
)
ATTACHMENTS: tuple[Column[topology_pb2.AttachmentChange], ...] = (
    Column("", lambda item: " " if item.before == item.after else "~"),
    Column("NODE", lambda item: item.node),
    Column("ATTACHED TO", lambda item: item.network),
    Column("INTERFACE", lambda item: _changed(item.before.interface, item.after.interface)),
    Column("VLAN", lambda item: _changed(_vlan(item.before), _vlan(item.after))),
    Column("ADDRESS", lambda item: item.after.address),
)
STRANDED: tuple[Column[topology_pb2.StrandedBlock], ...] = (
    Column("", lambda _: "!"),
    Column("STRANDED", lambda item: item.block),
    Column("NETWORK", lambda item: item.network),
    Column("NODE", lambda item: item.node),
    Column("IN USE", lambda item: str(item.used), right=True),
)


def is_empty(plan: topology_pb2.TopologyPlan) -> bool:
    return not (plan.networks or plan.groups or plan.nodes or plan.stranded)


def show(screen: Screen, plan: topology_pb2.TopologyPlan) -> None:
    """Prints the parts of a plan that say something, and a summary."""
    if is_empty(plan):
        screen.line("Nothing changes.")
        return
    if plan.networks:
        screen.table(plan.networks, NETWORKS, wide=True)
        screen.line()
    if plan.groups:
        screen.table(plan.groups, GROUPS, wide=True)
        screen.line()
    if plan.nodes:
        screen.table(plan.nodes, NODES, wide=True)
        screen.line()
    if plan.attachments:
        screen.table(plan.attachments, ATTACHMENTS, wide=True)
        screen.line()
    if plan.stranded:
        screen.table(plan.stranded, STRANDED, wide=True)
        screen.line()
    screen.line(summary(plan))


def summary(plan: topology_pb2.TopologyPlan) -> str:
    """Such as "1 network, 3 groups and 2 nodes change; 5 addresses in use would be stranded"."""
    text = (
        f"{count(len(plan.networks), 'network')}, "
        f"{count(len({each.group for each in plan.groups}), 'group')} and "
        f"{count(len({each.node for each in plan.nodes}), 'node')} change"
    )
    if plan.stranded:
        text += (
            f"; {count(plan.stranded_addresses, 'address')} in use in "
            f"{count(len(plan.stranded), 'block')} would be stranded"
        )
    return text


def _became(before: str, after: str) -> str:
    if before and after:
        return f"{before} -> {after}"
    return before or after
