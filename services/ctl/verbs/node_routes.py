"""The routes that a node is told, what its agent has applied, and what its kernel has of them."""

from __future__ import annotations

from romana.ipam.v1 import ipam_service_pb2 as api
from romana.ipam.v1 import sync_routes_pb2, utilization_pb2

from services.common.rpc.kernel_text import RouteInKernel, routes_beside_told
from services.common.terminal.table import Column
from services.ctl.calls import by_address, options
from services.ctl.calls.session import Session
from services.ctl.calls.told import beside, document, show_kernel, show_told
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.views.output import Format

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
    *beside(COLUMNS, lambda item: item.route),
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
        out.value(document(name, {"routes": told.remote}, applied, answer, found))
    elif out.form is Format.NAME:
        for route in told.remote:
            out.line(route.prefix)
    elif found is not None:
        show_kernel(out, found, IN_KERNEL)
    else:
        show_told(
            out,
            told.remote,
            COLUMNS,
            applied,
            is_current=applied is not None and applied.applied.revision >= applied.sent.revision,
            does="goes by",
            empty="No prefix is on another node.",
        )
    return ExitCode.OK if found is None or found.agrees else ExitCode.NEGATIVE
