"""`romana endpoint`: attach containers and VMs of this node, and look after them."""

from __future__ import annotations

from typing import Annotated

import typer
from romana.agent.v1 import agent_service_pb2 as api
from romana.agent.v1 import endpoint_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_api

from services.common.rpc.message_json import plain
from services.common.terminal.plural import count
from services.common.terminal.table import Column, fields
from services.ctl.calls import by_address, completion, option_syntax, options
from services.ctl.calls.agent_option import AgentOption
from services.ctl.calls.session import Session
from services.ctl.calls.verb import group, verb
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import usage
from services.ctl.verbs import endpoint_cloud_init
from services.ctl.views import enum_text
from services.ctl.views.output import Format

app = group("Endpoints of this node: the interfaces of its containers and VMs.")


def target(item: endpoint_pb2.Endpoint) -> str:
    """Where its packets come out."""
    if item.target.WhichOneof("target") == "namespace":
        return f"{item.target.namespace.interface} in {item.target.namespace.path}"
    return f"interface {item.target.interface.interface}"


COLUMNS: tuple[Column[endpoint_pb2.Endpoint], ...] = (
    Column("NAME", lambda item: item.name),
    Column("STATE", lambda item: enum_text.endpoint_state(item.state)),
    Column("ADDRESSES", lambda item: ", ".join(each.address for each in item.addresses)),
    Column("OWNER", lambda item: enum_text.owner(item.tenant, item.segment)),
    Column("HOST INTERFACE", lambda item: item.host_interface),
    Column("TARGET", target, wide=True),
    Column("NETWORK", lambda item: ", ".join(each.network for each in item.addresses), wide=True),
    Column("MAC", lambda item: item.mac, wide=True),
    Column("MTU", lambda item: str(item.mtu or ""), right=True, wide=True),
    Column("ATTACHED", lambda item: enum_text.moment(item.create_time), wide=True),
)

NewNameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Endpoint's name, unique in the cluster.")
]
NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME|ADDRESS", help="Endpoint of this node, by name or an address."),
]


@verb(
    app,
    "attach",
    mutates=True,
    examples="""
        romana endpoint attach web-1 --netns web-1 --tenant shop
        romana endpoint attach web-2 --netns /proc/4711/ns/net --tenant shop --network prod
        romana endpoint attach vm-1 --interface tap0 --tenant shop --segment front --dhcp
        romana endpoint attach web-3 --netns web-3 --tenant shop --want family=4 --want family=6
    """,
)
async def attach(
    session: Session,
    name: NewNameArgument,
    tenant: options.TenantOption,
    netns: Annotated[
        str,
        typer.Option(
            "--netns",
            metavar="NAME|PATH",
            help="Network namespace of a container, by name or path.",
        ),
    ] = "",
    interface: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="With --netns, the interface to make in there [eth0]; without, a VM's that is "
            "there.",
        ),
    ] = "",
    segment: options.SegmentOption = "",
    network: options.NetworkOption = "",
    family: options.FamilyOption = "",
    address: options.AddressOption = "",
    want: options.WantOption = [],  # noqa: B006  # typer reads it, nobody writes to it
    mtu: Annotated[
        int, typer.Option(metavar="BYTES", min=0, help="At most that of the network's interface.")
    ] = 0,
    label: options.LabelOption = [],  # noqa: B006
    labels_follow: Annotated[
        bool,
        typer.Option(
            "--labels-follow",
            help="An orchestrator tells policy the labels; the endpoint is closed until then.",
        ),
    ] = False,
    dhcp: Annotated[
        bool,
        typer.Option(
            "--dhcp",
            help="Tell a VM's guest its addresses, route, MTU and DNS servers by DHCP and router "
            "advertisements.",
        ),
    ] = False,
    agent_socket: AgentOption = "",
) -> None:
    """Attaches a container or a VM, and returns when it can be reached."""
    target = endpoint_pb2.EndpointTarget()
    if netns:
        target.namespace.path = netns if "/" in netns else f"/run/netns/{netns}"
        target.namespace.interface = interface
    elif interface:
        target.interface.interface = interface
    else:
        raise usage("give --netns for a container, or --interface for a VM")
    agent = session.agent(agent_socket)
    answer = await agent.once(
        agent.stub.AttachEndpoint,
        api.AttachEndpointRequest(
            spec=endpoint_pb2.EndpointSpec(
                name=name,
                tenant=tenant,
                segment=segment,
                target=target,
                addresses=option_syntax.wants(
                    want, network=network, family=family, address=address
                ),
                mtu=mtu,
                labels=option_syntax.labels(label),
                labels_follow=labels_follow,
                dhcp=dhcp,
            ),
            request_id=session.request_id,
        ),
    )
    if session.out.for_programs:
        session.out.value(plain(answer))
        return
    if session.out.form is Format.NAME:
        for each in answer.endpoint.addresses:
            session.out.line(each.address)
    else:
        session.screen.table([answer.endpoint], COLUMNS, wide=session.out.wide)
    if answer.existed:
        session.note(f"{name} was attached already")


