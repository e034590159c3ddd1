"""`romana node`: machines with an agent."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Annotated

import typer
from romana.topology.v1 import network_pb2, node_pb2
from romana.topology.v1 import topology_service_pb2 as api
from romana.topology.v1.node_pb2 import (
    EMPTY_ATTACHMENTS_EVERY_NETWORK,
    EMPTY_ATTACHMENTS_NO_NETWORK,
)

from services.common.rpc.message_json import plain
from services.common.rpc.node_addresses import main_addresses
from services.common.terminal.plural import count
from services.ctl.calls import agents, by_address, completion, option_syntax, options, waiting
from services.ctl.calls.session import Session
from services.ctl.calls.verb import group, verb
from services.ctl.failures.failure import usage
from services.ctl.verbs import node_check as health
from services.ctl.verbs import node_life as life
from services.ctl.verbs import node_routes, node_rules
from services.ctl.views import node_view, plan_view
from services.ctl.views.output import Format, nothing

app = group("Nodes: machines with an agent; where they are and what they hold.")

AddressOption = Annotated[
    str, typer.Option("--address", metavar="ADDRESS", help="The node's main address.")
]
OtherAddressOption = Annotated[
    str,
    typer.Option(
        "--other-address",
        metavar="ADDRESS",
        help="Its main address of the other family: by it other nodes reach its endpoints there.",
    ),
]
AttachOption = Annotated[
    list[str],
    typer.Option(
        "--attach",
        metavar="network=N[,interface=I][,address=A][,vlan=ID][,parent=I]",
        help="A network the node is on; repeat for several. None: all that its labels fit.",
    ),
]
NoNetworkOption = Annotated[
    bool,
    typer.Option("--no-network", help="The node is on no network and in no group."),
]
AllowNameOption = Annotated[
    list[str],
    typer.Option(
        "--allow-name",
        metavar="PATTERN",
        help="Names of endpoints, such as 'web-*', that the node's own certificate may take "
        "besides NAME/... and CNI's; repeat it.",
    ),
]
AllowTenantOption = Annotated[
    list[str],
    typer.Option(
        "--allow-tenant",
        metavar="TENANT",
        help="A tenant that the node's own certificate may allocate for; repeat for several. "
        "None: all that its networks are for.",
    ),
]
MaxAddressesOption = Annotated[
    int,
    typer.Option(
        "--max-addresses",
        min=0,
        metavar="N",
        help="Addresses in blocks that it may hold on each network. 0: as ipam's settings say.",
    ),
]
PinOption = Annotated[
    list[str],
    typer.Option(
        "--pin",
        metavar="PATH",
        help="Prefix group, instead of placement by labels.",
        autocompletion=completion.groups,
    ),
]


@verb(
    app,
    "list",
    examples="""
        romana node list --group dc/rack-1
        romana node list --network prod --label rack=1 -o wide
    """,
)
async def list_nodes(
    session: Session,
    network: options.NetworkFilter = "",
    group_path: options.GroupFilter = "",
    label: options.LabelOption = [],  # noqa: B006  # typer reads it, nobody writes to it
    limit: options.LimitOption = 0,
) -> None:
    """Lists nodes, by name."""
    topology = session.topology
    listed = await topology.every(
        topology.stub.ListNodes,
        api.ListNodesRequest(group=group_path, network=network, labels=option_syntax.labels(label)),
        lambda page: page.nodes,
        limit=limit,
    )
    known = await agents.statuses(session) if session.out.wide else None
    session.listing(
        listed,
        (*node_view.COLUMNS, agents.column(known)) if known else node_view.COLUMNS,
        name=lambda item: item.name,
        empty=nothing("there are no nodes", network, group_path, label),
    )


@verb(
    app,
    "show",
    examples="""
        romana node show n1
        romana node show n1 --routes
    """,
)
async def show(
    session: Session,
    name: options.NodeArgument,
    routes: Annotated[
        bool, typer.Option("--routes", help="List the routes to the other nodes.")
    ] = False,
) -> None:
    """Shows a node: where it is, its agent, the blocks it holds, how others reach it."""
    topology = session.topology
    name = await by_address.node_name(session, name)
    node = (await topology.read(topology.stub.GetNode, api.GetNodeRequest(name=name))).node
    held = await life.held(session, name)
    agent = await agents.statuses(session, [name]) if held else None
    out = session.out
    if out.for_programs:
        out.value(
            {
                "node": plain(node),
                "blocks": [plain(block) for block in held.blocks] if held else None,
                "routes": plain(held.routes) if held else None,
                "agent": plain(agent) if agent else None,
            }
        )
    elif out.form is Format.NAME:
        out.line(node.name)
    else:
        node_view.show(out, node)
        if agent:
            agents.show(out, agent)
        if held:
            node_view.show_held(out, held, routes=routes)


@verb(
    app,
    "register",
    mutates=True,
    examples="""
        romana node register n1 --address 192.168.0.11 --label rack=1
        romana node register n2 --address 192.168.0.12 --pin dc/rack-1
        romana node register n3 --attach network=prod,interface=eth1,address=10.1.0.5
        romana node register n4 --attach network=qa,interface=v7,address=10.2.0.5,vlan=7,parent=eth0
        romana node register n5 --address 192.168.0.15 --allow-tenant shop --max-addresses 256
    """,
)
async def register(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new node's name.")],
    address: AddressOption = "",
    other_address: OtherAddressOption = "",
    label: options.LabelOption = [],  # noqa: B006  # typer reads it, nobody writes to it
    attach: AttachOption = [],  # noqa: B006
    no_network: NoNetworkOption = False,
    pin: PinOption = [],  # noqa: B006
    allow_name: AllowNameOption = [],  # noqa: B006
    allow_tenant: AllowTenantOption = [],  # noqa: B006
    max_addresses: MaxAddressesOption = 0,
    dry_run: options.DryRunOption = False,
) -> None:
    """Adds a node and places it. The same node again is no error.

    Without --attach the node is on every network of its groups, by its main address.
    """
    if attach and no_network:
        raise usage("--attach and --no-network contradict each other")
    topology = session.topology
    answer = await topology.once(
        topology.stub.RegisterNode,
        api.RegisterNodeRequest(
            node=node_pb2.Node(
                name=name,
                address=address,
                other_address=other_address,
                labels=option_syntax.labels(label),
                attachments=[option_syntax.attachment(text) for text in attach],
                pins=option_syntax.pins(pin),
                empty_attachments=EMPTY_ATTACHMENTS_NO_NETWORK
                if no_network
                else EMPTY_ATTACHMENTS_EVERY_NETWORK,
                allowance=node_pb2.NodeAllowance(
                    names=allow_name, tenants=allow_tenant, addresses=max_addresses
                ),
            ),
            validate_only=dry_run,
            request_id=session.request_id,
        ),
    )
    _show_one(session, answer.node)
    if dry_run:
        session.note("Nothing was done: this is what it would be")
    await _warn_of_links(session, answer.node)


@verb(
    app,
    "update",
    mutates=True,
    examples="""
        romana node update n1 --label rack=2 --label old-label-
        romana node update n1 --attach network=qa,interface=eth2,address=10.2.0.5 --detach admin
        romana node update n1 --detach qa --no-network
        romana node update n1 --every-network
        romana node update n1 --pin dc/rack-2 --allow-stranded
        romana node update n1 --default-allowance --allow-tenant shop
    """,
)
async def update(
    session: Session,
    name: options.NodeArgument,
    address: AddressOption = "",
    other_address: OtherAddressOption = "",
    no_other_address: Annotated[
        bool, typer.Option("--no-other-address", help="It has one of one family only.")
    ] = False,
    label: Annotated[
        list[str],
        typer.Option("--label", "-l", metavar="KEY=VALUE|KEY-", help="Set a label, or remove it."),
    ] = [],  # noqa: B006  # typer reads it, nobody writes to it
    attach: AttachOption = [],  # noqa: B006
    detach: Annotated[
        list[str],
        typer.Option(
            "--detach",
            metavar="NETWORK",
            help="Remove an attachment.",
            autocompletion=completion.networks,
        ),
    ] = [],  # noqa: B006
    every_network: Annotated[
        bool,
        typer.Option(
            "--every-network",
            help="Remove all attachments: the node is on every network of its groups.",
        ),
    ] = False,
    no_network: NoNetworkOption = False,
    pin: PinOption = [],  # noqa: B006
    unpin: Annotated[
        list[str], typer.Option("--unpin", metavar="TOPOLOGY", help="Place it by labels again.")
    ] = [],  # noqa: B006
    allow_name: AllowNameOption = [],  # noqa: B006
    allow_tenant: AllowTenantOption = [],  # noqa: B006
    max_addresses: MaxAddressesOption = 0,
    default_allowance: Annotated[
        bool,
        typer.Option(
            "--default-allowance", help="First drop what its certificate was allowed before."
        ),
    ] = False,
    allow_stranded: options.AllowStrandedOption = False,
    dry_run: options.DryRunOption = False,
    wait: waiting.RoutesWaitOption = 0,
) -> None:
    """Changes what is named and leaves the rest; places the node anew if it no longer fits."""
    allowed = bool(allow_name or allow_tenant or max_addresses or default_allowance)
    placed = bool(label or attach or detach or every_network or no_network or pin or unpin)
    if other_address and no_other_address:
        raise usage("--other-address and --no-other-address contradict each other")
    if not (address or other_address or no_other_address or placed or allowed):
        raise usage("say what to change, such as --label rack=2")
    topology = session.topology
    name = await by_address.node_name(session, name)
    read = await topology.read(topology.stub.GetNode, api.GetNodeRequest(name=name))
    node = read.node
    node.address = address or node.address
    node.other_address = "" if no_other_address else other_address or node.other_address
    _change_labels(node, label)
    _change_attachments(node, attach, detach)
    _change_networks(node, attach, every_network=every_network, no_network=no_network)
    _change_pins(node, pin, unpin)
    if allowed:
        before = node_pb2.NodeAllowance() if default_allowance else node.allowance
        node.allowance.CopyFrom(
            node_pb2.NodeAllowance(
                names=dict.fromkeys([*before.names, *allow_name]),
                tenants=dict.fromkeys([*before.tenants, *allow_tenant]),
                addresses=max_addresses or before.addresses,
            )
        )
    request = api.UpdateNodeRequest(
        node=node, allow_stranded=allow_stranded, request_id=session.request_id
    )
    if dry_run or allow_stranded or placed:
        request.validate_only = True
        planned = await topology.read(topology.stub.UpdateNode, request)
        if dry_run:
            _show_update(session, planned)
            session.note("Nothing was done: this is what it would be")
            return
        gone = [move.before for move in planned.plan.nodes if move.before and not move.after]
        if gone and (label or pin or unpin):  # what is detached was named
            if not session.out.for_programs:
                plan_view.show(session.screen, planned.plan)
            session.require(
                f"Take {name} out of {', '.join(gone)}, and put it into no group there?"
            )
        if planned.plan.stranded and not session.out.for_programs:
            plan_view.show(session.screen, planned.plan)
        if planned.plan.stranded:
            session.confirm(f"Strand {count(planned.plan.stranded_addresses, 'address')} in use?")
        request.validate_only = False
    _show_update(session, await topology.once(topology.stub.UpdateNode, request))
    await waiting.wait_for_routes(session, wait)


verb(app, "rules", examples=node_rules.EXAMPLES)(node_rules.rules)
verb(app, "routes", examples=node_routes.EXAMPLES)(node_routes.routes)
verb(app, "check", mutates=True, examples=health.EXAMPLES)(health.check)
verb(app, "cordon", mutates=True, examples=life.CORDON_EXAMPLES)(life.cordon)
verb(app, "uncordon", mutates=True, examples=life.UNCORDON_EXAMPLES)(life.uncordon)
verb(app, "drain", mutates=True, examples=life.DRAIN_EXAMPLES)(life.drain)
verb(app, "delete", mutates=True, examples=life.DELETE_EXAMPLES, old_name="remove")(life.delete)


async def _warn_of_links(session: Session, node: node_pb2.Node) -> None:
    """Says on which networks a node is by nobody's word, and may not be reached."""
    if node.attachments or not node.networks:
        return
    topology = session.topology
    listed = await topology.every(
        topology.stub.ListNetworks, api.ListNetworksRequest(), lambda page: page.networks
    )
    own = [ip_address(address) for address in main_addresses(node)]
    there = [
        (network, ip_network(network.cidr))
        for network in listed.items
        if network.name in node.networks
    ]
    links = [
        network.name
        for network, cidr in there
        if network.mode == network_pb2.ATTACHMENT_MODE_ONLINK
        and not any(address in cidr for address in own)
    ]
    unreached = [
        network.name
        for network, cidr in there
        if network.mode == network_pb2.ATTACHMENT_MODE_ROUTED
        and not network.gateway
        and not any(address.version == cidr.version for address in own)
    ]
    if links:
        session.note(
            f"{node.name} says no attachment, so it counts as on the links of {', '.join(links)} "
            f"too, where {' or '.join(map(str, own))} is not: --attach says on which networks it "
            "really is"
        )
    if unreached:
        session.note(
            f"other nodes do not reach endpoints of {node.name} on {', '.join(unreached)}: it has "
            "no address of that family; say --other-address, or --attach with one"
        )


