"""What agents have applied: for people, and to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Final

import typer
from romana.ipam.v1 import sync_routes_pb2 as api
from romana.sync.v1 import sync_pb2
from romana.topology.v1 import node_pb2

from services.common.terminal.plural import count
from services.common.terminal.table import Column, fields
from services.ctl.calls.session import Session
from services.ctl.failures.failure import Failure
from services.ctl.views import enum_text
from services.ctl.views.output import Output

WaitOption = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="Wait until all connected agents have applied it, at most so long; 0: do not.",
    ),
]
PAUSE: Final = 0.2
"""Seconds between two questions."""
NAMED_MOST: Final = 10
"""Nodes that a message names."""

FAILURES: tuple[Column[sync_pb2.Failure], ...] = (
    Column("NOT APPLIED", lambda item: item.resource),
    Column("WHY", lambda item: item.reason),
    Column("DETAIL", lambda item: item.message),
)


async def statuses(session: Session, nodes: Sequence[str] = ()) -> api.GetSyncStatusResponse | None:
    """What is known of nodes' agents, unless ipam is away."""
    ipam = session.ipam
    try:
        return await ipam.once(ipam.stub.GetSyncStatus, api.GetSyncStatusRequest(nodes=nodes))
    except Failure as error:
        session.note(f"What agents have applied is not known: {error.message}")
        return None


async def wait(session: Session, seconds: float) -> None:
    """Waits until all connected agents have applied what is in the store now; 0: does nothing.

    Raises Failure that says who has not.
    """
    if not seconds:
        return
    ipam = session.ipam
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    target = 0
    while True:
        answer = await ipam.read(ipam.stub.GetSyncStatus, api.GetSyncStatusRequest())
        target = target or answer.current.revision
        late = missing(answer.statuses, target)
        connected = sum(item.connected for item in answer.statuses)
        if not late:
            agents = count(connected, "agent")
            session.note(f"Applied by {agents}" if connected else "No agent is connected")
            return
        if loop.time() >= end:
            raise Failure(
                f"it is done, but {len(late)} of {count(connected, 'agent')} had not "
                f"applied it within {seconds:g} s: {named(late)}",
                status="DEADLINE_EXCEEDED",
                reason="NOT_APPLIED",
                hint="`romana node show NAME` says what an agent lacks",
            )
        await asyncio.sleep(min(PAUSE, max(end - loop.time(), 0)))


def missing(found: Collection[api.NodeSyncStatus], target: int) -> list[str]:
    """Nodes with an agent that has not applied everything up to a revision."""
    return [
        item.node
        for item in found
        if item.connected and (item.applied.revision < target or item.failures)
    ]


def in_short(status: api.NodeSyncStatus | None, current: int) -> str:
    """A node's agent in a word or two."""
    if status is None:
        return "never seen"
    if not status.connected:
        return "gone"
    if status.failures:
        return f"failing ({len(status.failures)})"
    return "in sync" if status.applied.revision >= current else "behind"


def column(answer: api.GetSyncStatusResponse) -> Column[node_pb2.Node]:
    """A column that says how each node's agent is."""
    known: Mapping[str, api.NodeSyncStatus] = {item.node: item for item in answer.statuses}
    current = answer.current.revision
    return Column("AGENT", lambda item: in_short(known.get(item.name), current), wide=True)


def show(out: Output, answer: api.GetSyncStatusResponse) -> None:
    """Prints what is known of one node's agent."""
    status = next(iter(answer.statuses), None)
    current = answer.current.revision
    out.line()
    if status is None:
        out.line("Its agent has not been seen.")
        return
    out.sheet(
        fields(
            [
                ("Agent", in_short(status, current)),
                ("Version", status.agent_version),
                ("Replica", status.replica),
                ("Applied", f"revision {status.applied.revision} of {current}"),
                ("Last heard", enum_text.moment(status.update_time)),
            ]
        )
    )
    if status.failures:
        out.line()
        out.screen.table(status.failures, FAILURES, wide=out.wide)


def named(nodes: Sequence[str]) -> str:
    """The first few of many."""
    shown = ", ".join(nodes[:NAMED_MOST])
    return f"{shown} and {len(nodes) - NAMED_MOST} more" if len(nodes) > NAMED_MOST else shown