@verb(
    app,
    "detach",
    mutates=True,
    examples="romana endpoint detach web-1 web-2",
)
async def detach(
    session: Session,
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME|ADDRESS...", help="Endpoints, by name or an address."),
    ],
    agent_socket: AgentOption = "",
) -> ExitCode:
    """Detaches endpoints and releases their addresses. One that does not exist is no error."""
    agent = session.agent(agent_socket)
    answers = []
    # all are found before the first is detached
    for name in dict.fromkeys([await by_address.endpoint_name(agent, text) for text in names]):
        answer = await agent.once(
            agent.stub.DetachEndpoint,
            api.DetachEndpointRequest(name=name, request_id=session.request_id),
        )
        answers.append((name, answer))
    session.out.listing(
        answers,
        (
            Column("NAME", lambda item: item[0]),
            Column("RELEASED", lambda item: ", ".join(item[1].addresses) or "nothing"),
        ),
        document=lambda item: {"name": item[0], **plain(item[1])},
        name=lambda item: item[0],
        empty="nothing",
    )
    return ExitCode.OK


@verb(
    app,
    "move",
    mutates=True,
    examples="""
        romana endpoint move vm-1 --to n2 --plan
        romana endpoint move vm-1 --to n2
        romana endpoint move vm-1 --to n2 --activate
        romana endpoint move vm-1 --abort
        romana endpoint move vm-1
    """,
)
async def move(
    session: Session,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Endpoint's name.", autocompletion=completion.endpoints_known
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="NODE", help="Node to move it to.", autocompletion=completion.nodes
        ),
    ] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Only say what it would cost.")] = False,
    activate: Annotated[
        bool, typer.Option("--activate", help="Switch to the node that is prepared.")
    ] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Leave it where it is.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --activate: also if that node is not ready.")
    ] = False,
) -> None:
    """Moves an endpoint to another node while it runs: prepare, attach it there too, then activate
    or abort. Without options, says where it is. To be called anywhere."""
    if activate + abort + plan > 1:
        raise usage("give one of --plan, --activate and --abort")
    if abort and to:
        raise usage("--abort takes no --to: there is one move at most")
    if (plan or activate) and not to:
        raise usage("say with --to which node it moves to")
    if force and not activate:
        raise usage("--force goes with --activate")
    ipam, answer = session.ipam, ipam_api.PrepareMoveResponse()
    if activate:
        switch = ipam_api.ActivateMoveRequest(
            name=name, to_node=to, force=force, request_id=session.request_id
        )
        answer.move.CopyFrom((await ipam.once(ipam.stub.ActivateMove, switch)).move)
    elif abort:
        back = ipam_api.AbortMoveRequest(name=name, request_id=session.request_id)
        answer.move.CopyFrom((await ipam.once(ipam.stub.AbortMove, back)).move)
    elif to:
        prepare = ipam_api.PrepareMoveRequest(
            name=name, to_node=to, validate_only=plan, request_id=session.request_id
        )
        answer = await ipam.once(ipam.stub.PrepareMove, prepare)
    else:
        asked = ipam_api.GetMoveRequest(name=name)
        answer.move.CopyFrom((await ipam.read(ipam.stub.GetMove, asked)).move)
    _show_move(session, answer)


