"""`romana network`: what addresses come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.ipam.v1 import utilization_pb2
from romana.topology.v1 import network_pb2
from romana.topology.v1 import topology_service_pb2 as api

from services.common.rpc.message_json import plain
from services.common.terminal.table import Column, fields
from services.ctl.calls import options
from services.ctl.calls.session import Session
from services.ctl.calls.verb import group, verb
from services.ctl.failures.failure import Failure
from services.ctl.views import enum_text
from services.ctl.views.output import Format, nothing
from services.ctl.views.usage_bar import USAGE_TITLE, bar, of_total

app = group("Networks: CIDRs that addresses come from. `romana topology apply` makes them.")


def _reuse_delay(network: network_pb2.Network) -> str:
    return enum_text.seconds(network.reuse_delay) if network.HasField("reuse_delay") else "30 s"


_WORDED: Mapping[str, tuple[str, Callable[[network_pb2.Network], str]]] = {
    "name": ("Name", lambda item: item.name),
    "cidr": ("CIDR", lambda item: item.cidr),
    "topology": ("Topology", lambda item: item.topology),
    "block_length": (
        "Block length",
        lambda item: f"/{item.block_length}" if item.block_length else "default",
    ),
    "tenants": ("Tenants", lambda item: ", ".join(item.tenants) or "all"),
    "vlan_id": ("VLAN", lambda item: str(item.vlan_id or "untagged")),
    "mode": ("Mode", lambda item: enum_text.attachment_mode(item.mode)),
    "gateway": ("Gateway", lambda item: item.gateway or "none"),
    "mtu": ("MTU", lambda item: str(item.mtu or "of the interface")),
    "placement": ("Placement", lambda item: enum_text.placement(item.placement)),
    "reuse_delay": ("Reuse delay", _reuse_delay),
    "isolation": ("Isolation", lambda item: enum_text.network_isolation(item.isolation)),
    "masquerade": ("Masquerade", lambda item: "yes" if item.masquerade else "no"),
}
"""By field: its title and what is said of it."""

COLUMNS: tuple[Column[network_pb2.Network], ...] = (
    Column("NAME", lambda item: item.name),
    Column("CIDR", lambda item: item.cidr),
    Column("BLOCK", lambda item: f"/{item.block_length}" if item.block_length else "", right=True),
    Column("VLAN", lambda item: str(item.vlan_id or "-"), right=True),
    Column("MODE", lambda item: enum_text.attachment_mode(item.mode)),
    Column("GATEWAY", lambda item: item.gateway or "-"),
    Column("TENANTS", lambda item: ", ".join(item.tenants) or "(all)"),
    Column("TOPOLOGY", lambda item: item.topology, wide=True),
    Column("PLACEMENT", lambda item: enum_text.placement(item.placement), wide=True),
    Column("REUSE DELAY", _reuse_delay, wide=True),
    Column("ISOLATION", lambda item: enum_text.network_isolation(item.isolation), wide=True),
    Column("MASQUERADE", lambda item: "yes" if item.masquerade else "no", wide=True),
    Column("MTU", lambda item: str(item.mtu or "-"), right=True, wide=True),
)

GROUPS: tuple[Column[utilization_pb2.GroupUtilization], ...] = (
    Column("GROUP", lambda item: item.group),
    Column("PREFIX", lambda item: item.prefix),
    Column("NODES", lambda item: str(item.nodes), right=True),
    Column("BLOCKS", lambda item: str(item.usage.blocks), right=True),
    Column(USAGE_TITLE, lambda item: bar(item.usage.used, item.usage.size), solid=True),
    Column("IN USE", lambda item: of_total(item.usage), right=True),
)
NODES: tuple[Column[utilization_pb2.NodeUtilization], ...] = (
    Column("NODE", lambda item: item.node),
    Column("BLOCKS", lambda item: str(item.usage.blocks), right=True),
    Column("ROUTES", lambda item: str(item.routes), right=True),
    Column("IN USE", lambda item: of_total(item.usage), right=True),
    Column("RESTING", lambda item: str(item.usage.resting), right=True),
)
OWNERS: tuple[Column[utilization_pb2.OwnerUtilization], ...] = (
    Column("OWNER", lambda item: enum_text.owner(item.tenant, item.segment)),
    Column("BLOCKS", lambda item: str(item.usage.blocks), right=True),
    Column("IN USE", lambda item: of_total(item.usage), right=True),
    Column("RESTING", lambda item: str(item.usage.resting), right=True),
)


@verb(
    app,
    "list",
    examples="""
        romana network list
        romana network list --tenant shop     the networks it may use, in the order they are tried
    """,
)
async def list_networks(
    session: Session,
    tenant: options.TenantFilter = "",
) -> None:
    """Lists networks, in the order of the topology file."""
    topology = session.topology
    listed = await topology.every(
        topology.stub.ListNetworks,
        api.ListNetworksRequest(tenant=tenant),
        lambda page: page.networks,
    )
    session.out.listing(
        listed.items,
        COLUMNS,
        document=plain,
        name=lambda item: item.name,
        empty=nothing("there are no networks: `romana topology apply` makes them", tenant),
    )


@verb(app, "show", examples="romana network show prod")
async def show(session: Session, name: options.NetworkArgument) -> None:
    """Shows a network and how full it is: by group, by node, by owner."""
    topology = session.topology
    network = (
        await topology.read(topology.stub.GetNetwork, api.GetNetworkRequest(name=name))
    ).network
    usage = await _utilization(session, name)
    out = session.out
    if out.for_programs:
        out.value({"network": plain(network), "utilization": plain(usage) if usage else None})
    elif out.form is Format.NAME:
        out.line(network.name)
    else:
        out.sheet(fields(described(network) + (totals(usage.usage) if usage else [])))
        if usage:
            _show_usage(session, usage)


def described(network: network_pb2.Network) -> list[tuple[str, str]]:
    """A network's fields for people: those that have words of their own, and what else is set."""
    worded = [(title, text(network)) for title, text in _WORDED.values()]
    return worded + enum_text.set_fields(network, but=_WORDED)


def totals(total: utilization_pb2.Usage) -> list[tuple[str, str]]:
    """How full a network is as a whole, for people."""
    return [
        ("In use", f"{of_total(total)} ({enum_text.share(total.used, total.size)})"),
        ("Resting", enum_text.large(total.resting)),
        ("Reserved", enum_text.large(total.reserved)),
        ("Blocks", f"{total.blocks} with {enum_text.large(total.held)} addresses"),
    ]


async def _utilization(session: Session, name: str) -> utilization_pb2.NetworkUtilization | None:
    """How full it is, unless ipam is away: then the rest is still worth showing."""
    ipam = session.ipam
    try:
        answer = await ipam.once(
            ipam.stub.GetUtilization,
            ipam_api.GetUtilizationRequest(network=name, include_nodes=True, include_owners=True),
        )
    except Failure as error:
        session.note(f"How full it is is not known: {error.message}")
        return None
    return answer.networks[0] if answer.networks else None


def _show_usage(session: Session, usage: utilization_pb2.NetworkUtilization) -> None:
    out = session.out
    if usage.groups:
        out.line()
        session.screen.table(usage.groups, GROUPS, wide=out.wide)
    if usage.nodes:
        out.line()
        session.screen.table(usage.nodes, NODES, wide=out.wide)
    if usage.owners:
        out.line()
        session.screen.table(usage.owners, OWNERS, wide=out.wide)