def _change_labels(node: node_pb2.Node, texts: list[str]) -> None:
    added, removed = option_syntax.label_changes(texts)
    for key in removed:
        node.labels.pop(key, None)
    for key, value in added.items():
        node.labels[key] = value


def _change_attachments(node: node_pb2.Node, attach: list[str], detach: list[str]) -> None:
    """A new attachment replaces the one on the same network and keeps its place."""
    have = {each.network: each for each in node.attachments}
    for network in detach:
        if network not in have:
            raise usage(f"--detach {network}: {node.name} has no declared attachment to it")
        del have[network]
    for text in attach:
        made = option_syntax.attachment(text)
        have[made.network] = made
    changed = list(have.values())
    del node.attachments[:]
    node.attachments.extend(changed)


def _change_networks(
    node: node_pb2.Node, attach: list[str], *, every_network: bool, no_network: bool
) -> None:
    """Says what having no attachments means, which nobody guesses."""
    if sum((bool(attach), every_network, no_network)) > 1:
        raise usage("--attach, --every-network and --no-network contradict each other")
    if every_network or no_network:
        del node.attachments[:]
        node.empty_attachments = (
            EMPTY_ATTACHMENTS_EVERY_NETWORK if every_network else EMPTY_ATTACHMENTS_NO_NETWORK
        )
    elif not node.attachments and not node.empty_attachments:
        raise usage(
            f"{node.name} would have no attachment left: --no-network leaves it on no network, "
            "--every-network puts it on every one that its groups give"
        )


def _change_pins(node: node_pb2.Node, pin: list[str], unpin: list[str]) -> None:
    for topology in unpin:
        if topology not in node.pins:
            raise usage(f"--unpin {topology}: {node.name} is not pinned there")
        del node.pins[topology]
    for topology, path in option_syntax.pins(pin).items():
        node.pins[topology] = path


def _show_one(session: Session, node: node_pb2.Node) -> None:
    out = session.out
    if out.for_programs:
        out.value(plain(node))
    elif out.form is Format.NAME:
        out.line(node.name)
    else:
        session.screen.table([node], node_view.COLUMNS, wide=out.wide)


def _show_update(session: Session, answer: api.UpdateNodeResponse) -> None:
    out = session.out
    if out.for_programs:
        out.value(plain(answer))
        return
    _show_one(session, answer.node)
    if out.form is not Format.NAME and not plan_view.is_empty(answer.plan):
        out.line()
        plan_view.show(session.screen, answer.plan)
