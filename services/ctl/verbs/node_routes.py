"""The routes that a node is told, what its agent has applied, and what its kernel has of them."""

from __future__ import annotations

from dataclasses import asdict

from romana.ipam.v1 import ipam_service_pb2 as api
from romana.ipam.v1 import sync_routes_pb2, utilization_pb2

from services.common.rpc.kernel_text import RouteInKernel, routes_beside_told
from services.common.rpc.message_json import plain
from services.common.terminal.table import Column
from services.ctl.calls import agents, by_address, options
from services.ctl.calls.session import Session
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.verbs.node_rules import show_kernel
from services.ctl.views.output import Format, Output

EXAMPLES = """
    romana node routes n1
    romana node routes n1 --kernel
    romana node routes n1 -o json
"""
COLUMNS: tuple[Column[utilization_pb2.Route], ...] = (
    Column("NETWORK", lambda item: item.network),
    Column("PREFIX", lambda item: item.prefix),
    Column("NODE", lambda item: item.node),
    Column("NEXT HOP", lambda item: item.next_hop or "-"),
)
IN_KERNEL: tuple[Column[RouteInKernel], ...] = (
    Column("NETWORK", lambda item: item.route.network),
    Column("PREFIX", lambda item: item.route.prefix),
    Column("NODE", lambda item: item.route.node),
    Column("NEXT HOP", lambda item: item.route.next_hop or "-"),
    Column("KERNEL", lambda item: item.kernel or "-"),
    Column("INTERFACE", lambda item: item.interface or "-"),
)


async def routes(
    session: Session, name: options.NodeArgument, kernel: options.KernelOption = False
) -> ExitCode:
    """Shows the routes to other nodes that a node is told, and whether its agent has applied them.

    With --kernel its agent is asked what its kernel has of them; exit code 1: something else.
    """
    ipam = session.ipam
    name = await by_address.node_name(session, name)
    told = await ipam.read(ipam.stub.GetNodeRoutes, api.GetNodeRoutesRequest(node=name))
    known = await ipam.read(
        ipam.stub.GetSyncStatus, sync_routes_pb2.GetSyncStatusRequest(nodes=[name])
    )
    applied = next(iter(known.statuses), None)
    out = session.out
    answer = found = None
    if kernel:
        answer = await ipam.once(ipam.stub.GetKernelRoutes, api.GetKernelRoutesRequest(node=name))
        found = routes_beside_told(told, answer)
    if out.for_programs:
        out.value(
            {
                "node": name,
                "routes": [plain(each) for each in told.remote],
                "agent": plain(applied) if applied else None,
                **({"kernel": plain(answer)} if answer else {}),
                **({"differences": [asdict(one) for one in found.differences]} if found else {}),
            }
        )
    elif out.form is Format.NAME:
        for route in told.remote:
            out.line(route.prefix)
    elif found is not None:
        show_kernel(out, found, IN_KERNEL)
    else:
        _show(out, told, applied)
    return ExitCode.OK if found is None or found.agrees else ExitCode.NEGATIVE


def _show(
    out: Output,
    told: api.GetNodeRoutesResponse,
    applied: sync_routes_pb2.NodeSyncStatus | None,
) -> None:
    out.line(_state(applied))
    out.line()
    if applied is not None and applied.failures:
        out.screen.table(applied.failures, agents.FAILURES, wide=out.wide)
        out.line()
    if told.remote:
        out.screen.table(told.remote, COLUMNS, wide=out.wide)
    else:
        out.line("No prefix is on another node.")


def _state(applied: sync_routes_pb2.NodeSyncStatus | None) -> str:
    if applied is None:
        return "Its agent has not been seen."
    if not applied.connected:
        return "Its agent has no stream: it goes by what it was told last."
    if applied.failures:
        return "Its agent has applied what follows, but for:"
    if applied.applied.revision < applied.sent.revision:
        return "Its agent has not applied all of this yet."
    return "Its agent has applied all of this."
