"""The end of a node: what is still there, and how it is deleted."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer
from romana.ipam.v1 import allocation_pb2
from romana.ipam.v1 import ipam_service_pb2 as ipam_api
from romana.topology.v1 import topology_service_pb2 as api

from services.common.rpc.message_json import plain
from services.common.terminal.plural import count
from services.common.terminal.table import Column
from services.ctl.calls import by_address, options
from services.ctl.calls.session import Session
from services.ctl.failures.exit_codes import ExitCode
from services.ctl.failures.failure import Failure, usage
from services.ctl.views import enum_text, node_view
from services.ctl.views.output import Format

PAUSE: Final = 1.0
"""Seconds between two looks at what is still there."""
LEFT: tuple[Column[allocation_pb2.Allocation], ...] = (
    Column("NAME", lambda item: item.name),
    Column("ADDRESS", lambda item: item.address),
    Column("OWNER", lambda item: enum_text.owner(item.tenant, item.segment)),
    Column("NETWORK", lambda item: item.network),
)
NODE_NOT_FOUND = "NODE_NOT_FOUND"
"""ErrorInfo.reason."""
NOTHING_DELETED = api.DeleteNodeResponse()

CORDON_EXAMPLES = "romana node cordon n1"
UNCORDON_EXAMPLES = "romana node uncordon n1"
DRAIN_EXAMPLES = """
    romana node drain n1                 cordon it, and show what is still there
    romana node drain n1 --wait 600      and wait until nothing is
"""
DELETE_EXAMPLES = """
    romana node delete n1
    romana node delete n1 --force                   addresses are in use on it, its agent is gone
    romana node delete n1 --force --machine-is-off  they are released at once
    romana node delete n1 --ignore-not-found
"""


async def cordon(session: Session, name: options.NodeArgument) -> None:
    """Stops new addresses on a node; what is in use stays. Schedulers see it."""
    name = await by_address.node_name(session, name)
    await _set_cordoned(session, name, cordoned=True)
    _say(session, name, f"{name} is cordoned: it gives no new addresses")


async def uncordon(session: Session, name: options.NodeArgument) -> None:
    """Allows new addresses on a node again."""
    name = await by_address.node_name(session, name)
    await _set_cordoned(session, name, cordoned=False)
    _say(session, name, f"{name} is not cordoned")


async def drain(
    session: Session,
    name: options.NodeArgument,
    wait: Annotated[
        float,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            help="Wait until nothing is in use, at most this long; 0: do not wait.",
        ),
    ] = 0,
) -> ExitCode:
    """Cordons a node and shows what is still there. Exit code 1: something is.

    Romana moves nothing: whoever put endpoints there has to take them away.
    """
    name = await by_address.node_name(session, name)
    await _set_cordoned(session, name, cordoned=True)
    loop = asyncio.get_running_loop()
    end = loop.time() + wait
    ipam = session.ipam
    noted = -1
    while True:
        there = await ipam.every(
            ipam.stub.ListAddresses,
            ipam_api.ListAddressesRequest(node=name),
            lambda page: page.allocations,
        )
        left = len(there.items)
        if not left or loop.time() >= end:
            break
        if left != noted:
            session.note(f"{count(left, 'address')} still in use on {name}")
            noted = left
        await asyncio.sleep(min(PAUSE, max(end - loop.time(), 0)))
    session.listing(
        there,
        LEFT,
        name=lambda item: item.name,
        empty=f"nothing is in use on {name} any more: romana node delete {name}",
    )
    return ExitCode.NEGATIVE if left else ExitCode.OK


async def delete(
    session: Session,
    name: options.NodeArgument,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Even if addresses are in use: they are released when its agent has let go "
            "of them, or after ipam's release_fence.",
        ),
    ] = False,
    machine_is_off: Annotated[
        bool,
        typer.Option(
            "--machine-is-off",
            help="With --force: the machine is off for good; release its addresses at once.",
        ),
    ] = False,
    ignore_not_found: options.IgnoreNotFoundOption = False,
) -> None:
    """Deletes a node. Its agent does not register it again by itself.

    With --force it is refused while the node's agent has a stream to ipam, if addresses are in use
    there: what runs there would lose them to others.
    """
    # The API takes a node that has gone for deleted, for those who try again after a lost answer.
    # A person who names one that never was has most likely mistyped it.
    if machine_is_off and not force:
        raise usage("--machine-is-off goes with --force")
    topology = session.topology
    try:
        name = await by_address.node_name(session, name)
        await topology.read(topology.stub.GetNode, api.GetNodeRequest(name=name))
    except Failure as error:
        if error.reason != NODE_NOT_FOUND:
            raise
        there = await held(session, name) if force else None
        if there is None or not there.blocks:
            if not ignore_not_found:
                raise
            _show_deleted(session, name, None)
            return
    if force:
        session.confirm(await _question(session, name))
    answer = await topology.once(
        topology.stub.DeleteNode,
        api.DeleteNodeRequest(
            name=name, force=force, machine_is_off=machine_is_off, request_id=session.request_id
        ),
    )
    _show_deleted(session, name, answer, at_once=machine_is_off)


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


async def _set_cordoned(session: Session, name: str, *, cordoned: bool) -> None:
    topology = session.topology
    node = (await topology.read(topology.stub.GetNode, api.GetNodeRequest(name=name))).node
    if node.cordoned == cordoned:
        return
    node.cordoned = cordoned
    await topology.once(
        topology.stub.UpdateNode,
        api.UpdateNodeRequest(node=node, request_id=session.request_id),
    )


def _say(session: Session, name: str, text: str) -> None:
    if session.out.for_programs:
        session.out.value({"name": name})
    elif session.out.form is Format.NAME:
        session.out.line(name)
    else:
        session.note(text)


async def _question(session: Session, name: str) -> str:
    there = await held(session, name)
    if there is None:
        return f"Delete {name} and release all its addresses?"
    used = sum(block.used for block in there.blocks)
    return f"Delete {name} and release {count(used, 'address')} in use on it?"


def _show_deleted(
    session: Session, name: str, answer: api.DeleteNodeResponse | None, *, at_once: bool = False
) -> None:
    """Without an answer there was nothing to delete."""
    if session.out.for_programs:
        session.out.value(
            {"name": name, "existed": answer is not None, **plain(answer or NOTHING_DELETED)}
        )
        return
    if answer is None:
        session.note(f"There is no node {name}: nothing was deleted")
        return
    if session.out.form is Format.NAME:
        session.out.line(name)
    if not answer.released_addresses:
        session.note(f"{name} is deleted")
        return
    released = count(answer.released_addresses, "address")
    session.note(
        f"{name} is deleted; {released} being released"
        if at_once
        else f"{name} is deleted; {released} to be released when its agent has let go of them, "
        "or after ipam's release_fence: `romana ipam status` says when"
    )
