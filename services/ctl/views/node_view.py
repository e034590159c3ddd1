"""Nodes for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from romana.ipam.v1 import block_pb2, ipam_service_pb2, utilization_pb2
from romana.topology.v1 import node_pb2

from services.common.rpc.node_addresses import main_addresses
from services.common.terminal.plural import count
from services.common.terminal.table import Column, fields
from services.ctl.views import enum_text
from services.ctl.views.output import Output


def attached_to(node: node_pb2.Node) -> str:
    """The networks that were declared, or what it means that none were."""
    if node.attachments:
        return ", ".join(each.network for each in node.attachments)
    nowhere = node.empty_attachments == node_pb2.EMPTY_ATTACHMENTS_NO_NETWORK
    return "no network" if nowhere else "every network of its groups"


def networks(item: node_pb2.Node) -> str:
    """What it is on, and whether it gives new addresses there."""
    found = ", ".join(item.networks) or "-"
    return f"{found} (cordoned)" if item.cordoned else found


COLUMNS: tuple[Column[node_pb2.Node], ...] = (
    Column("NAME", lambda item: item.name),
    Column("ADDRESS", lambda item: item.address or "-"),
    Column("GROUPS", lambda item: ", ".join(place.group for place in item.placements) or "-"),
    Column("NETWORKS", networks),
    Column("LABELS", lambda item: enum_text.pairs(item.labels), wide=True),
    Column("ATTACHED TO", attached_to, wide=True),
    Column("PINNED", lambda item: ", ".join(sorted(item.pins)), wide=True),
    Column("REGISTERED", lambda item: enum_text.moment(item.create_time), wide=True),
)

ATTACHMENTS: tuple[Column[node_pb2.Attachment], ...] = (
    Column("ATTACHED TO", lambda item: item.network),
    Column("INTERFACE", lambda item: item.interface or "-"),
    Column("ADDRESS", lambda item: item.address),
    Column("VLAN", lambda item: str(item.vlan_id or "-"), right=True),
    Column("PARENT", lambda item: item.parent_interface or "-"),
)

BLOCKS: tuple[Column[block_pb2.Block], ...] = (
    Column("BLOCK", lambda item: item.prefix),
    Column("OWNER", lambda item: enum_text.owner(item.tenant, item.segment)),
    Column("USED", lambda item: f"{item.used}/{item.size}", right=True),
    Column("NETWORK", lambda item: item.network),
    Column("GROUP", lambda item: "(stranded)" if item.stranded else item.group),
)

OWN_ROUTES: tuple[Column[utilization_pb2.Route], ...] = (
    Column("REACHED BY", lambda item: item.prefix),
    Column("NETWORK", lambda item: item.network),
    Column("NEXT HOP", lambda item: item.next_hop),
)

REMOTE_ROUTES: tuple[Column[utilization_pb2.Route], ...] = (
    Column("ROUTE TO", lambda item: item.prefix),
    Column("NETWORK", lambda item: item.network),
    Column("NODE", lambda item: item.node),
    Column("NEXT HOP", lambda item: item.next_hop),
)


@dataclass(frozen=True, slots=True)
class Held:
    blocks: Sequence[block_pb2.Block]
    routes: ipam_service_pb2.GetNodeRoutesResponse


def show(out: Output, node: node_pb2.Node) -> None:
    out.sheet(
        fields(
            [
                ("Name", node.name),
                ("Address", ", ".join(main_addresses(node)) or "none of its own"),
                ("Labels", enum_text.pairs(node.labels) or "none"),
                (
                    "Groups",
                    ", ".join(
                        f"{place.group} (pinned)" if place.topology in node.pins else place.group
                        for place in node.placements
                    )
                    or "none",
                ),
                ("Networks", ", ".join(node.networks) or "none"),
                *([("Cordoned", "yes: it gets no new addresses")] if node.cordoned else []),
                ("Attached to", "" if node.attachments else attached_to(node)),
                *_allowance(node.allowance),
                *([("Said itself", ", ".join(node.self_reported))] if node.self_reported else []),
                ("Registered", enum_text.moment(node.create_time)),
                ("Etag", node.etag),
            ]
        )
    )
    if node.attachments:
        out.line()
        out.screen.table(node.attachments, ATTACHMENTS, wide=out.wide)


def _allowance(allowance: node_pb2.NodeAllowance) -> Iterator[tuple[str, str]]:
    """What its certificate may take; nothing where it is the default."""
    if allowance.names:
        yield "May take names", ", ".join(allowance.names)
    if allowance.tenants:
        yield "May allocate for", ", ".join(allowance.tenants)
    if allowance.addresses:
        yield "May hold", f"{count(allowance.addresses, 'address')} on each network"


def show_held(out: Output, held: Held, *, routes: bool) -> None:
    """Prints what ipam knows of a node; `routes`: also each route to the others."""
    out.line()
    if held.blocks:
        out.screen.table(held.blocks, BLOCKS, wide=out.wide)
    else:
        out.line("It holds no blocks.")
    if held.routes.own:
        out.line()
        out.screen.table(held.routes.own, OWN_ROUTES, wide=out.wide)
    out.line()
    if routes and held.routes.remote:
        out.screen.table(held.routes.remote, REMOTE_ROUTES, wide=out.wide)
    else:
        more = "; --routes lists them" if held.routes.remote else ""
        out.line(f"{count(len(held.routes.remote), 'route')} to other nodes{more}.")