def _show_move(session: Session, answer: ipam_api.PrepareMoveResponse) -> None:
    move, plan = answer.move, answer.plan
    if session.out.for_programs:
        session.out.value(plain(answer))
        return
    groups = zip(plan.from_groups, plan.to_groups, strict=True)
    home = f"{move.home_node}, whose blocks its addresses are in"
    costs = f"{count(plan.host_routes, 'host route')} on each of {count(plan.nodes, 'node')}"
    session.out.sheet(
        fields(
            [
                ("Name", move.name),
                ("State", enum_text.move_state(move.state)),
                ("Node", move.node),
                ("Moving to", move.to_node),
                ("Visits from", "" if move.home_node == move.node else home),
                ("Addresses", ", ".join(each.address for each in move.allocations)),
                ("Cost", costs if answer.HasField("plan") else ""),
                *(("Leaves group", f"{before} for {after}") for before, after in groups),
            ]
        )
    )


@verb(app, "check", examples="romana endpoint check web-1")
async def check(session: Session, name: NameArgument, agent_socket: AgentOption = "") -> ExitCode:
    """Compares an endpoint with the kernel, and its addresses with ipam. Exit code 1: something is
    not as it should be."""
    agent = session.agent(agent_socket)
    name = await by_address.endpoint_name(agent, name)
    answer = await agent.read(agent.stub.CheckEndpoint, api.CheckEndpointRequest(name=name))
    if session.out.for_programs:
        session.out.value(plain(answer))
    else:
        for problem in answer.problems:
            session.out.line(problem)
        if not answer.problems:
            session.out.line(f"{name}: all is there.")
    return ExitCode.NEGATIVE if answer.problems else ExitCode.OK


@verb(
    app,
    "list",
    examples="""
        romana endpoint list
        romana endpoint list -o wide
    """,
)
async def list_endpoints(
    session: Session, limit: options.LimitOption = 0, agent_socket: AgentOption = ""
) -> None:
    """Lists the endpoints of this node, by name."""
    agent = session.agent(agent_socket)
    listed = await agent.every(
        agent.stub.ListEndpoints,
        api.ListEndpointsRequest(),
        lambda page: page.endpoints,
        limit=limit,
    )
    session.listing(
        listed,
        COLUMNS,
        name=lambda item: item.name,
        empty="no endpoints on this node",
    )


@verb(app, "show", examples="romana endpoint show web-1")
async def show(session: Session, name: NameArgument, agent_socket: AgentOption = "") -> None:
    """Shows one endpoint of this node."""
    agent = session.agent(agent_socket)
    found = await by_address.endpoint(agent, name)
    if session.out.for_programs:
        session.out.value(plain(found))
        return
    session.out.sheet(
        fields(
            [
                ("Name", found.name),
                ("State", enum_text.endpoint_state(found.state)),
                ("Owner", enum_text.owner(found.tenant, found.segment)),
                ("Target", target(found)),
                *(
                    ("Address", f"{each.address} on {each.network}, by way of {each.gateway}")
                    for each in found.addresses
                ),
                ("Host interface", found.host_interface),
                ("MAC", found.mac),
                ("MTU", str(found.mtu or "")),
                ("DHCP", "its guest is told who it is" if found.dhcp else ""),
                ("Labels", enum_text.pairs(found.labels)),
                ("Attached", enum_text.moment(found.create_time)),
            ]
        )
    )


verb(app, "cloud-init", examples=endpoint_cloud_init.EXAMPLES)(endpoint_cloud_init.show)
