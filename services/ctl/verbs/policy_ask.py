"""Questions to policy: what it knows of endpoints, and what becomes of connections."""

from __future__ import annotations

from typing import Annotated

import typer
from romana.policy.v1 import device_pb2, endpoint_pb2, explain_pb2, policy_pb2
from romana.policy.v1 import policy_service_pb2 as api

from services.common.rpc import connection_text
from services.common.rpc.message_json import plain
from services.common.terminal.table import Column, fields
from services.ctl.calls import completion, option_syntax, options
from services.ctl.calls.session import Session
from services.ctl.calls.waiting import named
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import usage
from services.ctl.views import enum_text, matrix_view
from services.ctl.views.output import Format, nothing

ENDPOINTS_EXAMPLES = """
    romana policy endpoints --tenant shop
    romana policy endpoints web-1            with the policies that select it
"""
EXPLAIN_EXAMPLES = """
    romana policy explain web-1 db-1 --protocol tcp --port 5432
    romana policy explain 192.0.2.7 web-1 --port 443
    romana policy explain node:n1 web-1 --protocol icmp
"""
MATRIX_EXAMPLES = """
    romana policy matrix --tenant shop --port 443
    romana policy matrix --tenant shop --to-tenant db --protocol udp --port 53 -o json
"""


def _ports(item: endpoint_pb2.PolicyEndpoint) -> str:
    return ", ".join(f"{each.name} {each.protocol} {each.port}" for each in item.ports)


COLUMNS: tuple[Column[endpoint_pb2.PolicyEndpoint], ...] = (
    Column("NAME", lambda item: item.name),
    Column("OWNER", lambda item: enum_text.owner(item.tenant, item.segment)),
    Column("NODE", lambda item: item.node or "-"),
    Column("ADDRESSES", lambda item: ", ".join(item.addresses) or "not attached"),
    Column("LABELS", lambda item: enum_text.pairs(item.labels)),
    Column("PORTS", _ports, wide=True),
)

ProtocolOption = Annotated[
    str,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="tcp, udp, sctp, icmp or icmpv6; default: tcp with --port, else any without ports.",
    ),
]
PortOption = Annotated[
    int, typer.Option("--port", metavar="N", min=0, max=65535, help="Destination's port.")
]
IcmpOption = Annotated[int | None, typer.Option(metavar="N", min=0, max=255, help="ICMP type.")]


async def endpoints(
    session: Session,
    name: Annotated[
        str,
        typer.Argument(
            metavar="[NAME]", help="Only this one.", autocompletion=completion.endpoints_known
        ),
    ] = "",
    tenant: options.TenantFilter = "",
    segment: options.SegmentFilter = "",
    node: options.NodeFilter = "",
    label: options.LabelOption = [],  # noqa: B006  # typer reads it, nobody writes to it
    limit: options.LimitOption = 0,
) -> None:
    """Lists the endpoints that policy knows, attached or not."""
    if name:
        await _endpoint(session, name)
        return
    policy = session.policy
    listed = await policy.every(
        policy.stub.ListEndpoints,
        api.ListEndpointsRequest(filter=_filter(tenant, segment, node, label)),
        lambda page: page.endpoints,
        limit=limit,
    )
    session.listing(
        listed,
        COLUMNS,
        name=lambda item: item.name,
        empty=nothing("policy knows no endpoints", tenant, segment, node, label),
    )


async def _endpoint(session: Session, name: str) -> None:
    policy = session.policy
    answer = await policy.read(policy.stub.GetEndpoint, api.GetEndpointRequest(name=name))
    out = session.out
    if out.for_programs:
        out.value(plain(answer))
        return
    found = answer.endpoint
    if out.form is Format.NAME:
        out.line(found.name)
        return
    out.sheet(
        fields(
            [
                ("Name", found.name),
                ("Owner", enum_text.owner(found.tenant, found.segment)),
                ("Node", found.node),
                ("Addresses", ", ".join(found.addresses) or "not attached"),
                ("Labels", enum_text.pairs(found.labels)),
                ("Ports", _ports(found)),
                ("Ingress", ", ".join(answer.ingress_policies) or "no policy"),
                ("Egress", ", ".join(answer.egress_policies) or "no policy"),
            ]
        )
    )


async def explain(
    session: Session,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Endpoint, address, or node:NAME.",
            autocompletion=completion.endpoints_known,
        ),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DESTINATION",
            help="Destination, written like FROM.",
            autocompletion=completion.endpoints_known,
        ),
    ],
    protocol: ProtocolOption = "",
    port: PortOption = 0,
    icmp_type: IcmpOption = None,
    icmp_code: IcmpOption = None,
) -> ExitCode:
    """Says what becomes of a connection, and why. Exit code 1: it is denied."""
    policy = session.policy
    answer = await policy.read(
        policy.stub.Explain,
        api.ExplainRequest(
            connection=explain_pb2.Connection(
                source=connection_text.party(source),
                destination=connection_text.party(destination),
                protocol=_protocol(protocol),
                port=port,
                icmp_type=icmp_type,
                icmp_code=icmp_code,
            )
        ),
    )
    out = session.out
    if out.for_programs:
        out.value(plain(answer))
    else:
        for number, item in enumerate(answer.explanations):
            if number:
                out.line()
            for line in explanation_lines(item):
                out.line(line)
    denied = any(item.action == policy_pb2.RULE_ACTION_DENY for item in answer.explanations)
    return ExitCode.NEGATIVE if denied else ExitCode.OK


