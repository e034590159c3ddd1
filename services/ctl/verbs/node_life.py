"""The end of a node: what is still there, and how it is removed."""

from __future__ import annotations

from typing import Annotated

import typer
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.topology.v1 import topology_service_pb2 as api

from services.common.terminal.plural import count
from services.ctl.calls import agents, options
from services.ctl.calls.session import Session
from services.ctl.failures.failure import Failure, usage
from services.ctl.views import node_view
from services.ctl.views.output import Format, plain

NODE_NOT_FOUND = "NODE_NOT_FOUND"
"""ErrorInfo.reason."""
NOTHING_DELETED = api.DeleteNodeResponse()

REMOVE_EXAMPLES = """
    romana node remove n1
    romana node remove n1 --force                   addresses are in use on it, its agent is gone
    romana node remove n1 --force --machine-is-off  they are released at once
    romana node remove n1 --ignore-not-found
"""


async def remove(
    session: Session,
    name: options.NodeArgument,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Although addresses are in use on it: they are released when its agent has let go "
            "of them, or after ipam's release_fence.",
        ),
    ] = False,
    machine_is_off: Annotated[
        bool,
        typer.Option(
            "--machine-is-off",
            help="With --force: it is off, or cut off, for good: release its addresses at once.",
        ),
    ] = False,
    ignore_not_found: options.IgnoreNotFoundOption = False,
) -> None:
    """Removes a node. Its agent does not register it again by itself.

    With --force it is refused while the node's agent has a stream to ipam: what runs there would
    lose its addresses to others.
    """
    # The API takes a node that has gone for removed, for those who try again after a lost answer.
    # A person who names one that never was has most likely mistyped it.
    if machine_is_off and not force:
        raise usage("--machine-is-off goes with --force")
    topology = session.topology
    try:
        await topology.read(topology.stub.GetNode, api.GetNodeRequest(name=name))
    except Failure as error:
        if error.reason != NODE_NOT_FOUND:
            raise
        there = await held(session, name) if force else None
        if there is None or not there.blocks:
            if not ignore_not_found:
                raise
            _show_removed(session, name, None)
            return
    if force:
        await _refuse_connected(session, name)
        session.confirm(await _question(session, name))
    answer = await topology.once(
        topology.stub.DeleteNode,
        api.DeleteNodeRequest(
            name=name, force=force, machine_is_off=machine_is_off, request_id=session.request_id
        ),
    )
    _show_removed(session, name, answer, at_once=machine_is_off)


async def held(session: Session, name: str) -> node_view.Held | None:
    """What ipam knows of a node, unless it is away."""
    ipam = session.ipam
    try:
        blocks = await ipam.every(
            ipam.stub.ListBlocks,
            ipam_api.ListBlocksRequest(node=name),
            lambda page: page.blocks,
        )
        routes = await ipam.once(ipam.stub.GetNodeRoutes, ipam_api.GetNodeRoutesRequest(node=name))
    except Failure as error:
        session.note(f"What it holds is not known: {error.message}")
        return None
    return node_view.Held(blocks.items, routes)


async def _refuse_connected(session: Session, name: str) -> None:
    """Raises Failure while the node's agent is there; what is not known stands in nobody's way."""
    known = await agents.statuses(session, [name])
    if known is None or not any(each.connected for each in known.statuses):
        return
    raise Failure(
        f"the agent of {name} has a stream to ipam: what runs there would lose its addresses to "
        "others",
        status="FAILED_PRECONDITION",
        reason="NODE_CONNECTED",
        metadata={"node": name},
        hint=f"move away what runs there (`romana address list --node {name}`) and remove the node "
        "without --force; or stop its agent first",
    )


async def _question(session: Session, name: str) -> str:
    there = await held(session, name)
    if there is None:
        return f"Remove {name} and release all its addresses?"
    used = sum(block.used for block in there.blocks)
    return f"Remove {name} and release {count(used, 'address')} in use on it?"


def _show_removed(
    session: Session, name: str, answer: api.DeleteNodeResponse | None, *, at_once: bool = False
) -> None:
    """Without an answer there was nothing to remove."""
    if session.out.for_programs:
        session.out.value(
            {"name": name, "existed": answer is not None, **plain(answer or NOTHING_DELETED)}
        )
        return
    if answer is None:
        session.note(f"There is no node {name}: nothing was removed")
        return
    if session.out.form is Format.NAME:
        session.out.line(name)
    if not answer.released_addresses:
        session.note(f"{name} is removed")
        return
    released = count(answer.released_addresses, "address")
    session.note(
        f"{name} is removed; {released} are being released"
        if at_once
        else f"{name} is removed; {released} will be released when its agent has let go of them, "
        "or after ipam's release_fence: `romana ipam status` says when"
    )