def explanation_lines(item: explain_pb2.Explanation) -> list[str]:
    """An explanation, line by line."""
    does = enum_text.rule_action(item.action).upper()
    kind, way = enum_text.path_kind(item.path.kind), " > ".join(item.path.hops)
    lines = [
        f"{item.source_address} -> {item.destination_address}: {does}",
        f"  way      {kind}{f': {way}' if way else ''}  ({item.path.description})",
    ]
    lines += steering_lines(item)
    lines += mirror_lines(item)
    for name in ("egress", "ingress"):
        if not item.HasField(name):
            continue
        found: explain_pb2.Verdict = getattr(item, name)
        lines.append(f"  {name:<8} {enum_text.rule_action(found.action)}: {found.reason}")
        if found.action == item.action:  # of a denial, what would allow it
            lines += [f"           - {text}" for text in found.otherwise]
        if found.asked:
            lines.append(f"           asked: {', '.join(found.asked)}")
        lines += [f"           audited {each} would decide otherwise" for each in found.audited]
    if not (item.HasField("egress") or item.HasField("ingress")):
        lines.append("  nothing is judged between these two")
    if item.unrealized_nodes:
        lines.append(f"  not yet applied by {named(list(item.unrealized_nodes))}")
    return lines


def steering_lines(item: explain_pb2.Explanation) -> list[str]:
    """Which devices a connection goes through, line by line; none if it goes directly."""
    if not item.HasField("steering"):
        return []
    led = item.steering
    direction = enum_text.policy_direction(led.direction)
    where = f", on node {led.node}" if led.node else ""
    lines = [
        f"  devices  {led.description}",
        f"           by rule {direction}[{led.rule}] of {led.policy}{where}",
    ]
    lines += map(_device, led.devices)
    for word, hops in (("there", led.hops), ("back", led.hops_back)):
        if hops:
            lines.append(f"           {word}: {' > '.join(hops)}")
    return lines


def mirror_lines(item: explain_pb2.Explanation) -> list[str]:
    """Who gets copies of a connection, line by line."""
    lines = []
    for one in item.mirrors:
        direction = enum_text.policy_direction(one.direction)
        where = f", on node {one.node}" if one.node else ""
        lines += [
            f"  copies   {one.description}",
            f"           by rule {direction}[{one.rule}] of {one.policy}{where}",
            *map(_device, one.devices),
        ]
    return lines


def _device(leg: device_pb2.DeviceLeg) -> str:
    state = "up" if leg.up else "down"
    drained = ", takes no new connections" if leg.drain else ""
    return f"           - {leg.device} ({_arms(leg)}): {state}{drained}"


def _arms(leg: device_pb2.DeviceLeg) -> str:
    """Where a device is; of two arms both."""
    text = f"{leg.address} on {leg.network}"
    if not leg.HasField("outside"):
        return text
    return f"inside {text}, outside {leg.outside.address} on {leg.outside.network}"


async def matrix(
    session: Session,
    tenant: options.TenantFilter = "",
    segment: options.SegmentFilter = "",
    node: options.NodeFilter = "",
    label: options.LabelOption = [],  # noqa: B006  # typer reads it, nobody writes to it
    to_tenant: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Only to this tenant.", autocompletion=completion.tenants
        ),
    ] = "",
    to_segment: Annotated[str, typer.Option(metavar="NAME", help="Only to this segment.")] = "",
    to_node: Annotated[
        str,
        typer.Option(metavar="NAME", help="Only to this node.", autocompletion=completion.nodes),
    ] = "",
    to_label: Annotated[
        list[str], typer.Option(metavar="KEY=VALUE", help="Only to such endpoints.")
    ] = [],  # noqa: B006  # typer reads it, nobody writes to it
    protocol: ProtocolOption = "",
    port: PortOption = 0,
) -> None:
    """Shows who reaches whom among at most 200 endpoints.

    Without --to-... the destinations are selected as the sources are.
    """
    sources = _filter(tenant, segment, node, label)
    apart = any((to_tenant, to_segment, to_node, to_label))
    policy = session.policy
    answer = await policy.read(
        policy.stub.GetMatrix,
        api.GetMatrixRequest(
            sources=sources,
            destinations=_filter(to_tenant, to_segment, to_node, to_label, "--to-label")
            if apart
            else sources,
            protocol=_protocol(protocol),
            port=port,
        ),
    )
    out = session.out
    if out.for_programs:
        out.value(plain(answer))
        return
    if not answer.rows or not answer.destinations:
        session.note("there are no such endpoints")
        return
    for line in matrix_view.lines(answer):
        out.line(line)
    session.note(matrix_view.summary(answer))
    if answer.unrealized_nodes:
        session.note(f"Not yet applied by {named(list(answer.unrealized_nodes))}")


def _protocol(text: str) -> policy_pb2.Protocol.ValueType:
    try:
        return connection_text.protocol(text)
    except ValueError as error:
        raise usage(f"--protocol: {error}") from None


def _filter(
    tenant: str, segment: str, node: str, label: list[str], option: str = "--label"
) -> api.EndpointFilter:
    return api.EndpointFilter(
        tenant=tenant, segment=segment, node=node, labels=option_syntax.labels(label, option)
    )
